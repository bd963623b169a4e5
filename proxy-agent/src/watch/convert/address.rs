// SPDX-License-Identifier: Apache-2.0
//! Addresses, ports and protocols as the API writes them.

use std::net::IpAddr;

use ipnet::IpNet;
use proxy_common::{Port, Protocol};

use super::{Reason, not};

/// An address that traffic can be sent to. The API refuses the others too (an endpoint there
/// would reach the node itself, or its neighbours, in the name of whoever wrote it).
pub(super) fn unicast(text: &str) -> Result<IpAddr, Reason> {
    let ip = any(text)?;
    let (link_local, mapped) = match ip {
        IpAddr::V4(v4) => (v4.is_link_local(), false),
        IpAddr::V6(v6) => (v6.is_unicast_link_local(), v6.to_ipv4_mapped().is_some()),
    };
    let special = [
        (ip.is_unspecified(), "the unspecified address"),
        (ip.is_loopback(), "a loopback address"),
        (link_local, "a link-local address"),
        (ip.is_multicast(), "a multicast address"),
        (mapped, "an IPv4-mapped address"),
    ];
    match special.iter().find(|(is, _)| *is) {
        Some((_, what)) => Err(Reason::Special(ip, what)),
        None => Ok(ip),
    }
}

/// Any address.
pub(super) fn any(text: &str) -> Result<IpAddr, Reason> {
    let parsed = text.parse().or_else(|_| without_leading_zeros(text).parse());
    parsed.map_err(|_| not(text, "an IP address"))
}

/// A range of addresses, with zeros behind its prefix.
pub(super) fn cidr(text: &str) -> Result<IpNet, Reason> {
    let parts = text.split_once('/');
    let parts = parts.filter(|(_, length)| length.bytes().all(|digit| digit.is_ascii_digit()));
    let range = parts
        .and_then(|(address, length)| IpNet::new(any(address).ok()?, length.parse().ok()?).ok());
    range.map(|range| range.trunc()).ok_or_else(|| not(text, "an address and a prefix length"))
}

/// The decimal parts of an IPv4 address as Kubernetes reads them in objects from before 1.22
/// (`ParseIPSloppy`): `010` is ten.
fn without_leading_zeros(text: &str) -> String {
    let decimal = |part: &str| {
        let digits = part.trim_start_matches('0');
        if digits.is_empty() && !part.is_empty() { "0" } else { digits }.to_owned()
    };
    text.split('.').map(decimal).collect::<Vec<_>>().join(".")
}

/// A port number from 1 on.
pub(super) fn port(number: i32) -> Result<Port, Reason> {
    match u16::try_from(number) {
        Ok(number @ 1..) => Ok(Port::new(number)),
        _ => Err(not(number, "a port number")),
    }
}

/// A protocol; TCP where none is given.
pub(super) fn protocol(name: Option<&str>) -> Result<Protocol, Reason> {
    let known = [Protocol::TCP, Protocol::UDP, Protocol::SCTP];
    let Some(name) = name else {
        return Ok(Protocol::TCP);
    };
    known
        .into_iter()
        .find(|protocol| protocol.name() == Some(name))
        .ok_or_else(|| not(name, "TCP, UDP or SCTP"))
}

#[cfg(test)]
mod tests {
    use super::{cidr, unicast};

    #[test]
    fn leading_zeros_are_decimal() {
        assert_eq!(unicast("010.096.000.1").unwrap().to_string(), "10.96.0.1");
        assert_eq!(unicast("10.96.0.080").unwrap().to_string(), "10.96.0.80");
        for bad in ["10.96.0", "10.96..1", "10.96.0.0256", "0x0a.0.0.1", "010"] {
            assert!(unicast(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ranges_have_zeros_behind_their_prefixes() {
        assert_eq!(cidr("10.096.3.4/016").unwrap().to_string(), "10.96.0.0/16");
        assert_eq!(cidr("fd00::1/64").unwrap().to_string(), "fd00::/64");
        for bad in ["10.0.0.0", "10.0.0.0/33", "fd00::/129", "10.0.0.0/+8", "10.0.0.0/", "/8"] {
            assert!(cidr(bad).is_err(), "{bad}");
        }
    }
}
