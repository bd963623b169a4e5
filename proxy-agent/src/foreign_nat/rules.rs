// SPDX-License-Identifier: Apache-2.0
//! Whether kube-proxy's rules are there, in each of its modes.

use std::fs;

use netlink_packet_core::DecodeError;
use proxy_common::Family;
use rtnetlink::sys::protocols::NETLINK_NETFILTER;

use super::{Error, legacy};
use crate::netlink::{AskError, Channel, Message, text};

/// `NFT_MSG_GETCHAIN` of `NFNL_SUBSYS_NFTABLES`.
const GET_CHAINS: u16 = 10 << 8 | 4;
/// `NFTA_CHAIN_TABLE` and `NFTA_CHAIN_NAME`.
const TABLE: u16 = 1;
const NAME: u16 = 3;

/// The table of the mode `nftables`.
const OWN_TABLE: &str = "kube-proxy";

/// The table of the mode `iptables` that translates, and the chain in it.
pub(super) const NAT_TABLE: &str = "nat";
pub(super) const SERVICES: &str = "KUBE-SERVICES";

/// The device of the mode `ipvs`, which has all addresses of Services, and where the calling thread's devices are
/// listed.
const IPVS_DEVICE: &str = "kube-ipvs0";
const DEVICES: &str = "/proc/thread-self/net/dev";

/// `NFPROTO_IPV4` and `NFPROTO_IPV6`.
const NUMBERS: [u8; 2] = [2, 10];

/// The number by which netfilter knows a family.
pub(super) const fn number<F: Family>() -> u8 {
    NUMBERS[F::INDEX as usize]
}

/// Where there are kube-proxy's rules for a family in the calling thread's network namespace; nothing if there are
/// none.
///
/// # Errors
///
/// If it cannot be told.
pub fn place<F: Family>() -> Result<Option<&'static str>, Error> {
    if let Some(place) = in_nftables::<F>()? {
        return Ok(Some(place));
    }
    if legacy::has_chain::<F>(NAT_TABLE, SERVICES)? {
        return Ok(Some("legacy iptables"));
    }
    let devices = fs::read_to_string(DEVICES).map_err(|error| Error::Read(DEVICES, error))?;
    Ok(has_ipvs_device(&devices).then_some("ipvs"))
}

/// The same in nftables, where those of iptables are, too, unless it is the legacy one.
fn in_nftables<F: Family>() -> Result<Option<&'static str>, AskError> {
    let kernel = Channel::open(NETLINK_NETFILTER, "the chains of nftables")?;
    let Some(mut kernel) = kernel else { return Ok(None) };
    let mut place = None;
    // A list that has changed meanwhile has the chains that were there all the time, and a kernel without
    // nftables has none.
    let _ = kernel.dump(Message::request(GET_CHAINS, number::<F>(), &[]), |message| {
        place = place.or(place_of(&message)?);
        Ok(())
    })?;
    Ok(place)
}

/// What a chain says of the place of the rules.
fn place_of(message: &Message) -> Result<Option<&'static str>, DecodeError> {
    let [table, name] = [text(&message.attributes, TABLE)?, text(&message.attributes, NAME)?];
    Ok(match (table.as_str(), name.as_str()) {
        (OWN_TABLE, _) => Some("nftables"),
        (NAT_TABLE, SERVICES) => Some("iptables"),
        _ => None,
    })
}

fn has_ipvs_device(devices: &str) -> bool {
    let names = devices.lines().filter_map(|line| line.split_once(':'));
    names.map(|(name, _)| name.trim()).any(|name| name == IPVS_DEVICE)
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::DefaultNla;

    use super::*;

    #[test]
    fn rules_are_known_by_their_chains() {
        let chain = |table: &str, name: &str| {
            let text = |kind, text: &str| DefaultNla::new(kind, [text.as_bytes(), &[0]].concat());
            Message::request(GET_CHAINS, 2, &[text(TABLE, table), text(NAME, name)])
        };
        let place = |table, name| place_of(&chain(table, name)).unwrap();
        assert_eq!(place("kube-proxy", "services"), Some("nftables"));
        assert_eq!(place("nat", "KUBE-SERVICES"), Some("iptables"));
        // What kube-proxy's --cleanup leaves, what kubelet writes, and others'.
        for (table, name) in
            [("nat", "PREROUTING"), ("nat", "KUBE-MARK-MASQ"), ("filter", SERVICES)]
        {
            assert_eq!(place(table, name), None);
        }
        assert!(place_of(&Message::request(GET_CHAINS, 2, &[])).is_err());
    }

    #[test]
    fn ipvs_is_known_by_its_device() {
        let head = "Inter-|   Receive\n face |bytes    packets\n";
        assert!(has_ipvs_device(&format!("{head}    lo:       0 0\nkube-ipvs0:       0 0\n")));
        assert!(!has_ipvs_device(&format!("{head}    lo:       0 0\nkube-ipvs01:       0 0\n")));
    }
}
