// SPDX-License-Identifier: Apache-2.0
//! The Service ports that rules of nftables are for.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
};

use crate::protocol::Protocol;

use super::{super::Endpoint, ServicePort, blocks::Blocks};

/// Reads those of the shape that is made here: a chain that chooses addresses, or a refusal.
pub(super) fn ports(blocks: &Blocks) -> Vec<ServicePort> {
    let hairpins: BTreeSet<_> = elements(blocks, "set hairpin-connections").collect();
    let served = elements(blocks, "map service-ips").filter_map(|element| {
        let (key, chain) = element.split_once(" : goto ")?;
        let (frontend, protocol) = dialled(key);
        let readable = chain.strip_prefix("service-")?.split_once('-')?.1;
        let [namespace, service, _, name] = readable.split('/').collect::<Vec<_>>()[..] else {
            panic!("{chain}")
        };
        let chain = format!("chain {chain}");
        let (_, rules) = blocks.iter().find(|((_, block), _)| *block == chain)?;
        let (_, choices) = rules[0].split_once(" map { ")?;
        let endpoint = |choice: &str| {
            let (_, address) = choice.split_once(" : ").unwrap();
            let (ip, port) = address.split_once(" . ").unwrap();
            let own = format!("{ip} . {ip} . {} . {port}", protocol.name().to_lowercase());
            let is_local = hairpins.contains(own.as_str());
            Endpoint { address: SocketAddr::new(parse(ip), port.parse().unwrap()), is_local }
        };
        let choices = choices.trim_end_matches(" }").split(", ");
        Some(port([namespace, service, name], protocol, frontend, choices.map(endpoint).collect()))
    });
    let unserved = elements(blocks, "map no-endpoint-services").filter_map(|element| {
        let (key, comment) =
            element.strip_suffix("\" : goto reject-chain")?.split_once(" comment \"")?;
        let (namespace, rest) = comment.split_once('/')?;
        let (service, name) = rest.split_once(':').unwrap_or((rest, ""));
        let (frontend, protocol) = dialled(key);
        Some(port([namespace, service, name], protocol, frontend, Vec::new()))
    });
    served.chain(unserved).collect()
}

/// The elements of a set or a map.
fn elements<'a>(blocks: &'a Blocks, block: &str) -> impl Iterator<Item = &'a str> {
    let of = blocks.iter().find(|((_, name), _)| name == block);
    of.into_iter().flat_map(|(_, lines)| lines).filter_map(|line| line.strip_prefix("= "))
}

fn port(
    names: [&str; 3],
    protocol: Protocol,
    frontend: SocketAddr,
    endpoints: Vec<Endpoint>,
) -> ServicePort {
    let [namespace, service, name] = names.map(str::to_owned);
    ServicePort { namespace, service, name, protocol, frontend, endpoints }
}

/// A key of the maps.
fn dialled(key: &str) -> (SocketAddr, Protocol) {
    let [ip, protocol, port] = key.split(" . ").collect::<Vec<_>>()[..] else { panic!("{key}") };
    let named = |one: &Protocol| one.name().eq_ignore_ascii_case(protocol);
    let protocol = Protocol::ALL.into_iter().find(named).unwrap();
    (SocketAddr::new(parse(ip), port.parse().unwrap()), protocol)
}

fn parse(ip: &str) -> IpAddr {
    ip.parse().unwrap()
}
