// SPDX-License-Identifier: Apache-2.0
//! The rules of the mode `nftables`: a look-up of the destination in a map leads to the chain of a
//! Service port, which draws a number and has the address for each in another map.
//!
//! They are written as `nft list ruleset` prints them, which `nft --file` reads as one transaction.

use std::{
    fmt,
    io::{Result, Write},
};

use crate::family::IpFamily;

use super::{
    chains,
    service::{Node, ServicePort},
};

/// How nftables names what belongs to a family.
struct Words {
    /// The family of a table, and the header that expressions read.
    ip: &'static str,
    /// The type of an address in a set.
    address: &'static str,
}

const fn words(family: IpFamily) -> Words {
    match family {
        IpFamily::V4 => Words { ip: "ip", address: "ipv4_addr" },
        IpFamily::V6 => Words { ip: "ip6", address: "ipv6_addr" },
    }
}

/// Writes the table of one family.
pub(super) fn write(
    node: &Node,
    ports: &(impl Iterator<Item = ServicePort> + Clone),
    out: &mut impl Write,
) -> Result<()> {
    let words = words(node.family());
    writeln!(out, "table {} kube-proxy {{\n\tcomment \"rules for kube-proxy\"", words.ip)?;
    sets(node, ports, &words, out)?;
    hooks(out)?;
    checks(node, &words, out)?;
    services(ports, &words, out)
}

/// Writes what more Service ports add to the table.
pub(super) fn write_more(
    node: &Node,
    ports: &(impl Iterator<Item = ServicePort> + Clone),
    out: &mut impl Write,
) -> Result<()> {
    let words = words(node.family());
    writeln!(out, "table {} kube-proxy {{", words.ip)?;
    sets(node, ports, &words, out)?;
    services(ports, &words, out)
}

/// The sets and maps that rules look destinations up in.
fn sets(
    node: &Node,
    ports: &(impl Iterator<Item = ServicePort> + Clone),
    words: &Words,
    out: &mut impl Write,
) -> Result<()> {
    let address = words.address;
    let pair = format!("{address} . {address} . inet_proto . inet_service");
    let destination = format!("{address} . inet_proto . inet_service : verdict");
    let node_port = "inet_proto . inet_service : verdict";
    let nothing = || std::iter::empty::<&str>();

    let hairpins = ports.clone().flat_map(|port| {
        let protocol = port.protocol();
        let local = port.endpoints.into_iter().filter(|endpoint| endpoint.is_local);
        local.map(move |endpoint| {
            let (ip, port) = (endpoint.address.ip(), endpoint.address.port());
            format!("{ip} . {ip} . {protocol} . {port}")
        })
    });
    elements("set hairpin-connections", &pair, "service hairpin connections", hairpins, out)?;
    let cluster_ips = ports.clone().map(|port| port.frontend.ip());
    elements("set cluster-ips", address, "Active ClusterIPs", cluster_ips, out)?;
    let node_ips = std::iter::once(node.address);
    elements("set nodeport-ips", address, "IPs that accept NodePort traffic", node_ips, out)?;
    let unserved = ports.clone().filter(|port| port.endpoints.is_empty());
    let unserved =
        unserved.map(|port| format!("{} comment \"{port}\" : goto reject-chain", key(&port)));
    let comment = "vmap to drop or reject packets to services with no endpoints";
    elements("map no-endpoint-services", &destination, comment, unserved, out)?;
    let comment = "vmap to drop or reject packets to service nodeports with no endpoints";
    elements("map no-endpoint-nodeports", node_port, comment, nothing(), out)?;
    let comment = "destinations that are subject to LoadBalancerSourceRanges";
    elements("map firewall-ips", &destination, comment, nothing(), out)?;
    let served = ports.clone().filter(|port| !port.endpoints.is_empty());
    let served = served.map(|port| format!("{} : goto {}", key(&port), chains::nftables(&port)));
    let comment = "ClusterIP, ExternalIP and LoadBalancer IP traffic";
    elements("map service-ips", &destination, comment, served, out)?;
    elements("map service-nodeports", node_port, "NodePort traffic", nothing(), out)
}

/// The destination of a Service port, as a key of the maps.
fn key(port: &ServicePort) -> String {
    format!("{} . {} . {}", port.frontend.ip(), port.protocol(), port.frontend.port())
}

/// A set or a map with its elements, if it has any.
fn elements<T: fmt::Display>(
    header: &str,
    kind: &str,
    comment: &str,
    elements: impl Iterator<Item = T>,
    out: &mut impl Write,
) -> Result<()> {
    writeln!(out, "\t{header} {{\n\t\ttype {kind}\n\t\tcomment \"{comment}\"")?;
    let mut is_empty = true;
    for element in elements {
        let before = if is_empty { "\t\telements = { " } else { ",\n\t\t\t     " };
        write!(out, "{before}{element}")?;
        is_empty = false;
    }
    writeln!(out, "{}\t}}\n", if is_empty { "" } else { " }\n" })
}

