// SPDX-License-Identifier: Apache-2.0

//! Uplinks that are more than one NIC, and clients behind a router.

use anyhow::{Result, ensure};
use proxy_tests::agent::AgentSpec;
use proxy_tests::both_families;
use proxy_tests::cluster::eventually;
use proxy_tests::family::{DualAddress, IpFamily, TestFamily};
use proxy_tests::netns::{Prefix, Veth};
use proxy_tests::protocol::Protocol;
use proxy_tests::topology::{DEVICE, NodeSpec, TopologySpec, Uplink, subnet_length};
use proxy_tests::traffic::Client;

use super::rig::{Frontend, LOCAL, NODE, OTHER_NODE, REMOTE, Rig, is_served};

both_families!(
    a_client_behind_a_router,
    answers_that_leave_by_another_uplink,
    backends_behind_another_uplink,
    a_client_behind_a_tunnel,
    a_bridge_that_has_the_nodes_address,
    an_uplink_without_addresses,
);

/// The node's other uplink, and the router's end of it.
pub(super) const OTHER_UPLINK: &str = "eth1";

pub(super) fn nodes() -> TopologySpec {
    TopologySpec::new()
        .node(NodeSpec::bridge(NODE).pod("client", 11).pod(LOCAL, 12))
        .node(NodeSpec::routed(OTHER_NODE).pod(REMOTE, 22))
        .outsider("router", 101)
}

/// The client `far` behind the machine `router`, which sends what is for the node to it.
pub(super) fn with_router(spec: TopologySpec) -> Result<Rig> {
    let mut rig = Rig::new(spec)?;
    rig.cluster.topology.add_behind("router", "far", 7)?;
    for family in IpFamily::ALL {
        for frontend in [Frontend::ClusterIp, Frontend::LoadBalancer, Frontend::ExternalIp] {
            let router = rig.cluster.topology.outsider("router");
            rig.send_to_node(router, frontend.target(family).ip())?;
        }
    }
    Ok(rig)
}

/// Each frontend serves the client behind the router: the backend on the node sees the client,
/// the other one the node.
pub(super) fn serves_far<F: TestFamily>(rig: &Rig) -> Result<()> {
    let far = rig.cluster.topology.outsider("far");
    let node = rig.node().address(F::FAMILY);
    for frontend in Frontend::ALL {
        let expected = [(LOCAL, far.address(F::FAMILY)), (REMOTE, node)];
        is_served(far, frontend.target(F::FAMILY), &expected)?;
    }
    Ok(())
}

/// The same, through an agent with these arguments.
fn is_far_served<F: TestFamily>(rig: &Rig, arguments: &[&str]) -> Result<()> {
    rig.cluster.manifests.apply(&rig.service(&[LOCAL, REMOTE]))?;
    let mut agent = arguments.iter().fold(rig.agent(), AgentSpec::argument).start()?;
    serves_far::<F>(rig)?;
    ensure!(agent.stop()?.success());
    Ok(())
}

fn a_client_behind_a_router<F: TestFamily>() -> Result<()> {
    is_far_served::<F>(&with_router(nodes())?, &[])
}

/// Joins the node and the router by devices of their own.
pub(super) fn join_otherwise(rig: &Rig) -> Result<()> {
    let router = rig.cluster.topology.outsider("router").namespace();
    let here = rig.node().namespace().netlink()?;
    here.add_veth(Veth::named(OTHER_UPLINK), Veth::named(OTHER_UPLINK), router)?;
    give_addresses(rig)
}

/// Gives addresses to both ends of what joins them.
pub(super) fn give_addresses(rig: &Rig) -> Result<()> {
    let router = rig.cluster.topology.outsider("router").namespace();
    let (here, there) = (rig.node().namespace().netlink()?, router.netlink()?);
    for family in IpFamily::ALL {
        let prefix = |host| Prefix(between(host).of(family), subnet_length(family));
        here.add_address(here.link(OTHER_UPLINK)?, prefix(1))?;
        there.add_address(there.link(OTHER_UPLINK)?, prefix(2))?;
    }
    // Strict, it drops what comes by another way than the answer would take.
    rig.node().namespace().sysctl([("ipv4/conf/all/rp_filter", "2")])
}

/// Addresses between the node and the router: of a pod CIDR that is no node's.
pub(super) const fn between(host: u8) -> DualAddress {
    DualAddress::pod(9, host)
}

