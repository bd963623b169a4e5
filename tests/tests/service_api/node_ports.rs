// SPDX-License-Identifier: Apache-2.0

//! At which addresses node ports are served, and to whom.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use proxy_tests::both_families;
use proxy_tests::cluster::eventually;
use proxy_tests::family::{DualAddress, IpFamily, TestFamily};
use proxy_tests::manifests::node_object;
use proxy_tests::netns::Prefix;
use proxy_tests::protocol::Protocol;
use proxy_tests::topology::{DEVICE, NodeSpec, TopologySpec};
use proxy_tests::traffic::{Client, CountedStream};
use serde_json::json;

use super::rig::{Frontend, LOCAL, NODE, NODE_PORT, OTHER_NODE, REMOTE, Rig};

both_families!(
    the_nodes_own_find_them_at_loopback_addresses,
    they_are_served_at_the_primary_address,
    modes_have_their_defaults,
    ranges_follow_the_nodes_addresses,
    they_follow_the_primary_address,
    ranges_of_the_other_family_do_not_count,
);

/// Longer than an answer takes, and shorter than a test should wait for none.
const SHORT: Duration = Duration::from_millis(300);
/// Another address of the node.
const SECOND: DualAddress = DualAddress::underlay(50);
/// Enough that both backends have some.
const STREAMS: usize = 4;

fn rig() -> Result<Rig> {
    let spec = TopologySpec::new().node(NodeSpec::bridge(NODE).pod("client", 11).pod(LOCAL, 12));
    let rig = Rig::of_one_node(spec)?;
    rig.cluster.manifests.apply(&rig.service(&[LOCAL]))?;
    Ok(rig)
}

fn give(rig: &Rig, family: IpFamily) -> Result<()> {
    let netlink = rig.node().namespace().netlink()?;
    let prefix = Prefix(SECOND.of(family), family.host_prefix_length());
    netlink.add_address(netlink.link(DEVICE)?, prefix)
}

fn the_nodes_own_find_them_at_loopback_addresses<F: TestFamily>() -> Result<()> {
    let rig = rig()?;
    let mut agent = rig.start()?;
    let is_v4 = F::FAMILY == IpFamily::V4;
    let addresses: &[&str] = if is_v4 { &["127.0.0.1", "127.9.8.7"] } else { &["::1"] };
    for address in addresses {
        let target = SocketAddr::new(address.parse()?, NODE_PORT);
        for protocol in Protocol::OF_SOCKETS {
            let answer = Client::new(rig.node()).ask(protocol, target)?;
            ensure!(answer.server == LOCAL && answer.peer == target, "{answer:?}");
            let elsewhere = Client::new(rig.pod("client")).ask(protocol, target);
            ensure!(elsewhere.is_err_and(|failure| failure.is_refusal()), "a pod's own loopback");
        }
    }
    ensure!(agent.stop()?.success());
    Ok(())
}

fn they_are_served_at_the_primary_address<F: TestFamily>() -> Result<()> {
    let rig = rig()?;
    give(&rig, F::FAMILY)?;
    let mut agent = rig.start()?;
    let at = |address: IpAddr| SocketAddr::new(address, NODE_PORT);
    for protocol in Protocol::OF_SOCKETS {
        for from in [rig.pod("client"), rig.outsider(), rig.node()] {
            let client = Client::new(from);
            ensure!(client.ask(protocol, at(rig.node().address(F::FAMILY)))?.server == LOCAL);
            // Linux sends a host one ICMP error a second, and may have sent it a redirect just now.
            let is_refused = || {
                let second = client.patience(SHORT).ask(protocol, at(SECOND.of(F::FAMILY)));
                second.is_err_and(|failure| failure.is_refusal())
            };
            ensure!(eventually(is_refused), "{protocol} from {}", from.name());
        }
    }
    ensure!(agent.stop()?.success());
    Ok(())
}

/// Where nothing is said of addresses, all of them count in kube-proxy's modes but nftables.
fn modes_have_their_defaults<F: TestFamily>() -> Result<()> {
    let rig = rig()?;
    give(&rig, F::FAMILY)?;
    for (mode, is_everywhere) in [("iptables", true), ("ipvs", true), ("nftables", false)] {
        let mut agent = rig.agent().argument(format!("--proxy-mode={mode}")).start()?;
        let client = Client::new(rig.outsider());
        let at = |address: IpAddr| SocketAddr::new(address, NODE_PORT);
        let second = at(SECOND.of(F::FAMILY));
        for protocol in Protocol::OF_SOCKETS {
            let _ = client.ask(protocol, at(rig.node().address(F::FAMILY)))?;
            let is_so = || client.patience(SHORT).ask(protocol, second).is_ok() == is_everywhere;
            ensure!(eventually(is_so), "{mode}, {protocol}: elsewhere, {is_everywhere} expected");
        }
        ensure!(agent.stop()?.success());
    }
    Ok(())
}

/// Connections that have nothing to do with the node's addresses.
fn streams<F: TestFamily>(rig: &Rig) -> Result<Vec<CountedStream>> {
    let mut streams = Vec::new();
    for (from, frontend) in [
        (rig.pod("client"), Frontend::ClusterIp),
        (rig.node(), Frontend::ClusterIp),
        (rig.outsider(), Frontend::LoadBalancer),
        (rig.outsider(), Frontend::ExternalIp),
    ] {
        for _ in 0..STREAMS {
            streams.push(Client::new(from).stay(frontend.target(F::FAMILY))?);
        }
    }
    Ok(streams)
}

