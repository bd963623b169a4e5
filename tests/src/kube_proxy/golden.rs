// SPDX-License-Identifier: Apache-2.0
//! Rules that a real kube-proxy 1.36.2 wrote, printed by nft 1.0.6 and iptables 1.8.9, beside those
//! that are made here of the same Service ports.
//!
//! The Service ports are read out of the recording of nftables, and then both modes are compared.
//! What is compared are blocks (sets, maps, chains) with their lines in order, except for:
//!
//! * elements of sets and maps, and the rules of iptables' `KUBE-SERVICES`: their order is that of a
//!   hash, in the kernel or in kube-proxy;
//! * blocks among each other: the kernel has them in the order in which they were made;
//! * comments of `iptables-save`: the time is in them;
//! * chains of nftables without rules: kube-proxy empties those of ports that have lost their
//!   endpoints at once, and deletes them later.

mod blocks;
mod recorded;

use std::{
    fs::{self, File},
    io::Read as _,
    path::Path,
};

use crate::family::{DualAddress, IpFamily};
use flate2::read::GzDecoder;
use ipnet::IpNet;

use super::{Mode, Node, Rules, ServicePort};
use blocks::Blocks;

/// What the recording `small` has besides: for node ports, external addresses and load balancers,
/// for internal or external traffic policies, for session affinity, and for health checks.
const OTHERS: [&str; 19] = [
    "chain endpoint-",
    "chain external-",
    "chain firewall-",
    "chain local-",
    "goto external-",
    "goto firewall-",
    "goto local-",
    "map no-endpoint-nodeports",
    "set affinity-",
    "KUBE-EXTERNAL-SERVICES -",
    "KUBE-EXT-",
    "KUBE-FW-",
    "KUBE-NODEPORTS -",
    "KUBE-PROXY-FIREWALL -",
    "KUBE-SVL-",
    "anc/affinity",
    "anc/both-local",
    "anc/internal-local",
    "has no local endpoints",
];

fn node(family: IpFamily) -> Node {
    let net = |v4: &str, v6: &str| -> IpNet {
        let text = if family == IpFamily::V4 { v4 } else { v6 };
        text.parse().expect("a prefix")
    };
    Node {
        address: DualAddress::underlay(1).of(family),
        pods: net("10.244.0.0/16", "fd00:10:244::/56"),
        services: net("10.96.0.0/16", "fd00:10:96::/112"),
    }
}

/// The directory of this crate.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(name: &str) -> String {
    let path = root().join("fixtures/kube-proxy").join(format!("{name}.gz"));
    let mut text = String::new();
    let _ = GzDecoder::new(File::open(path).unwrap()).read_to_string(&mut text).unwrap();
    text
}

/// What is made of Service ports.
fn made(mode: Mode, family: IpFamily, ports: &[ServicePort]) -> Blocks {
    let mut text = Vec::new();
    let rules = Rules { mode, node: node(family), ports: ports.iter().cloned() };
    rules.write(&mut text).unwrap();
    blocks::of(&String::from_utf8(text).unwrap())
}

/// The parts of a recording of nftables, by family.
fn nftables(text: &str) -> [(IpFamily, Blocks); 2] {
    let [mut v4, mut v6] = [blocks::of(text), Blocks::new()];
    v4.retain(|(table, block), lines| {
        let is_v6 = table == "table ip6 kube-proxy";
        if is_v6 {
            drop(v6.insert((table.clone(), block.clone()), lines.clone()));
        }
        !is_v6
    });
    [(IpFamily::V4, v4), (IpFamily::V6, v6)].map(|(family, mut blocks)| {
        blocks.retain(|(_, block), lines| !(block.starts_with("chain") && lines.is_empty()));
        (family, blocks)
    })
}

fn iptables(size: &str, family: IpFamily) -> Blocks {
    let suffix = if family == IpFamily::V4 { "v4" } else { "v6" };
    blocks::of(&read(&format!("iptables.{size}.{suffix}")))
}

/// Everything that is recorded is made, and nothing else.
fn assert_same(recorded: &Blocks, made: &Blocks) {
    for (block, lines) in recorded {
        assert_eq!(Some(lines), made.get(block), "{block:?}");
    }
    assert_eq!(recorded.len(), made.len());
}

/// Everything that is made is recorded, in the same order, and all the rest is one of [`OTHERS`].
fn assert_part(recorded: &Blocks, made: &Blocks) {
    let mut others = Vec::new();
    for ((table, block), lines) in recorded {
        let mut made =
            made.get(&(table.clone(), block.clone())).map(|lines| lines.iter().peekable());
        if made.is_none() && lines.is_empty() {
            others.push(block.clone());
        }
        for line in lines {
            if made.as_mut().and_then(|made| made.next_if_eq(&line)).is_none() {
                others.push(format!("{block} {line}"));
            }
        }
        assert_eq!(made.and_then(|mut made| made.next()), None, "{block}");
    }
    assert!(made.keys().all(|block| recorded.contains_key(block)));
    for other in &others {
        assert!(is_other(other, &others), "{other}");
    }
}

/// Whether a line is one of [`OTHERS`], or a cluster IP that all other lines of them are for.
fn is_other(line: &str, others: &[String]) -> bool {
    let ip = line.strip_prefix("set cluster-ips = ");
    let of_ip = |ip: &str| others.iter().any(|line| line.contains(&format!("= {ip} . ")));
    OTHERS.iter().any(|other| line.contains(other)) || ip.is_some_and(of_ip)
}

#[test]
fn ten_services() {
    for (family, recorded) in nftables(&read("nftables.10.nft")) {
        let ports = recorded::ports(&recorded);
        assert!(ports.len() > 14, "{}", ports.len());
        assert_same(&recorded, &made(Mode::Nftables, family, &ports));
        assert_same(&iptables("10", family), &made(Mode::Iptables, family, &ports));
    }
}

#[test]
fn a_thousand_services() {
    for (family, recorded) in nftables(&read("nftables.1000.nft")) {
        let ports = recorded::ports(&recorded);
        assert!(ports.len() > 1000, "{}", ports.len());
        assert_same(&recorded, &made(Mode::Nftables, family, &ports));
    }
}

#[test]
fn services_of_many_kinds() {
    let small = root().join("../proxy-agent/tests/golden/kube-proxy.anc-node.nft");
    for (family, recorded) in nftables(&fs::read_to_string(small).unwrap()) {
        let ports = recorded::ports(&recorded);
        assert!(ports.len() > 30, "{}", ports.len());
        assert_part(&recorded, &made(Mode::Nftables, family, &ports));
        assert_part(&iptables("small", family), &made(Mode::Iptables, family, &ports));
    }
}