/// Has the node send what is for this network out by its other uplink, which has a default route,
/// if not the best.
fn route_otherwise(rig: &Rig, network: Prefix) -> Result<()> {
    send_otherwise(rig, network, "")?;
    send_otherwise(rig, Prefix(IpFamily::of(network.0).unspecified(), 0), "metric 2000")
}

/// Has the node send what is for this network out by its other uplink.
pub(super) fn send_otherwise(rig: &Rig, network: Prefix, more: &str) -> Result<()> {
    let family = IpFamily::of(network.0);
    let option = if family == IpFamily::V4 { "-4" } else { "-6" };
    let gateway = between(2).of(family);
    let words = format!("{option} route replace {network} via {gateway} dev {OTHER_UPLINK} {more}");
    rig.node().namespace().ip(&words)
}

/// The other node's pods, which the router knows the way to from now on, as they do the way back to
/// the node's other address.
pub(super) fn pods_behind_the_router(rig: &Rig, family: IpFamily) -> Result<Prefix> {
    let router = rig.cluster.topology.outsider("router");
    let other = rig.cluster.topology.node(OTHER_NODE).host();
    let pods = Prefix(DualAddress::pod(2, 0).of(family), subnet_length(family));
    let (there, back) = (router.namespace().netlink()?, other.namespace().netlink()?);
    there.add_route(pods, Some(other.address(family)), there.link(DEVICE)?)?;
    let here = Prefix(between(0).of(family), subnet_length(family));
    back.add_route(here, Some(router.address(family)), back.link(DEVICE)?)?;
    Ok(pods)
}

/// The node's default routes are over both uplinks: requests come by the one, answers leave by the
/// other.
fn answers_that_leave_by_another_uplink<F: TestFamily>() -> Result<()> {
    let rig = with_router(nodes())?;
    join_otherwise(&rig)?;
    for family in IpFamily::ALL {
        route_otherwise(&rig, Prefix(DualAddress::far(0).of(family), subnet_length(family)))?;
    }
    is_far_served::<F>(&rig, &[])
}

/// The other node's pods are reached over the other uplink, by the router: they see the address
/// that the node has there.
fn backends_behind_another_uplink<F: TestFamily>() -> Result<()> {
    let rig = with_router(nodes())?;
    join_otherwise(&rig)?;
    for family in IpFamily::ALL {
        route_otherwise(&rig, pods_behind_the_router(&rig, family)?)?;
    }
    rig.cluster.manifests.apply(&rig.service(&[LOCAL, REMOTE]))?;
    let mut agent = rig.start()?;
    for from in [rig.outsider(), rig.cluster.topology.outsider("far")] {
        for frontend in Frontend::ALL {
            let expected = [(LOCAL, from.address(F::FAMILY)), (REMOTE, between(1).of(F::FAMILY))];
            is_served(from, frontend.target(F::FAMILY), &expected)?;
        }
    }
    ensure!(agent.stop()?.success());
    Ok(())
}

/// What a client's way to the node leads through.
#[derive(Clone, Copy)]
pub(super) enum Tunnel {
    /// Frames in UDP.
    Vxlan,
    /// Packets in packets of the same family.
    IpInIp,
}

/// Joins the router and the node by a tunnel, by which packets go from the one's clients to the
/// other's VIPs, and back. The node's own address is where the tunnel ends.
pub(super) fn join_by_tunnel(rig: &Rig, tunnel: Tunnel) -> Result<()> {
    let (node, router) = (rig.node(), rig.cluster.topology.outsider("router"));
    for family in IpFamily::ALL {
        let (name, kind) = match (tunnel, family) {
            (Tunnel::Vxlan, IpFamily::V4) => {
                ("over4", format!("vxlan id 4 dstport 4789 dev {DEVICE}"))
            }
            (Tunnel::Vxlan, IpFamily::V6) => {
                ("over6", format!("vxlan id 6 dstport 4790 dev {DEVICE}"))
            }
            (Tunnel::IpInIp, IpFamily::V4) => ("over4", "ipip".to_owned()),
            (Tunnel::IpInIp, IpFamily::V6) => ("over6", "ip6tnl mode ip6ip6".to_owned()),
        };
        let option = if family == IpFamily::V4 { "-4" } else { "-6" };
        for (number, here, there) in [(1, node, router), (2, router, node)] {
            let (local, remote) = (here.address(family), there.address(family));
            let namespace = here.namespace();
            namespace.ip(&format!("link add {name} type {kind} local {local} remote {remote}"))?;
            let netlink = namespace.netlink()?;
            netlink.up(name)?;
            let own = Prefix(between(number).of(family), subnet_length(family));
            netlink.add_address(netlink.link(name)?, own)?;
        }
        let route = |destination: Prefix, number: u8| {
            let gateway = between(number).of(family);
            format!("{option} route replace {destination} via {gateway} dev {name}")
        };
        let far = Prefix(DualAddress::far(0).of(family), subnet_length(family));
        node.namespace().ip(&route(far, 2))?;
        for frontend in OVER_TUNNELS {
            let vip = Prefix(frontend.target(family).ip(), family.host_prefix_length());
            router.namespace().ip(&route(vip, 1))?;
        }
    }
    Ok(())
}

