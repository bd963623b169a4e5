// SPDX-License-Identifier: Apache-2.0
//! Service CIDRs.

use std::sync::Arc;

use ipnet::IpNet;

/// Where the cluster takes its cluster IPs from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServiceCidr {
    /// Its name.
    pub name: Arc<str>,
    /// Its ranges, with zeros behind their prefixes.
    pub cidrs: Vec<IpNet>,
}
