// SPDX-License-Identifier: Apache-2.0
//! Which objects are asked for, and how.

use super::version::Version;
use crate::{model::Kind, watch::api::Resource};

/// How many objects are asked for at a time.
const PAGE: u32 = 500;

/// Which objects of a kind are asked for: those that kube-proxy asks for.
#[derive(Clone, Debug)]
pub(super) struct Selection {
    path: String,
    selectors: String,
}

/// How recent a list must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    /// As recent as the cluster's store.
    Latest,
    /// No older than this version.
    NotOlderThan(Version),
}

impl Selection {
    /// The objects of this kind that concern this node.
    pub(super) fn new<K: Resource>(node: &str) -> Self {
        let root = if K::API_VERSION.contains('/') { "apis" } else { "api" };
        let path = format!("/{root}/{}/{}", K::API_VERSION, K::PLURAL);
        let field_of_node = format!("metadata.name={node}");
        let selectors: &[(&str, &str)] = match K::KIND {
            Kind::Service => &[
                ("labelSelector", "!service.kubernetes.io/service-proxy-name"),
                ("fieldSelector", "spec.clusterIP!=None"),
            ],
            Kind::EndpointSlice => &[("labelSelector", "!service.kubernetes.io/headless")],
            Kind::Node => &[("fieldSelector", &field_of_node)],
            Kind::ServiceCidr => &[],
        };
        Self { path, selectors: encode(selectors) }
    }

    /// A request for a page of a list: the first, or the one after it that `next` names.
    pub(super) fn page(&self, ask: &Ask, next: Option<&str>) -> String {
        let limit = PAGE.to_string();
        match next {
            Some(next) => self.request(&[("limit", &limit), ("continue", next)]),
            None => match ask {
                Ask::Latest => self.request(&[("limit", &limit)]),
                Ask::NotOlderThan(version) => self.request(&[
                    ("limit", &limit),
                    ("resourceVersion", version.as_str()),
                    ("resourceVersionMatch", "NotOlderThan"),
                ]),
            },
        }
    }

    /// A request for a list in one piece.
    pub(super) fn whole(&self, ask: &Ask) -> String {
        match ask {
            Ask::Latest => self.request(&[]),
            Ask::NotOlderThan(version) => self.request(&[
                ("resourceVersion", version.as_str()),
                ("resourceVersionMatch", "NotOlderThan"),
            ]),
        }
    }

    /// A request for a list as a stream, which goes on with what changes.
    pub(super) fn stream(&self, ask: &Ask, seconds: u64) -> String {
        let version = match ask {
            Ask::Latest => "",
            Ask::NotOlderThan(version) => version.as_str(),
        };
        self.request(&[
            ("watch", "true"),
            ("allowWatchBookmarks", "true"),
            ("sendInitialEvents", "true"),
            ("resourceVersionMatch", "NotOlderThan"),
            ("resourceVersion", version),
            ("timeoutSeconds", &seconds.to_string()),
        ])
    }

    /// A request for what has changed since a version, and what changes.
    pub(super) fn watch(&self, since: &Version, seconds: u64) -> String {
        self.request(&[
            ("watch", "true"),
            ("allowWatchBookmarks", "true"),
            ("resourceVersion", since.as_str()),
            ("timeoutSeconds", &seconds.to_string()),
        ])
    }

    fn request(&self, parameters: &[(&str, &str)]) -> String {
        let mut query = self.selectors.clone();
        if !query.is_empty() && !parameters.is_empty() {
            query.push('&');
        }
        query.push_str(&encode(parameters));
        if query.is_empty() { self.path.clone() } else { format!("{}?{query}", self.path) }
    }
}

fn encode(parameters: &[(&str, &str)]) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::api::{EndpointSlice, Node, Service, ServiceCidr};

    #[test]
    fn what_kube_proxy_asks_for_is_asked_for() {
        let latest = Ask::Latest;
        assert_eq!(
            Selection::new::<Service>("n").whole(&latest),
            "/api/v1/services?labelSelector=%21service.kubernetes.io%2Fservice-proxy-name\
             &fieldSelector=spec.clusterIP%21%3DNone"
        );
        assert_eq!(
            Selection::new::<EndpointSlice>("n").whole(&latest),
            "/apis/discovery.k8s.io/v1/endpointslices\
             ?labelSelector=%21service.kubernetes.io%2Fheadless"
        );
        assert_eq!(
            Selection::new::<Node>("n-1").whole(&latest),
            "/api/v1/nodes?fieldSelector=metadata.name%3Dn-1"
        );
        let cidrs = Selection::new::<ServiceCidr>("n");
        assert_eq!(cidrs.whole(&latest), "/apis/networking.k8s.io/v1/servicecidrs");
        let since = Version::new(Some("7")).unwrap();
        assert_eq!(
            cidrs.page(&Ask::NotOlderThan(since.clone()), None),
            "/apis/networking.k8s.io/v1/servicecidrs\
             ?limit=500&resourceVersion=7&resourceVersionMatch=NotOlderThan"
        );
        assert_eq!(
            cidrs.page(&Ask::NotOlderThan(since.clone()), Some("a+b=")),
            "/apis/networking.k8s.io/v1/servicecidrs?limit=500&continue=a%2Bb%3D"
        );
        assert_eq!(
            cidrs.watch(&since, 300),
            "/apis/networking.k8s.io/v1/servicecidrs\
             ?watch=true&allowWatchBookmarks=true&resourceVersion=7&timeoutSeconds=300"
        );
    }
}
