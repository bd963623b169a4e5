// SPDX-License-Identifier: Apache-2.0
//! The flags that say which Services, families and addresses are of interest.

use std::{net::IpAddr, str::FromStr};

use clap::{Args, ValueEnum};
use ipnet::IpNet;
use proxy_common::Family;

/// What is of interest: what all flags that are given say, and of one that is given several times, any.
#[derive(Args, Clone, Debug, Default)]
pub struct FilterArgs {
    /// Only this family.
    #[arg(long, value_enum, ignore_case = true)]
    pub family: Option<FamilyName>,

    /// Only this Service, or this port of it (may be repeated); with nothing behind the slash, all of a namespace.
    #[arg(long, value_name = "NAMESPACE/[NAME[:PORT]]", value_parser = ServicePattern::parse)]
    pub service: Vec<ServicePattern>,

    /// Only what has an address among these: a client's, a frontend's or a backend's (may be repeated).
    #[arg(long, value_name = "ADDRESS[/LENGTH]", value_parser = network)]
    pub address: Vec<IpNet>,
}

impl FilterArgs {
    /// Whether a family is of interest.
    #[must_use]
    pub fn has_family<F: Family>(&self) -> bool {
        self.family.is_none_or(|family| family as u32 == F::INDEX)
    }

    /// Whether what is of a Service, or of a port of one, is of interest: `namespace/name` or `namespace/name:port`.
    #[must_use]
    pub fn has_service(&self, name: &str) -> bool {
        self.service.is_empty() || self.service.iter().any(|pattern| pattern.matches(name))
    }

    /// Whether what has these addresses is of interest.
    pub fn has_address(&self, addresses: impl IntoIterator<Item = IpAddr>) -> bool {
        let is_among =
            |address: IpAddr| self.address.iter().any(|network| network.contains(&address));
        self.address.is_empty() || addresses.into_iter().any(is_among)
    }
}

/// A family of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FamilyName {
    /// IPv4.
    #[value(alias = "4")]
    Ipv4 = 0,
    /// IPv6.
    #[value(alias = "6")]
    Ipv6 = 1,
}

/// A Service, a port of one, or all of a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePattern(String);

impl ServicePattern {
    fn parse(text: &str) -> Result<Self, String> {
        match text.split_once('/') {
            Some((namespace, name)) if !namespace.is_empty() && !name.starts_with(':') => {
                Ok(Self(text.to_owned()))
            }
            _ => Err("a namespace, a slash and the name of a Service are wanted".to_owned()),
        }
    }

    fn matches(&self, name: &str) -> bool {
        let is_whole = self.0.ends_with('/');
        name.strip_prefix(&self.0)
            .is_some_and(|rest| is_whole || rest.is_empty() || rest.starts_with(':'))
    }
}

/// A network, or a single address.
fn network(text: &str) -> Result<IpNet, String> {
    let address = IpAddr::from_str(text).map(IpNet::from);
    address.or_else(|_| IpNet::from_str(text)).map_err(|_| "no address, and no network".to_owned())
}

#[cfg(test)]
mod tests {
    use proxy_common::{V4, V6};

    use super::*;

    #[test]
    fn services_are_told_from_those_with_longer_names() {
        let table = [
            ("shop/web", "shop/web", true),
            ("shop/web", "shop/web:tcp", true),
            ("shop/web", "shop/web-2:tcp", false),
            ("shop/web:tcp", "shop/web:tcp", true),
            ("shop/web:tcp", "shop/web:tcp2", false),
            ("shop/web:tcp", "shop/web", false),
            ("shop/", "shop/web:tcp", true),
            ("shop/", "shop2/web", false),
        ];
        for (pattern, name, expected) in table {
            let pattern = ServicePattern::parse(pattern).unwrap();
            assert_eq!(pattern.matches(name), expected, "{pattern:?} {name}");
        }
        for bad in ["web", "/web", "shop/:tcp", ""] {
            assert!(ServicePattern::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn addresses_are_those_of_networks() {
        let filter = FilterArgs {
            address: ["10.1.0.0/16", "fd00::7"].map(|text| network(text).unwrap()).into(),
            ..FilterArgs::default()
        };
        let has = |addresses: &[&str]| {
            filter.has_address(addresses.iter().map(|address| address.parse().unwrap()))
        };
        assert!(has(&["10.1.2.3"]) && has(&["10.2.0.1", "fd00::7"]));
        assert!(!has(&["10.2.0.1"]) && !has(&["fd00::8"]) && !has(&[]));
        assert!(FilterArgs::default().has_address([]));
        assert!(network("10.1.0.0/33").is_err() && network("web").is_err());
    }

    #[test]
    fn families_are_told_apart() {
        let of = |family| FilterArgs { family, ..FilterArgs::default() };
        let has = |filter: &FilterArgs| [filter.has_family::<V4>(), filter.has_family::<V6>()];
        assert_eq!(has(&of(None)), [true, true]);
        assert_eq!(has(&of(Some(FamilyName::Ipv4))), [true, false]);
        assert_eq!(has(&of(Some(FamilyName::Ipv6))), [false, true]);
    }
}
