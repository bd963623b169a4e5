// SPDX-License-Identifier: Apache-2.0

//! The kinds that are served.

use serde_json::Value;

/// A kind of objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Services.
    Service,
    /// EndpointSlices.
    EndpointSlice,
    /// Nodes.
    Node,
    /// Service CIDRs.
    ServiceCidr,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Service, Self::EndpointSlice, Self::Node, Self::ServiceCidr];

    /// What the API calls it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Service => "Service",
            Self::EndpointSlice => "EndpointSlice",
            Self::Node => "Node",
            Self::ServiceCidr => "ServiceCIDR",
        }
    }

    /// Its `apiVersion`.
    #[must_use]
    pub const fn api_version(self) -> &'static str {
        match self {
            Self::Service | Self::Node => "v1",
            Self::EndpointSlice => "discovery.k8s.io/v1",
            Self::ServiceCidr => "networking.k8s.io/v1",
        }
    }

    /// What its objects are called in paths.
    #[must_use]
    pub const fn plural(self) -> &'static str {
        match self {
            Self::Service => "services",
            Self::EndpointSlice => "endpointslices",
            Self::Node => "nodes",
            Self::ServiceCidr => "servicecidrs",
        }
    }

    /// Where all its objects are.
    #[must_use]
    pub fn path(self) -> String {
        let root = if self.api_version().contains('/') { "apis" } else { "api" };
        format!("/{root}/{}/{}", self.api_version(), self.plural())
    }

    /// Where the objects of a namespace are; none for kinds without namespaces.
    #[must_use]
    pub fn path_in(self, namespace: &str) -> String {
        let path = self.path();
        match (self, path.rsplit_once('/')) {
            (Self::Service | Self::EndpointSlice, Some((root, plural))) => {
                format!("{root}/namespaces/{namespace}/{plural}")
            }
            _ => path,
        }
    }

    /// The kind that a path of all its objects is of.
    #[must_use]
    pub fn of_path(path: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.path() == path)
    }

    /// The fields that selectors may name.
    #[must_use]
    pub const fn selectable(self) -> &'static [&'static str] {
        match self {
            Self::Service => {
                &["metadata.name", "metadata.namespace", "spec.clusterIP", "spec.type"]
            }
            Self::Node => &["metadata.name", "spec.unschedulable"],
            Self::EndpointSlice | Self::ServiceCidr => &["metadata.name", "metadata.namespace"],
        }
    }

    /// The kind of an object that says what it is.
    #[must_use]
    pub fn of(object: &Value) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| object["kind"] == kind.name())
    }
}

/// The namespace and the name of an object.
#[must_use]
pub fn name_of(object: &Value) -> (String, String) {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
    (text("namespace"), text("name"))
}
