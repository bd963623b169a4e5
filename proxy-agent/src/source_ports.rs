// SPDX-License-Identifier: Apache-2.0
//! The ports that masqueraded flows have, beside those that the kernel gives to sockets.
//!
//! Both are ports of the node's addresses. Where a socket has a port that a masqueraded flow to the
//! same backend has too, the answers to the one are taken for the other's. So the ranges should not
//! overlap, or what is in both be reserved. The settings are those of IPv6, too.

use std::{fmt, fs, io, ops::RangeInclusive};

/// The ports that the kernel gives to sockets which do not name one: two numbers.
const EPHEMERAL: &str = "net/ipv4/ip_local_port_range";
/// Those among them that it does not give away: ports and ranges of ports, with commas between them.
const RESERVED: &str = "net/ipv4/ip_local_reserved_ports";

/// Why it is not known which ports the kernel gives to sockets.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// A setting cannot be read.
    #[error("cannot read {0}")]
    Unreadable(&'static str, #[source] io::Error),
    /// A setting has another form than it has in Linux.
    #[error("{0} is {1:?}")]
    Form(&'static str, String),
}

/// The ports that the kernel gives to sockets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketPorts {
    ephemeral: RangeInclusive<u16>,
    reserved: Vec<RangeInclusive<u16>>,
}

impl SocketPorts {
    /// Those of the calling thread's network namespace.
    ///
    /// # Errors
    ///
    /// If the settings cannot be read.
    pub fn read() -> Result<Self, ReadError> {
        Ok(Self { ephemeral: read(EPHEMERAL, ephemeral)?, reserved: read(RESERVED, reserved)? })
    }

    /// Those among `ports` that sockets may get, if there are any.
    #[must_use]
    pub fn among(&self, ports: &RangeInclusive<u16>) -> Option<Overlap> {
        let is_reserved = |port: &u16| self.reserved.iter().any(|range| range.contains(port));
        let both = ports.clone().filter(|port| self.ephemeral.contains(port));
        let mut shared: Vec<RangeInclusive<u16>> = Vec::new();
        for port in both.filter(|port| !is_reserved(port)) {
            match shared.last_mut() {
                Some(last) if last.end() + 1 == port => *last = *last.start()..=port,
                _ => shared.push(port..=port),
            }
        }
        (!shared.is_empty()).then(|| Overlap {
            ports: ports.clone(),
            sockets: self.clone(),
            shared,
        })
    }
}

/// Ports that masqueraded flows and sockets have; displayed as one sentence with the command that
/// ends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overlap {
    ports: RangeInclusive<u16>,
    sockets: SocketPorts,
    shared: Vec<RangeInclusive<u16>>,
}

impl fmt::Display for Overlap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SocketPorts { ephemeral, reserved } = &self.sockets;
        let (ports, ephemeral) = (text(&self.ports), text(ephemeral));
        let list =
            |ranges: &[RangeInclusive<u16>]| ranges.iter().map(text).collect::<Vec<_>>().join(",");
        // The command replaces what is reserved already.
        let wanted = [&reserved[..], &self.shared[..]].concat();
        let (shared, wanted) = (list(&self.shared), list(&wanted));
        write!(
            f,
            "--snat-port-range is {ports}, and {EPHEMERAL} {ephemeral}: sockets of the node may get \
             the ports {shared}, which masqueraded flows have, and answers to the one may be taken \
             for the other's; give another range, or reserve these ports with \
             `sysctl -w {RESERVED}={wanted}`."
        )
    }
}

fn text(range: &RangeInclusive<u16>) -> String {
    let (first, last) = (range.start(), range.end());
    if first == last { first.to_string() } else { format!("{first}-{last}") }
}

fn read<T>(key: &'static str, parse: impl Fn(&str) -> Option<T>) -> Result<T, ReadError> {
    let text = fs::read_to_string(format!("/proc/sys/{key}"));
    let text = text.map_err(|error| ReadError::Unreadable(key, error))?;
    parse(&text).ok_or(ReadError::Form(key, text))
}

fn ephemeral(text: &str) -> Option<RangeInclusive<u16>> {
    let mut numbers = text.split_whitespace().map(str::parse);
    let (first, last) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    numbers.next().is_none().then_some(first..=last)
}

fn reserved(text: &str) -> Option<Vec<RangeInclusive<u16>>> {
    let range = |text: &str| {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        Some(first.parse().ok()?..=last.parse().ok()?)
    };
    text.trim().split(',').filter(|text| !text.is_empty()).map(range).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What sockets get by these settings.
    fn sockets(range: &str, held_back: &str) -> SocketPorts {
        let (ephemeral, reserved) = (ephemeral(range).unwrap(), reserved(held_back).unwrap());
        SocketPorts { ephemeral, reserved }
    }

    #[test]
    fn settings_are_read_as_linux_writes_them() {
        let found = sockets("32768\t60999\n", "\n");
        assert_eq!(found, SocketPorts { ephemeral: 32_768..=60_999, reserved: vec![] });
        let found = sockets("1024\t65535\n", "8080,9148-9150\n");
        assert_eq!(found.reserved, [8080..=8080, 9148..=9150]);
        for bad in ["", "1024", "1 2 3", "a b", "1 70000"] {
            assert_eq!(ephemeral(bad), None, "{bad:?}");
        }
        for bad in ["a", "1-", "1,70000", "1-2-3"] {
            assert_eq!(reserved(bad), None, "{bad:?}");
        }
        assert!(SocketPorts::read().is_ok(), "the settings of this host");
    }

    #[test]
    fn what_sockets_may_get_is_found() {
        let shared = |range: &str, held_back: &str, ports: RangeInclusive<u16>| {
            let overlap = sockets(range, held_back).among(&ports);
            overlap.map_or(Vec::new(), |overlap| overlap.shared)
        };
        assert_eq!(shared("32768 60999", "", 61_000..=65_535), []);
        assert_eq!(shared("32768 60999", "", 20_000..=32_767), []);
        assert_eq!(shared("32768 61000", "", 61_000..=65_535), [61_000..=61_000]);
        assert_eq!(shared("1024 65535", "", 61_000..=65_535), [61_000..=65_535]);
        assert_eq!(shared("1024 65535", "61000-65535", 61_000..=65_535), []);
        assert_eq!(shared("1024 65535", "60000-63000,63001-65535", 61_000..=65_535), []);
        let around = [61_000..=61_999, 62_001..=62_999, 64_001..=65_535];
        assert_eq!(shared("1024 65535", "62000,63000-64000", 61_000..=65_535), around);
        assert_eq!(shared("40000 30000", "", 1..=65_535), [], "the kernel takes no such range");
    }

    #[test]
    fn an_overlap_is_a_sentence_with_a_command() {
        let said = |held_back| sockets("32768 65535", held_back).among(&(61_000..=65_535)).unwrap();
        assert_eq!(
            said("").to_string(),
            "--snat-port-range is 61000-65535, and net/ipv4/ip_local_port_range 32768-65535: sockets \
             of the node may get the ports 61000-65535, which masqueraded flows have, and answers to \
             the one may be taken for the other's; give another range, or reserve these ports with \
             `sysctl -w net/ipv4/ip_local_reserved_ports=61000-65535`."
        );
        let command =
            "`sysctl -w net/ipv4/ip_local_reserved_ports=8080,62000,61000-61999,62001-65535`.";
        assert!(said("8080,62000").to_string().ends_with(command), "{}", said("8080,62000"));
    }
}