fn go_on(streams: &mut [CountedStream]) -> Result<()> {
    for stream in streams {
        let _ = stream.exchange().with_context(|| format!("{stream:?}"))?;
    }
    Ok(())
}

/// The Node's `InternalIP` becomes another one, and the former again.
fn they_follow_the_primary_address<F: TestFamily>() -> Result<()> {
    let rig = Rig::new(
        TopologySpec::new()
            .node(NodeSpec::bridge(NODE).pod("client", 11).pod(LOCAL, 12))
            .node(NodeSpec::routed(OTHER_NODE).pod(REMOTE, 22)),
    )?;
    rig.cluster.manifests.apply(&rig.service(&[LOCAL, REMOTE]))?;
    let mut agent = rig.start()?;
    let at = |address: IpAddr| SocketAddr::new(address, NODE_PORT);
    let (first, second) = (rig.node().address(F::FAMILY), SECOND.of(F::FAMILY));
    let mut streams = streams::<F>(&rig)?;
    // Who is known goes on, although others are refused there.
    streams.push(Client::new(rig.outsider()).stay(at(first))?);
    give(&rig, F::FAMILY)?;
    for (primary, other) in [(second, first), (first, second)] {
        let mut object = node_object(rig.cluster.topology.node(NODE), None);
        let addresses = IpFamily::ALL
            .map(|family| if family == F::FAMILY { primary } else { rig.node().address(family) });
        let addresses = addresses.map(|ip| json!({ "type": "InternalIP", "address": ip }));
        object["status"]["addresses"] = json!(addresses);
        rig.cluster.manifests.write_list(NODE, &[object])?;
        for protocol in Protocol::OF_SOCKETS {
            for from in [rig.outsider(), rig.pod("client"), rig.node()] {
                let client = Client::new(from).patience(SHORT);
                let is_served = || client.ask(protocol, at(primary)).is_ok();
                ensure!(eventually(is_served), "{protocol} from {}: not served", from.name());
                let is_refused =
                    || client.ask(protocol, at(other)).is_err_and(|failure| failure.is_refusal());
                ensure!(eventually(is_refused), "{protocol} from {}: still served", from.name());
            }
        }
        go_on(&mut streams)?;
    }
    ensure!(agent.stop()?.success());
    Ok(())
}

fn ranges_follow_the_nodes_addresses<F: TestFamily>() -> Result<()> {
    let rig = rig()?;
    let second = SECOND.of(F::FAMILY);
    let range = format!("{second}/{}", F::FAMILY.host_prefix_length());
    let mut agent = rig.agent().argument(format!("--nodeport-addresses={range}")).start()?;
    let at = |address: IpAddr| SocketAddr::new(address, NODE_PORT);
    let mut streams = streams::<F>(&rig)?;
    let outsider = Client::new(rig.outsider());
    for protocol in Protocol::OF_SOCKETS {
        give(&rig, F::FAMILY)?;
        let is_served = || outsider.ask(protocol, at(second)).is_ok();
        ensure!(eventually(is_served), "{protocol}: not served at its new address");
        let primary = outsider.ask(protocol, at(rig.node().address(F::FAMILY)));
        ensure!(primary.is_err_and(|failure| failure.is_refusal()), "{protocol}");
        let netlink = rig.node().namespace().netlink()?;
        let prefix = Prefix(second, F::FAMILY.host_prefix_length());
        netlink.remove_address(netlink.link(DEVICE)?, prefix)?;
        // It is not the node's any more, but a pod's packets pass by there.
        let pod = Client::new(rig.pod("client")).patience(SHORT);
        ensure!(eventually(|| pod.ask(protocol, at(second)).is_err()), "{protocol}: still served");
        go_on(&mut streams)?;
    }
    ensure!(agent.stop()?.success());
    Ok(())
}

fn ranges_of_the_other_family_do_not_count<F: TestFamily>() -> Result<()> {
    let rig = rig()?;
    give(&rig, F::FAMILY)?;
    // One that the node has no address of.
    let other = if F::FAMILY == IpFamily::V4 { "2001:db8::/32" } else { "203.0.113.0/24" };
    let mut agent = rig.agent().argument(format!("--nodeport-addresses={other}")).start()?;
    let loopback = if F::FAMILY == IpFamily::V4 { "127.0.0.1" } else { "::1" }.parse()?;
    let (primary, second) = (rig.node().address(F::FAMILY), SECOND.of(F::FAMILY));
    for protocol in Protocol::OF_SOCKETS {
        for (from, address) in [
            (rig.outsider(), primary),
            (rig.outsider(), second),
            (rig.pod("client"), second),
            (rig.node(), loopback),
        ] {
            let target = SocketAddr::new(address, NODE_PORT);
            let is_served = || Client::new(from).ask(protocol, target).is_ok();
            ensure!(eventually(is_served), "{protocol} from {} to {target}", from.name());
        }
    }
    ensure!(agent.stop()?.success());
    Ok(())
}