/// The chains that the kernel calls.
fn hooks(out: &mut impl Write) -> Result<()> {
    let firewall = ["ct state new jump firewall-check"];
    let input =
        ["ct state new jump nodeport-endpoints-check", "ct state new jump service-endpoints-check"];
    let leaving =
        ["ct state new jump service-endpoints-check", "ct state new jump cluster-ips-check"];
    let hooks: [(&str, &str, &[&str]); 8] = [
        ("filter-prerouting-pre-dnat", "filter hook prerouting priority dstnat - 10", &firewall),
        ("filter-output-pre-dnat", "filter hook output priority -110", &firewall),
        ("filter-input", "filter hook input priority filter", &input),
        ("filter-forward", "filter hook forward priority filter", &leaving),
        ("filter-output", "filter hook output priority filter", &leaving),
        ("nat-prerouting", "nat hook prerouting priority dstnat", &["jump services"]),
        ("nat-output", "nat hook output priority -100", &["jump services"]),
        ("nat-postrouting", "nat hook postrouting priority srcnat", &["jump masquerading"]),
    ];
    for (name, hook, rules) in hooks {
        let hook = format!("type {hook}; policy accept;");
        chain(name, [hook.as_str()].into_iter().chain(rules.iter().copied()), out)?;
    }
    Ok(())
}

/// The chains between those and the Services'.
fn checks(node: &Node, words: &Words, out: &mut impl Write) -> Result<()> {
    let (ip, Node { pods, services, .. }) = (words.ip, node);
    let mut of = |name, rules: &[String]| chain(name, rules.iter().map(String::as_str), out);
    let look_up = |map| format!("{ip} daddr . meta l4proto . th dport vmap @{map}");
    let node_port = |map| format!("{ip} daddr @nodeport-ips meta l4proto . th dport vmap @{map}");
    of("nodeport-endpoints-check", &[node_port("no-endpoint-nodeports")])?;
    of("service-endpoints-check", &[look_up("no-endpoint-services")])?;
    of("firewall-check", &[look_up("firewall-ips")])?;
    let mark = "meta mark set meta mark | 0x00004000";
    of(
        "services",
        &[
            format!(
                "{ip} daddr @cluster-ips {ip} saddr != {pods} {mark} \
                 comment \"masquerade clusterIP traffic from outside cluster\""
            ),
            look_up("service-ips"),
            node_port("service-nodeports"),
        ],
    )?;
    let marked = "meta mark & 0x00004000 != 0x00000000 meta mark set meta mark ^ 0x00004000";
    let pair = format!("{ip} saddr . {ip} daddr . meta l4proto . th dport");
    of(
        "masquerading",
        &[
            format!("{marked} masquerade fully-random"),
            format!("ct status dnat {pair} @hairpin-connections masquerade fully-random"),
        ],
    )?;
    of(
        "cluster-ips-check",
        &[
            format!(
                "{ip} daddr @cluster-ips reject \
                 comment \"Reject traffic to invalid ports of ClusterIPs\""
            ),
            format!(
                "{ip} daddr {services} drop comment \"Drop traffic to unallocated ClusterIPs\""
            ),
        ],
    )?;
    let comment = "comment \"helper for @no-endpoint-services / @no-endpoint-nodeports\"";
    of("reject-chain", &[comment.to_owned(), "reject".to_owned()])
}

/// The chains of Service ports, at the end of the table.
fn services(
    ports: &(impl Iterator<Item = ServicePort> + Clone),
    words: &Words,
    out: &mut impl Write,
) -> Result<()> {
    for port in ports.clone().filter(|port| !port.endpoints.is_empty()) {
        service(&port, words, out)?;
    }
    writeln!(out, "}}")
}

/// The chain that chooses an endpoint of a Service port.
fn service(port: &ServicePort, words: &Words, out: &mut impl Write) -> Result<()> {
    let choices = port.endpoints.iter().enumerate().map(|(number, endpoint)| {
        format!("{number} : {} . {}", endpoint.address.ip(), endpoint.address.port())
    });
    let choices = choices.collect::<Vec<_>>().join(", ");
    let (protocol, count) = (port.protocol(), port.endpoints.len());
    let random = format!("numgen random mod {count} map {{ {choices} }}");
    let rule = format!("meta l4proto {protocol} dnat {} to {random}", words.ip);
    chain(&chains::nftables(port), [rule.as_str()].into_iter(), out)
}

fn chain<'a>(name: &str, rules: impl Iterator<Item = &'a str>, out: &mut impl Write) -> Result<()> {
    writeln!(out, "\tchain {name} {{")?;
    for rule in rules {
        writeln!(out, "\t\t{rule}")?;
    }
    writeln!(out, "\t}}\n")
}
