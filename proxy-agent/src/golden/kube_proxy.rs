// SPDX-License-Identifier: Apache-2.0
//! Reads the rules that kube-proxy writes in its nftables mode, as far as cluster IPs go.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
};

/// What becomes of a new flow.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It goes to one of these.
    Served(BTreeSet<SocketAddr>),
    /// It is refused.
    Reject,
    /// It is dropped.
    Drop,
}

/// The lines of one family's table.
fn table<'a>(rules: &'a str, family: &str) -> Vec<&'a str> {
    let start = format!("table {family} kube-proxy {{");
    let lines = rules.lines().skip_while(|line| *line != start);
    lines.take_while(|line| *line != "}").collect()
}

/// The content of a block (`set`, `map` or `chain`) of a table.
fn block<'a>(table: &[&'a str], header: &str) -> Vec<&'a str> {
    let header = format!("\t{header} {{");
    let lines = table.iter().skip_while(|line| **line != header).skip(1);
    lines.take_while(|line| **line != "\t}").copied().collect()
}

/// The elements of a set or a map.
fn elements<'a>(block: &[&'a str]) -> Vec<&'a str> {
    let lines = block.iter().skip_while(|line| !line.contains("elements = {"));
    let words =
        lines.flat_map(|line| line.rsplit("elements = {").next().unwrap_or(line).split(','));
    let trimmed = words.map(|word| word.trim().trim_end_matches('}').trim());
    trimmed.filter(|word| !word.is_empty()).collect()
}

/// The cluster IPs, in order.
pub(crate) fn cluster_ips(rules: &str, family: &str) -> Vec<IpAddr> {
    let block = block(&table(rules, family), "set cluster-ips");
    let mut ips: Vec<IpAddr> = elements(&block).into_iter().map(|ip| ip.parse().unwrap()).collect();
    ips.sort();
    ips
}

/// What becomes of new flows to the ports of cluster IPs: from pods, so that no rule about the
/// outside applies.
pub(crate) fn served(rules: &str, family: &str) -> BTreeMap<String, Fate> {
    let table = table(rules, family);
    let mut served = BTreeMap::new();
    for element in elements(&block(&table, "map service-ips")) {
        let (key, target) = element.split_once(" : goto ").unwrap();
        // Addresses that are reached from outside have rules of their own.
        if !target.starts_with("external-") {
            let fate = Fate::Served(members(&table, target));
            assert!(served.insert(frontend(key), fate).is_none());
        }
    }
    for element in elements(&block(&table, "map no-endpoint-services")) {
        let (key, verdict) = element.rsplit_once(" : ").unwrap();
        let (key, _) = key.split_once(" comment").unwrap();
        let fate = if verdict == "drop" { Fate::Drop } else { Fate::Reject };
        assert!(served.insert(frontend(key), fate).is_none());
    }
    served
}

/// A frontend as it is written in dumps.
fn frontend(key: &str) -> String {
    let [ip, protocol, port] = key.split(" . ").collect::<Vec<_>>()[..] else { panic!("{key}") };
    let socket = SocketAddr::new(ip.parse().unwrap(), port.parse().unwrap());
    format!("{socket}/{}", protocol.to_uppercase())
}

/// The endpoints that a chain chooses from, by address or, with affinity, by the chain of each.
fn members(table: &[&str], chain: &str) -> BTreeSet<SocketAddr> {
    let rules = block(table, &format!("chain {chain}"));
    let choice = rules.iter().find(|line| line.contains("numgen random"));
    let (_, choices) = choice.unwrap().split_once('{').unwrap();
    let targets = choices.trim_end_matches('}').split(',');
    targets
        .map(|target| match target.split_once(" : ").unwrap().1.trim() {
            endpoint if endpoint.starts_with("goto ") => {
                let chain = block(table, &endpoint.replace("goto", "chain"));
                let rule = chain.iter().find(|line| line.contains(" dnat ")).unwrap();
                rule.rsplit(" to ").next().unwrap().parse().unwrap()
            }
            address => {
                let (ip, port) = address.split_once(" . ").unwrap();
                SocketAddr::new(ip.parse().unwrap(), port.parse().unwrap())
            }
        })
        .collect()
}
