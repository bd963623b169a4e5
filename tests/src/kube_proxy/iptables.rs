// SPDX-License-Identifier: Apache-2.0
//! The rules of the mode `iptables`: one rule for each Service port, all in one chain, leads to the
//! chain of the port; one rule for each endpoint there, by chance, to the chain of the endpoint.
//!
//! They are written as `iptables-save` prints them, which `iptables-restore` reads, table by table.

use std::io::{Result, Write};

use crate::family::IpFamily;

use super::{
    chains,
    service::{Node, ServicePort},
};

/// What a rule that leaves packets with an invalid state counts them by; it must be there before.
pub(super) const INVALID_COUNTER: &str = "ct_state_invalid_dropped_pkts";

/// What differs between the families.
struct Words {
    /// What refuses clients.
    unreachable: &'static str,
    /// What keeps the loopback addresses of other machines away: IPv6 routes them nowhere.
    local_net: Option<&'static str>,
    /// Destinations that are no node ports, whosever they are.
    no_node_port: &'static str,
}

const fn words(family: IpFamily) -> Words {
    match family {
        IpFamily::V4 => Words {
            unreachable: "icmp-port-unreachable",
            local_net: Some(
                "-A KUBE-FIREWALL ! -s 127.0.0.0/8 -d 127.0.0.0/8 \
                 -m comment --comment \"block incoming localnet connections\" \
                 -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP\n",
            ),
            no_node_port: "",
        },
        IpFamily::V6 => Words {
            unreachable: "icmp6-port-unreachable",
            local_net: None,
            no_node_port: "! -d ::1/128 ",
        },
    }
}

/// Writes the tables of one family.
pub(super) fn write(
    node: &Node,
    ports: &(impl Iterator<Item = ServicePort> + Clone),
    out: &mut impl Write,
) -> Result<()> {
    let words = words(node.family());
    mangle(out)?;
    filter(ports.clone(), &words, out)?;
    nat(node, ports, &words, out)
}

/// A table's name, the chains that the kernel calls, and some of kube-proxy's own.
fn begin(table: &str, hooks: &[&str], chains: &[&str], out: &mut impl Write) -> Result<()> {
    writeln!(out, "*{table}")?;
    hooks.iter().try_for_each(|hook| writeln!(out, ":{hook} ACCEPT [0:0]"))?;
    chains.iter().try_for_each(|chain| declare(chain, out))
}

fn declare(chain: &str, out: &mut impl Write) -> Result<()> {
    writeln!(out, ":{chain} - [0:0]")
}

/// Only what shows kube-proxy that somebody has flushed the tables.
fn mangle(out: &mut impl Write) -> Result<()> {
    let hooks = ["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"];
    begin("mangle", &hooks, &["KUBE-PROXY-CANARY"], out)?;
    writeln!(out, "COMMIT")
}

/// Who is let through, and the refusals of Service ports without endpoints.
fn filter(
    ports: impl Iterator<Item = ServicePort>,
    words: &Words,
    out: &mut impl Write,
) -> Result<()> {
    let chains = [
        "KUBE-EXTERNAL-SERVICES",
        "KUBE-FIREWALL",
        "KUBE-FORWARD",
        "KUBE-NODEPORTS",
        "KUBE-PROXY-CANARY",
        "KUBE-PROXY-FIREWALL",
        "KUBE-SERVICES",
    ];
    begin("filter", &["INPUT", "FORWARD", "OUTPUT"], &chains, out)?;
    let load_balancers =
        ("-m conntrack --ctstate NEW ", "kubernetes load balancer firewall", "KUBE-PROXY-FIREWALL");
    let health_checks = ("", "kubernetes health check service ports", "KUBE-NODEPORTS");
    let external = (
        "-m conntrack --ctstate NEW ",
        "kubernetes externally-visible service portals",
        "KUBE-EXTERNAL-SERVICES",
    );
    let forwarded = ("", "kubernetes forwarding rules", "KUBE-FORWARD");
    let portals = ("-m conntrack --ctstate NEW ", "kubernetes service portals", "KUBE-SERVICES");
    let jumps = [
        ("INPUT", &[load_balancers, health_checks, external][..]),
        ("FORWARD", &[load_balancers, forwarded, portals, external]),
        ("OUTPUT", &[load_balancers, portals]),
    ];
    for (hook, jumps) in jumps {
        if hook != "FORWARD" {
            writeln!(out, "-A {hook} -j KUBE-FIREWALL")?;
        }
        for (state, comment, to) in jumps {
            writeln!(out, "-A {hook} {state}-m comment --comment \"{comment}\" -j {to}")?;
        }
    }
    write!(
        out,
        "{}-A KUBE-FORWARD -m conntrack --ctstate INVALID \
         -m nfacct --nfacct-name  {INVALID_COUNTER} -j DROP\n\
         -A KUBE-FORWARD -m comment --comment \"kubernetes forwarding rules\" \
         -m mark --mark 0x4000/0x4000 -j ACCEPT\n\
         -A KUBE-FORWARD -m comment --comment \"kubernetes forwarding conntrack rule\" \
         -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n",
        words.local_net.unwrap_or_default(),
    )?;
    for port in ports.filter(|port| port.endpoints.is_empty()) {
        writeln!(
            out,
            "-A KUBE-SERVICES {} -j REJECT --reject-with {}",
            matches(&port, "has no endpoints"),
            words.unreachable,
        )?;
    }
    writeln!(out, "COMMIT")
}

