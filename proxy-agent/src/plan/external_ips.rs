// SPDX-License-Identifier: Apache-2.0
//! Which external IPs Services may have. Whoever may write a Service may give it any, and would get
//! what others send there (CVE-2020-8554).

use std::net::IpAddr;

use ipnet::IpNet;

/// Which external IPs are served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExternalIps {
    /// None (kube-proxy's feature gate `AllowServiceExternalIPs`, switched off).
    Refused,
    /// Those within these ranges; all of them if there is no range.
    Within(Vec<IpNet>),
}

impl Default for ExternalIps {
    fn default() -> Self {
        Self::Within(Vec::new())
    }
}

impl ExternalIps {
    /// Whether this one is served.
    #[must_use]
    pub fn admit(&self, ip: IpAddr) -> bool {
        match self {
            Self::Refused => false,
            Self::Within(ranges) => {
                ranges.is_empty() || ranges.iter().any(|range| range.contains(&ip))
            }
        }
    }
}
