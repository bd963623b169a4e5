// SPDX-License-Identifier: Apache-2.0
//! Nodes.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

/// A Node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Node {
    /// Its name.
    pub name: Arc<str>,
    /// Its zone (label `topology.kubernetes.io/zone`), if it says so and not with an empty text.
    pub zone: Option<Arc<str>>,
    /// `status.addresses`, of those which are addresses and not names.
    pub addresses: BTreeSet<IpAddr>,
}
