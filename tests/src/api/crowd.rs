// SPDX-License-Identifier: Apache-2.0

//! As many dual-stack Services as one likes, with EndpointSlices, as a real API server has them: what
//! was applied, who manages which field, owners, and names as controllers make them.
//!
//! Endpoints are on either of two *sides*, each a range of addresses, so that whoever answers for one
//! of these tells which state of a slice a client has met.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde_json::{Value, json};

use crate::family::IpFamily;
use crate::netns::Prefix;

/// The port of all Services.
pub const PORT: u16 = 80;
/// The port of all endpoints.
pub const TARGET: u16 = 8080;

/// How many pods there are at most, on each side: Kubernetes supports 150,000 in a cluster. Where
/// there are more endpoints, Services share pods.
const PODS: u32 = 150_000;
/// How many nodes the pods are on.
const NODES: u32 = 1000;
/// The namespace of all Services.
pub const NAMESPACE: &str = "shop";
const CREATED: &str = "2026-11-20T23:19:38Z";

/// Where the endpoints of a slice are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Where all are at first.
    First,
    /// Where some are sent.
    Second,
}

impl Side {
    /// Both.
    pub const ALL: [Self; 2] = [Self::First, Self::Second];

    /// The other one.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::First => Self::Second,
            Self::Second => Self::First,
        }
    }

    /// The range of its addresses.
    #[must_use]
    pub const fn prefix(self, family: IpFamily) -> Prefix {
        let (v4, v6) = match self {
            Self::First => (128, 0x128),
            Self::Second => (144, 0x144),
        };
        match family {
            IpFamily::V4 => Prefix(IpAddr::V4(Ipv4Addr::new(10, v4, 0, 0)), 12),
            IpFamily::V6 => Prefix(IpAddr::V6(Ipv6Addr::new(0xfd00, 0x10, v6, 0, 0, 0, 0, 0)), 108),
        }
    }
}

/// So many Services, each with so many endpoints in each family. They are numbered from zero.
#[derive(Clone, Copy, Debug)]
pub struct Crowd {
    /// How many Services there are.
    pub services: u32,
    /// How many endpoints each of them has in each family.
    pub endpoints: u32,
}

impl Crowd {
    /// All objects: each Service after its slices, then the ranges of cluster IPs.
    pub fn objects(self) -> impl Iterator<Item = Value> {
        let all = (0..self.services).flat_map(move |number| {
            let slices = IpFamily::ALL.map(|family| self.slice(number, family, Side::First));
            slices.into_iter().chain([Self::service(number)])
        });
        all.chain([service_cidr()])
    }

    /// The cluster IP of a Service.
    #[must_use]
    pub fn cluster_ip(number: u32, family: IpFamily) -> IpAddr {
        nth(service_range(family), 256 + number)
    }

    /// A Service as it was applied.
    #[must_use]
    pub fn service(number: u32) -> Value {
        let name = name(number);
        let ips = IpFamily::ALL.map(|family| Self::cluster_ip(number, family));
        let applied = json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": { "annotations": {}, "labels": labels(&name), "name": name,
                          "namespace": NAMESPACE },
            "spec": {
                "ipFamilyPolicy": "RequireDualStack",
                "ports": [{ "name": "http", "port": PORT, "targetPort": TARGET }],
                "selector": { "app.kubernetes.io/name": name },
            },
        });
        let annotation = "kubectl.kubernetes.io/last-applied-configuration";
        json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {
                "name": name, "namespace": NAMESPACE, "uid": uid(number, 0),
                "creationTimestamp": CREATED, "labels": labels(&name),
                "annotations": { annotation: format!("{applied}\n") },
                "managedFields": [managed("kubectl-client-side-apply", "v1", &json!({
                    "f:metadata": {
                        "f:annotations": { ".": {}, format!("f:{annotation}"): {} },
                        "f:labels": {
                            ".": {}, "f:app.kubernetes.io/instance": {},
                            "f:app.kubernetes.io/managed-by": {}, "f:app.kubernetes.io/name": {},
                            "f:app.kubernetes.io/part-of": {}, "f:app.kubernetes.io/version": {},
                        },
                    },
                    "f:spec": {
                        "f:internalTrafficPolicy": {}, "f:ipFamilyPolicy": {},
                        "f:ports": {
                            ".": {},
                            format!(r#"k:{{"port":{PORT},"protocol":"TCP"}}"#): {
                                ".": {}, "f:name": {}, "f:port": {}, "f:protocol": {},
                                "f:targetPort": {},
                            },
                        },
                        "f:selector": {}, "f:sessionAffinity": {}, "f:type": {},
                    },
                }))],
            },
            "spec": {
                "type": "ClusterIP", "clusterIP": ips[0], "clusterIPs": ips,
                "ipFamilies": IpFamily::ALL.map(IpFamily::name),
                "ipFamilyPolicy": "RequireDualStack", "internalTrafficPolicy": "Cluster",
                "ports": [{ "name": "http", "protocol": "TCP", "port": PORT,
                            "targetPort": TARGET }],
                "selector": { "app.kubernetes.io/name": name }, "sessionAffinity": "None",
            },
            "status": { "loadBalancer": {} },
        })
    }

    /// The slice of a Service in a family, with its endpoints on a side.
    #[must_use]
    pub fn slice(self, number: u32, family: IpFamily, side: Side) -> Value {
        let service = name(number);
        let range = side.prefix(family);
        let first = number * self.endpoints;
        let endpoints = (first..first + self.endpoints).map(|pod| {
            let pod = pod % PODS;
            json!({
                "addresses": [nth(range, 1 + pod)],
                "conditions": { "ready": true, "serving": true, "terminating": false },
                "nodeName": format!("worker-{:04}", pod % NODES),
                "targetRef": {
                    "kind": "Pod", "namespace": NAMESPACE,
                    "name": format!("{service}-7d9f8b6c5d-{:05x}", pod), "uid": uid(pod, 1),
                },
                "zone": format!("zone-{}", pod % 3),
            })
        });
        let owner = uid(number, 0);
        let version = "discovery.k8s.io/v1";
        json!({
            "apiVersion": version, "kind": "EndpointSlice",
            "metadata": {
                "name": format!("{service}-{}", &uid(number, 2 + family as u32)[..5]),
                "generateName": format!("{service}-"), "namespace": NAMESPACE,
                "uid": uid(number, 2 + family as u32), "generation": 3,
                "creationTimestamp": CREATED,
                "labels": {
                    "app.kubernetes.io/name": service, "app.kubernetes.io/part-of": "shop",
                    "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
                    "kubernetes.io/service-name": service,
                },
                "annotations": { "endpoints.kubernetes.io/last-change-trigger-time": CREATED },
                "ownerReferences": [{
                    "apiVersion": "v1", "kind": "Service", "name": service, "uid": owner,
                    "controller": true, "blockOwnerDeletion": true,
                }],
                "managedFields": [managed("kube-controller-manager", version, &json!({
                    "f:addressType": {}, "f:endpoints": {},
                    "f:metadata": {
                        "f:annotations": {
                            ".": {}, "f:endpoints.kubernetes.io/last-change-trigger-time": {},
                        },
                        "f:generateName": {},
                        "f:labels": {
                            ".": {}, "f:app.kubernetes.io/name": {},
                            "f:app.kubernetes.io/part-of": {},
                            "f:endpointslice.kubernetes.io/managed-by": {},
                            "f:kubernetes.io/service-name": {},
                        },
                        "f:ownerReferences": {
                            ".": {}, format!(r#"k:{{"uid":"{owner}"}}"#): {},
                        },
                    },
                    "f:ports": {},
                }))],
            },
            "addressType": family.name(),
            "endpoints": endpoints.collect::<Vec<_>>(),
            "ports": [{ "name": "http", "protocol": "TCP", "port": TARGET }],
        })
    }
}

