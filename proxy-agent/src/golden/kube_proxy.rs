// SPDX-License-Identifier: Apache-2.0
//! Reads the rules that kube-proxy writes in its nftables mode.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
};

/// What becomes of new flows to a frontend.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Frontend {
    /// Of clients from outside of the node.
    pub(crate) outside: Fate,
    /// Of pods of the node.
    pub(crate) pods: Fate,
    /// For how many seconds clients stay with their endpoints.
    pub(crate) affinity: Option<u32>,
    /// Whose clients are served at all, if not all are.
    pub(crate) sources: Option<BTreeSet<String>>,
}

/// What becomes of a new flow.
#[derive(Clone, Debug, PartialEq, Eq)]
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

/// The addresses of a set, in order.
pub(crate) fn addresses(rules: &str, family: &str, set: &str) -> Vec<IpAddr> {
    let block = block(&table(rules, family), &format!("set {set}"));
    let mut ips: Vec<IpAddr> = elements(&block).into_iter().map(|ip| ip.parse().unwrap()).collect();
    ips.sort();
    ips
}

/// What becomes of new flows to all frontends; node ports are at the unspecified address.
pub(crate) fn served(rules: &str, family: &str) -> BTreeMap<String, Frontend> {
    let table = table(rules, family);
    let any = if family == "ip" { "0.0.0.0" } else { "::" };
    let mut fates = BTreeMap::new();
    let mut without = BTreeMap::new();
    for (map, at) in [("services", String::new()), ("nodeports", format!("{any} . "))] {
        let key = |key: &str| frontend(&format!("{at}{key}"));
        for element in elements(&block(&table, &format!("map no-endpoint-{map}"))) {
            let (dialled, verdict) = element.rsplit_once(" : ").unwrap();
            let (dialled, _) = dialled.split_once(" comment").unwrap();
            let fate = if verdict == "drop" { Fate::Drop } else { Fate::Reject };
            assert!(without.insert(key(dialled), fate).is_none());
        }
        let map = if map == "services" { "service-ips" } else { "service-nodeports" };
        for element in elements(&block(&table, &format!("map {map}"))) {
            let (dialled, target) = element.split_once(" : goto ").unwrap();
            let sources = sources(&table, dialled);
            let key = key(dialled);
            let reached = reached(&table, target, without.get(&key));
            assert!(fates.insert(key, Frontend { sources, ..reached }).is_none());
        }
    }
    for (key, fate) in without {
        let unreached =
            Frontend { outside: fate.clone(), pods: fate, affinity: None, sources: None };
        let _ = fates.entry(key).or_insert(unreached);
    }
    fates
}

/// What a frontend's chain does; `without` is what becomes of those whom it sends nowhere.
fn reached(table: &[&str], target: &str, without: Option<&Fate>) -> Frontend {
    // The name of the chain is its purpose, a hash and the Service port.
    let affinity = affinity(table, target.splitn(3, '-').nth(2).unwrap());
    if !target.starts_with("external-") {
        let fate = Fate::Served(members(table, target));
        return Frontend { outside: fate.clone(), pods: fate, affinity, sources: None };
    }
    let rules = block(table, &format!("chain {target}"));
    let (_, last) = rules.last().unwrap().rsplit_once("goto ").unwrap();
    let pods = Fate::Served(members(table, &target.replacen("external", "service", 1)));
    let outside = match without {
        Some(fate) => fate.clone(),
        None => Fate::Served(members(table, last)),
    };
    Frontend { outside, pods, affinity, sources: None }
}

/// The time-out of the sets that remember the clients of a Service port.
fn affinity(table: &[&str], service: &str) -> Option<u32> {
    let is_its =
        |line: &&&str| line.contains("set affinity-") && line.contains(&format!("{service}__"));
    let header = table.iter().find(is_its)?.trim().trim_end_matches(" {");
    let set = block(table, header);
    let timeout = set.iter().find_map(|line| line.trim().strip_prefix("timeout "));
    Some(seconds(timeout.unwrap()))
}

/// Seconds as nftables writes them, as in `1h30m`.
fn seconds(text: &str) -> u32 {
    let (mut sum, mut number) = (0, 0);
    for letter in text.chars() {
        let unit = match letter {
            's' => 1,
            'm' => 60,
            'h' => 3600,
            digit => {
                number = number * 10 + digit.to_digit(10).unwrap();
                continue;
            }
        };
        sum += std::mem::take(&mut number) * unit;
    }
    sum
}

/// Whose clients the firewall leaves at a frontend.
fn sources(table: &[&str], key: &str) -> Option<BTreeSet<String>> {
    let restricted = block(table, "map firewall-ips");
    let element = elements(&restricted).into_iter().find(|element| element.starts_with(key))?;
    let (_, chain) = element.split_once(" : goto ").unwrap();
    let rules = block(table, &format!("chain {chain}"));
    let (_, sources) = rules[0].split_once("saddr != {").unwrap();
    let sources = sources.trim_end_matches("} drop").split(',');
    Some(sources.map(|source| source.trim().to_owned()).collect())
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