/// What is not at the node's own address.
const OVER_TUNNELS: [Frontend; 3] =
    [Frontend::ClusterIp, Frontend::LoadBalancer, Frontend::ExternalIp];

/// Each of these serves the client; and where there are no endpoints, refuses it.
pub(super) fn serves_over_tunnel<F: TestFamily>(rig: &Rig) -> Result<()> {
    let far = rig.cluster.topology.outsider("far");
    rig.cluster.manifests.apply(&rig.service(&[LOCAL, REMOTE]))?;
    for frontend in OVER_TUNNELS {
        let expected = [(LOCAL, far.address(F::FAMILY)), (REMOTE, rig.node().address(F::FAMILY))];
        is_served(far, frontend.target(F::FAMILY), &expected)?;
    }
    rig.cluster.manifests.apply(&rig.service(&[]))?;
    for frontend in OVER_TUNNELS {
        for protocol in Protocol::OF_SOCKETS {
            let ask = || Client::new(far).ask(protocol, frontend.target(F::FAMILY));
            let is_refused = || ask().is_err_and(|failure| failure.is_refusal());
            ensure!(eventually(is_refused), "{protocol} {frontend:?} is not refused");
        }
    }
    Ok(())
}

fn a_client_behind_a_tunnel<F: TestFamily>() -> Result<()> {
    let rig = with_router(nodes())?;
    join_by_tunnel(&rig, Tunnel::Vxlan)?;
    rig.cluster.manifests.apply(&rig.service(&[LOCAL, REMOTE]))?;
    let mut agent = rig.start()?;
    serves_over_tunnel::<F>(&rig)?;
    ensure!(agent.stop()?.success());
    Ok(())
}

fn a_bridge_that_has_the_nodes_address<F: TestFamily>() -> Result<()> {
    let rig = with_router(nodes().uplink(Uplink::Bridge))?;
    // Its port is a veth here, which is taken for a pod's on any other bridge.
    is_far_served::<F>(&rig, &["--exclude-device", "port"])
}

/// As with BGP between machines: the node's addresses are its loopback device's.
fn an_uplink_without_addresses<F: TestFamily>() -> Result<()> {
    let rig = with_router(nodes())?;
    let topology = &rig.cluster.topology;
    let (router, other) = (topology.outsider("router"), topology.node(OTHER_NODE).host());
    let node = rig.node().namespace().netlink()?;
    let uplink = node.link(DEVICE)?;
    let mac = node.mac(uplink)?;
    for family in IpFamily::ALL {
        let own = |length| Prefix(rig.node().address(family), length);
        node.add_address(node.link("lo")?, own(family.host_prefix_length()))?;
        node.remove_address(uplink, own(subnet_length(family)))?;
        if family == IpFamily::V4 {
            // They have gone with the last address.
            for (network, gateway) in
                [(DualAddress::far(0), router), (DualAddress::pod(2, 0), other)]
            {
                let network = Prefix(network.of(family), subnet_length(family));
                node.add_route(network, Some(gateway.address(family)), uplink)?;
            }
            node.add_route(Prefix(family.unspecified(), 0), Some(router.address(family)), uplink)?;
        }
        // Nobody answers for addresses of a loopback device in IPv6.
        for neighbour in [router, other] {
            let neighbour = neighbour.namespace().netlink()?;
            neighbour.add_neighbour(neighbour.link(DEVICE)?, rig.node().address(family), mac)?;
        }
    }
    is_far_served::<F>(&rig, &[])
}
