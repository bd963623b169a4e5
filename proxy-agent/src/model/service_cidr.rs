// SPDX-License-Identifier: Apache-2.0
//! Service CIDRs.

use std::{net::IpAddr, sync::Arc};

/// Where the cluster takes its cluster IPs from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceCidr {
    /// Its name.
    pub name: Arc<str>,
    /// Its ranges: an address in it, and the length of the prefix that they share, in bits.
    pub cidrs: Vec<(IpAddr, u8)>,
}
