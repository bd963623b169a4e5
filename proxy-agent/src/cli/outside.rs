// SPDX-License-Identifier: Apache-2.0
//! What is said about what the outside reaches, beside what kube-proxy's configuration says.

use clap::Args;
use ipnet::IpNet;

use crate::plan::ExternalIps;

/// What the outside reaches.
#[derive(Args, Clone, Debug, Default)]
pub struct OutsideArgs {
    /// Serve external IPs of Services within these ranges only. Without this all are served (may be
    /// repeated).
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    pub external_ip_cidrs: Vec<IpNet>,
}

impl OutsideArgs {
    /// Which external IPs are served, where they are at all.
    #[must_use]
    pub fn external_ips(&self, are_served: bool) -> ExternalIps {
        if are_served {
            ExternalIps::Within(self.external_ip_cidrs.clone())
        } else {
            ExternalIps::Refused
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};

    #[test]
    fn external_ips_are_within_ranges_or_refused() {
        let parse = |flags: &[&str]| {
            let arguments = ["sixfour", "run", "--manifests=/"].iter().chain(flags);
            let Command::Run(run) = Cli::parse_from(arguments).command else { panic!() };
            run.outside
        };
        assert_eq!(parse(&[]).external_ips(true), ExternalIps::default());
        let within = parse(&["--external-ip-cidrs=10.0.0.0/8,fd00::/8"]);
        let ranges = ["10.0.0.0/8", "fd00::/8"].map(|range| range.parse().unwrap());
        assert_eq!(within.external_ips(true), ExternalIps::Within(ranges.to_vec()));
        assert_eq!(within.external_ips(false), ExternalIps::Refused);
    }
}
