// SPDX-License-Identifier: Apache-2.0
//! What is said about what the outside reaches; as kube-proxy is told, where it has the same flags.

use std::str::FromStr;

use clap::Args;
use ipnet::IpNet;

use crate::plan::{ExternalIps, NodePortAddresses};

/// What the outside reaches.
#[derive(Args, Clone, Debug, Default)]
pub struct OutsideArgs {
    /// Serve node ports at the addresses of the host within these ranges, and at all of a family of
    /// which no range is named; or, with the one word `primary`, at the address of each family that
    /// its Node object has first (may be repeated).
    #[arg(long, value_name = "CIDR", value_delimiter = ',', default_value = "primary")]
    pub nodeport_addresses: Vec<ServedAddresses>,

    /// Serve external IPs of Services within these ranges only. Without this all are served (may be
    /// repeated).
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    pub external_ip_cidrs: Vec<IpNet>,

    /// Switch features on or off. There is one: `AllowServiceExternalIPs` (on), without which no
    /// external IP is served.
    #[arg(long, value_name = "FEATURE=BOOL", value_delimiter = ',')]
    pub feature_gates: Vec<FeatureGate>,
}

/// Addresses at which node ports are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServedAddresses {
    /// The Node's own of each family.
    Primary,
    /// Those of the host within a range.
    Within(IpNet),
}

impl FromStr for ServedAddresses {
    type Err = ipnet::AddrParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "primary" => Ok(Self::Primary),
            range => range.parse().map(Self::Within),
        }
    }
}

/// A feature that is switched on or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeatureGate {
    /// `AllowServiceExternalIPs`.
    AllowServiceExternalIps(bool),
}

impl FromStr for FeatureGate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        // As Go's `strconv.ParseBool` reads it.
        let on = match value.trim() {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => true,
            "0" | "f" | "F" | "false" | "FALSE" | "False" => false,
            other => return Err(format!("{other:?} is not true or false")),
        };
        match name.trim() {
            "AllowServiceExternalIPs" => Ok(Self::AllowServiceExternalIps(on)),
            other => Err(format!("{other:?} is no feature that can be switched")),
        }
    }
}

/// `primary` and ranges exclude each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("--nodeport-addresses takes either the word primary, alone, or ranges of addresses")]
pub struct PrimaryNotAlone;

impl OutsideArgs {
    /// At which of the node's addresses node ports are served.
    ///
    /// # Errors
    ///
    /// If `primary` is not alone.
    pub fn node_ports(&self) -> Result<NodePortAddresses, PrimaryNotAlone> {
        if let [ServedAddresses::Primary] = self.nodeport_addresses[..] {
            return Ok(NodePortAddresses::Primary);
        }
        let range = |served: &ServedAddresses| match served {
            ServedAddresses::Primary => Err(PrimaryNotAlone),
            ServedAddresses::Within(range) => Ok(*range),
        };
        self.nodeport_addresses
            .iter()
            .map(range)
            .collect::<Result<_, _>>()
            .map(NodePortAddresses::Within)
    }

    /// Which external IPs are served. Of several words about one feature the last counts.
    #[must_use]
    pub fn external_ips(&self) -> ExternalIps {
        match self.feature_gates.last() {
            Some(FeatureGate::AllowServiceExternalIps(false)) => ExternalIps::Refused,
            _ => ExternalIps::Within(self.external_ip_cidrs.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::{Parser as _, error::ErrorKind};

    use super::*;
    use crate::cli::{Cli, Command};

    fn parse(flags: &[&str]) -> Result<OutsideArgs, ErrorKind> {
        let arguments = ["sixfour", "run", "--manifests=/"].iter().chain(flags);
        let cli = Cli::try_parse_from(arguments).map_err(|error| error.kind())?;
        let Command::Run(run) = cli.command else { panic!() };
        Ok(run.outside)
    }

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn node_ports_are_at_primary_addresses_or_within_ranges() {
        let served = |flags: &[&str]| parse(flags).unwrap().node_ports();
        assert_eq!(served(&[]), Ok(NodePortAddresses::Primary));
        assert_eq!(served(&["--nodeport-addresses=primary"]), Ok(NodePortAddresses::Primary));
        let ranges = ["--nodeport-addresses=10.0.0.0/8,fd00::/8", "--nodeport-addresses=::/0"];
        let expected = nets(&["10.0.0.0/8", "fd00::/8", "::/0"]);
        assert_eq!(served(&ranges), Ok(NodePortAddresses::Within(expected)));
        for mixed in ["primary,10.0.0.0/8", "10.0.0.0/8,primary", "primary,primary"] {
            let flag = format!("--nodeport-addresses={mixed}");
            assert_eq!(served(&[&flag]), Err(PrimaryNotAlone), "{mixed}");
        }
        for bad in ["10.0.0.1", "10.0.0.0/33", "Primary", ""] {
            let flag = format!("--nodeport-addresses={bad}");
            assert!(parse(&[&flag]).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn external_ips_are_within_ranges_or_refused() {
        let admitted = |flags: &[&str]| parse(flags).unwrap().external_ips();
        let all = ExternalIps::default();
        assert_eq!(admitted(&[]), all);
        let ranges = ["--external-ip-cidrs=10.0.0.0/8,fd00::/8"];
        assert_eq!(admitted(&ranges), ExternalIps::Within(nets(&["10.0.0.0/8", "fd00::/8"])));
        for (value, expected) in [("false", ExternalIps::Refused), ("True", all.clone())] {
            let flag = format!("--feature-gates=AllowServiceExternalIPs={value}");
            assert_eq!(admitted(&[&flag]), expected);
        }
        let twice = "--feature-gates=AllowServiceExternalIPs=false,AllowServiceExternalIPs=true";
        assert_eq!(admitted(&[twice]), all);
        for bad in ["AllAlpha=true", "AllowServiceExternalIPs", "AllowServiceExternalIPs=no", ""] {
            let flag = format!("--feature-gates={bad}");
            assert_eq!(parse(&[&flag]).map(|_| ()), Err(ErrorKind::ValueValidation), "{bad:?}");
        }
    }
}