/// The object of the ranges of cluster IPs.
fn service_cidr() -> Value {
    let ranges = IpFamily::ALL.map(|family| service_range(family).to_string());
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR",
        "metadata": { "name": "kubernetes", "creationTimestamp": CREATED },
        "spec": { "cidrs": ranges },
    })
}

/// The range of a family's cluster IPs, as large as the API allows in IPv6.
#[must_use]
pub const fn service_range(family: IpFamily) -> Prefix {
    match family {
        IpFamily::V4 => Prefix(IpAddr::V4(Ipv4Addr::new(10, 96, 0, 0)), 12),
        IpFamily::V6 => Prefix(IpAddr::V6(Ipv6Addr::new(0xfd00, 0x10, 0x96, 0, 0, 0, 0, 0)), 108),
    }
}

/// The address after so many others of a range.
fn nth(range: Prefix, number: u32) -> IpAddr {
    match range.0 {
        IpAddr::V4(start) => IpAddr::V4(Ipv4Addr::from_bits(start.to_bits() + number)),
        IpAddr::V6(start) => IpAddr::V6(Ipv6Addr::from_bits(start.to_bits() + u128::from(number))),
    }
}

fn name(number: u32) -> String {
    format!("catalogue-{number:06}")
}

fn labels(name: &str) -> Value {
    json!({
        "app.kubernetes.io/name": name, "app.kubernetes.io/instance": format!("{name}-prod"),
        "app.kubernetes.io/part-of": "shop", "app.kubernetes.io/managed-by": "Helm",
        "app.kubernetes.io/version": "4.17.2",
    })
}

fn managed(manager: &str, version: &str, fields: &Value) -> Value {
    json!({
        "manager": manager, "operation": "Update", "apiVersion": version, "time": CREATED,
        "fieldsType": "FieldsV1", "fieldsV1": fields,
    })
}

/// A UID that is the same each time.
fn uid(number: u32, of: u32) -> String {
    // Steele et al., "Fast splittable pseudorandom number generators", 2014: its finalizer.
    let mix = |seed: u64| {
        let seed = (seed ^ seed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let seed = (seed ^ seed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        seed ^ seed >> 31
    };
    let seed = u64::from(of) << 32 | u64::from(number);
    let bits = u128::from(mix(seed + 1)) << 64 | u128::from(mix(!seed));
    let hex = format!("{bits:032x}");
    let parts = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
    parts.join("-")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn objects_have_names_and_addresses_of_their_own() {
        let crowd = Crowd { services: 300, endpoints: 10 };
        let objects: Vec<_> = crowd.objects().collect();
        assert_eq!(objects.len(), 3 * 300 + 1);
        let named = |field: &str| -> BTreeSet<_> {
            objects.iter().map(|object| object["metadata"][field].to_string()).collect()
        };
        assert_eq!(named("uid").len(), 3 * 300 + 1, "the last one has none");
        assert_eq!(named("name").len(), 3 * 300 + 1);
        let addresses: BTreeSet<_> = objects
            .iter()
            .flat_map(|object| object["endpoints"].as_array().into_iter().flatten())
            .map(|endpoint| endpoint["addresses"][0].to_string())
            .collect();
        assert_eq!(addresses.len(), 2 * 10 * 300);
        assert_eq!(Crowd::cluster_ip(99_999, IpFamily::V4).to_string(), "10.97.135.159");
        assert_eq!(Crowd::cluster_ip(99_999, IpFamily::V6).to_string(), "fd00:10:96::1:879f");
    }
}
