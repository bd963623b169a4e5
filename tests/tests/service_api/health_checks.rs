// SPDX-License-Identifier: Apache-2.0

//! Health checks of load balancers through a running agent.

use std::io::ErrorKind;
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};
use std::time::Duration;

use anyhow::{Result, ensure};
use nix::net::if_::if_nametoindex;
use proxy_tests::both_families;
use proxy_tests::cluster::eventually;
use proxy_tests::family::{IpFamily, TestFamily};
use proxy_tests::manifests::Endpoint;
use proxy_tests::netns::Prefix;
use proxy_tests::topology::{DEVICE, Host, NodeSpec, TopologySpec};
use proxy_tests::traffic::Client;
use serde_json::{Value, json};

use super::rig::{LOCAL, NODE, Rig};

both_families!(
    load_balancers_learn_of_local_endpoints,
    without_restriction_they_ask_at_all_addresses,
);

const PORT: u16 = 30_999;
/// Longer than an answer takes.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a load balancer sees: the status, the weight, and the count.
fn check(from: &Host, at: SocketAddr) -> Result<(u16, String, Value)> {
    let probed = Client::new(from).patience(PATIENCE).probe(at, "/healthz")?;
    let weight = probed.header("X-Load-Balancing-Endpoint-Weight").unwrap_or_default().to_owned();
    let body: Value = serde_json::from_str(&probed.body)?;
    Ok((probed.status, weight, body["localEndpoints"].clone()))
}

fn load_balancers_learn_of_local_endpoints<F: TestFamily>() -> Result<()> {
    let spec = TopologySpec::new().node(NodeSpec::bridge(NODE).pod(LOCAL, 12).pod("web-2", 13));
    let rig = Rig::of_one_node(spec)?;
    let service = |backends: &[&str]| {
        rig.service(backends)
            .field("externalTrafficPolicy", json!("Local"))
            .field("healthCheckNodePort", json!(PORT))
    };
    rig.cluster.manifests.apply(&service(&[LOCAL, "web-2"]))?;
    let mut agent = rig.start()?;
    let at = SocketAddr::new(rig.node().address(F::FAMILY), PORT);
    let becomes = |status: u16, count: u32| {
        let expected = (status, count.to_string(), json!(count));
        eventually(|| check(rig.outsider(), at).is_ok_and(|seen| seen == expected))
    };
    ensure!(becomes(200, 2), "{:?}", check(rig.outsider(), at));
    rig.cluster.manifests.apply(&service(&[LOCAL]))?;
    ensure!(becomes(200, 1), "{:?}", check(rig.outsider(), at));
    // One that terminates serves, but load balancers are to look elsewhere.
    let ending = Endpoint::of(rig.pod(LOCAL)).conditions(false, true, true);
    rig.cluster.manifests.apply(&service(&[]).endpoints([ending]))?;
    ensure!(becomes(503, 0), "{:?}", check(rig.outsider(), at));
    // Others have no such port, whatever else is left in them.
    let is_closed = || {
        let connected = Client::new(rig.outsider()).patience(PATIENCE).connect(at);
        connected.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
    };
    let others = [
        ("a cluster policy", rig.service(&[LOCAL])),
        ("NodePort", service(&[LOCAL]).field("type", json!("NodePort"))),
        ("ClusterIP", service(&[LOCAL]).field("type", json!("ClusterIP"))),
    ];
    for (name, other) in others {
        rig.cluster.manifests.apply(&service(&[LOCAL]))?;
        ensure!(becomes(200, 1), "before {name}: {:?}", check(rig.outsider(), at));
        rig.cluster.manifests.apply(&other)?;
        ensure!(eventually(is_closed), "{name}: it still answers");
    }
    ensure!(agent.stop()?.success());
    Ok(())
}

/// Gives the node a link-local address, which the outsider reaches it by.
fn link_local<F: TestFamily>(rig: &Rig) -> Result<SocketAddr> {
    let (numbers, length) = match F::FAMILY {
        IpFamily::V4 => (["169.254.7.1", "169.254.7.2"], 24),
        IpFamily::V6 => (["fe80::7:1", "fe80::7:2"], 64),
    };
    for (host, address) in [rig.node(), rig.outsider()].into_iter().zip(numbers) {
        let netlink = host.namespace().netlink()?;
        netlink.add_address(netlink.link(DEVICE)?, Prefix(address.parse()?, length))?;
    }
    match F::FAMILY {
        IpFamily::V4 => Ok(SocketAddr::new(numbers[0].parse()?, PORT)),
        IpFamily::V6 => {
            let device = rig.outsider().namespace().run(|| Ok(if_nametoindex(DEVICE)?))?;
            let address: Ipv6Addr = numbers[0].parse()?;
            Ok(SocketAddrV6::new(address, PORT, 0, device).into())
        }
    }
}

/// Where all addresses of a family are named, and where none is; elsewhere at those alone.
fn without_restriction_they_ask_at_all_addresses<F: TestFamily>() -> Result<()> {
    let rig = Rig::of_one_node(TopologySpec::new().node(NodeSpec::bridge(NODE).pod(LOCAL, 12)))?;
    let service = rig.service(&[LOCAL]).field("externalTrafficPolicy", json!("Local"));
    rig.cluster.manifests.apply(&service.field("healthCheckNodePort", json!(PORT)))?;
    let primary = SocketAddr::new(rig.node().address(F::FAMILY), PORT);
    let link_local = link_local::<F>(&rig)?;
    let (loopback, all, other) = match F::FAMILY {
        IpFamily::V4 => ("127.0.0.1", "0.0.0.0/0", "2001:db8::/32"),
        IpFamily::V6 => ("::1", "::/0", "203.0.113.0/24"),
    };
    let loopback = SocketAddr::new(loopback.parse()?, PORT);
    let alone = |at: SocketAddr| Prefix(at.ip(), F::FAMILY.host_prefix_length()).to_string();
    let (own, both) = (alone(primary), [primary, loopback].map(alone).join(","));
    for (ranges, at_loopback, at_link_local) in [
        ("primary", false, false),
        (&*own, false, false),
        (&*both, true, false),
        (all, true, true),
        (other, true, true),
    ] {
        let mut agent = rig.agent().argument(format!("--nodeport-addresses={ranges}")).start()?;
        for (from, at, expected) in [
            (rig.outsider(), primary, true),
            (rig.node(), loopback, at_loopback),
            (rig.outsider(), link_local, at_link_local),
        ] {
            let is_answered = || check(from, at).is_ok_and(|(status, ..)| status == 200);
            let is_as_expected = || is_answered() == expected;
            ensure!(eventually(is_as_expected), "{ranges}: from {} at {at}", from.name());
        }
        ensure!(agent.stop()?.success());
    }
    Ok(())
}