/// The matches for packets to a Service port.
fn matches(port: &ServicePort, comment: &str) -> String {
    let (ip, number, protocol) = (port.frontend.ip(), port.frontend.port(), port.protocol());
    let length = IpFamily::of(ip).host_prefix_length();
    format!(
        "-d {ip}/{length} -p {protocol} -m comment --comment \"{port} {comment}\" \
         -m {protocol} --dport {number}"
    )
}

/// The translations.
fn nat(
    node: &Node,
    ports: &(impl Iterator<Item = ServicePort> + Clone),
    words: &Words,
    out: &mut impl Write,
) -> Result<()> {
    let own = [
        "KUBE-MARK-MASQ",
        "KUBE-NODEPORTS",
        "KUBE-POSTROUTING",
        "KUBE-PROXY-CANARY",
        "KUBE-SERVICES",
    ];
    begin("nat", &["PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"], &own, out)?;
    let served = || ports.clone().filter(|port| !port.endpoints.is_empty());
    for port in served() {
        declare(&chains::iptables(&port), out)?;
        for endpoint in &port.endpoints {
            declare(&chains::iptables_endpoint(&port, endpoint.address), out)?;
        }
    }
    write!(
        out,
        "-A PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES\n\
         -A OUTPUT -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES\n\
         -A POSTROUTING -m comment --comment \"kubernetes postrouting rules\" -j KUBE-POSTROUTING\n\
         -A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000\n\
         -A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN\n\
         -A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0\n\
         -A KUBE-POSTROUTING -m comment --comment \"kubernetes service traffic requiring SNAT\" \
         -j MASQUERADE --random-fully\n",
    )?;
    served().try_for_each(|port| service(node, &port, out))?;
    writeln!(
        out,
        "-A KUBE-SERVICES {}-m comment --comment \"kubernetes service nodeports; NOTE: this must be \
         the last rule in this chain\" -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS\nCOMMIT",
        words.no_node_port,
    )
}

/// The rules of one Service port.
fn service(node: &Node, port: &ServicePort, out: &mut impl Write) -> Result<()> {
    let chain = chains::iptables(port);
    let matches = matches(port, "cluster IP");
    writeln!(out, "-A KUBE-SERVICES {matches} -j {chain}")?;
    writeln!(out, "-A {chain} ! -s {} {matches} -j KUBE-MARK-MASQ", node.pods)?;
    let protocol = port.protocol();
    for (left, endpoint) in (1..=port.endpoints.len()).rev().zip(&port.endpoints) {
        let address = endpoint.address;
        let to = chains::iptables_endpoint(port, address);
        let by_chance = if left == 1 {
            String::new()
        } else {
            format!("-m statistic --mode random --probability {} ", probability(left))
        };
        let length = IpFamily::of(address.ip()).host_prefix_length();
        write!(
            out,
            "-A {chain} -m comment --comment \"{port} -> {address}\" {by_chance}-j {to}\n\
             -A {to} -s {}/{length} -m comment --comment \"{port}\" -j KUBE-MARK-MASQ\n\
             -A {to} -p {protocol} -m comment --comment \"{port}\" \
             -m {protocol} -j DNAT --to-destination {address}\n",
            address.ip(),
        )?;
    }
    Ok(())
}

/// One in `left`, as iptables prints what kube-proxy writes with ten digits and the kernel keeps in
/// parts of 2^31.
#[expect(clippy::cast_precision_loss, reason = "a Service port has fewer than 2^52 endpoints")]
fn probability(left: usize) -> String {
    const DIGITS: f64 = 1e10;
    const PARTS: f64 = (1_u64 << 31) as f64;
    let written = (DIGITS / left as f64).round() / DIGITS;
    format!("{:.11}", (written * PARTS).round() / PARTS)
}
