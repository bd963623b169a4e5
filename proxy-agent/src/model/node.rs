// SPDX-License-Identifier: Apache-2.0
//! Nodes.

use std::{net::IpAddr, sync::Arc};

use ipnet::IpNet;
use proxy_common::{Family, family::Address as _};

/// A Node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Node {
    /// Its name.
    pub name: Arc<str>,
    /// Its zone (label `topology.kubernetes.io/zone`), if it says so and not with an empty text.
    pub zone: Option<Arc<str>>,
    /// `status.addresses`: those of the type `InternalIP`, then those of the type `ExternalIP`, each
    /// in the order in which they are written.
    pub addresses: Vec<IpAddr>,
    /// `spec.podCIDRs`, in the order in which they are written, with zeros behind their prefixes.
    pub pod_cidrs: Vec<IpNet>,
    /// Whether it is being deleted, or the cluster's autoscaler has said that it will be (the taint
    /// `ToBeDeletedByClusterAutoscaler`): load balancers are to send it no more clients (KEP-3836).
    pub is_leaving: bool,
}

impl Node {
    /// Its own address in a family: the first (kube-proxy's `GetNodeHostIPs`, Kubernetes 1.36).
    #[must_use]
    pub fn primary_address<F: Family>(&self) -> Option<F::Addr> {
        first_of::<F>(&self.addresses)
    }
}

/// The first address of a family.
#[must_use]
pub fn first_of<F: Family>(addresses: &[IpAddr]) -> Option<F::Addr> {
    addresses.iter().find_map(|address| F::Addr::from_ip(*address))
}
