// SPDX-License-Identifier: Apache-2.0

//! What goes on to a backend on another node gets the node's address where it leaves.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, Result};
use proxy_common::counter::Reason;
use proxy_common::device::Device;
use proxy_common::locality::Locality;
use proxy_common::service::Policy;
use proxy_common::{Address as _, Family};
use proxy_tests::both_families;
use proxy_tests::protocol::Protocol;

use super::{ELSEWHERE, Outside, load_balancer, node, node_port, outsider, rig};
use crate::frames::{NODE_MAC, answer, backend, opening, proof, udp, vip};
use crate::loaded::SOURCE_PORTS;
use crate::programs::Verdict;
use crate::rig::{DEVICE, Rig, Tabled};

both_families!(
    a_backend_elsewhere_sees_the_node,
    a_cluster_ip_is_masqueraded_for_outsiders,
    the_nodes_own_pods_keep_their_addresses,
    a_pod_of_another_node_is_outside_at_node_ports,
    without_an_address_nothing_is_masqueraded,
    a_lost_masquerade_comes_back,
    datagrams_follow_the_nodes_address,
);

fn a_backend_elsewhere_sees_the_node<F: Tabled>() -> Result<()> {
    let rig = rig::<F>(&[backend::<F>(1)], Policy::default())?;
    for protocol in Protocol::ALL {
        for (port, frontend) in (40_000..).zip([node_port::<F>(), load_balancer::<F>()]) {
            let flow = Outside::open(&rig, protocol, outsider::<F>(port), frontend)?;
            assert_eq!(flow.source.ip(), node::<F>());
            assert!(SOURCE_PORTS.contains(&flow.source.port()), "{flow:?}");
            flow.works(&rig)?;
        }
    }
    assert_eq!(rig.count(Reason::FlowMasqueraded)?, 6);
    // Both the client's entries and those of the masquerade.
    assert_eq!(rig.count(Reason::FlowConfirmed)?, 12);
    Ok(())
}

fn a_cluster_ip_is_masqueraded_for_outsiders<F: Tabled>() -> Result<()> {
    let rig = rig::<F>(&[backend::<F>(1)], Policy::EXTERNAL_LOCAL)?;
    let flow = Outside::open(&rig, Protocol::Tcp, outsider::<F>(40_000), vip::<F>(1))?;
    assert_eq!(flow.source.ip(), node::<F>());
    flow.works(&rig)
}

fn the_nodes_own_pods_keep_their_addresses<F: Tabled>() -> Result<()> {
    let mut rig = rig::<F>(&[backend::<F>(1)], Policy::default())?;
    let pod = SocketAddr::new(F::pod(1, 12), 40_000);
    let from_pod = |rig: &mut Rig<F>, port: u16, frontend| -> Result<SocketAddr> {
        let client = SocketAddr::new(pod.ip(), port);
        rig.set_device(Device::routed().with_local_clients(true))?;
        let sent = opening(Protocol::Tcp, client, frontend);
        let inside = rig.programs.ingress(&sent)?.packet(Verdict::Pass)?;
        rig.set_device(Device::uplink(NODE_MAC))?;
        let left = rig.programs.leaves(&inside, ELSEWHERE)?.packet(Verdict::Pass)?;
        left.source_socket().context("ports")
    };
    for (port, frontend) in (1..).zip([vip::<F>(1), node_port::<F>(), load_balancer::<F>()]) {
        assert_eq!(from_pod(&mut rig, port, frontend)?, SocketAddr::new(pod.ip(), port));
    }
    // Who is local may be told by addresses: then this one is not.
    let prefix = |address: IpAddr| <F::Abi as Family>::Addr::from_ip(address).expect("the family");
    let network = Locality {
        mask: prefix(if pod.is_ipv4() {
            "255.255.0.0".parse()?
        } else {
            "ffff:ffff:ffff:ff00::".parse()?
        }),
        prefix: prefix(if pod.is_ipv4() { "10.99.0.0".parse()? } else { "fd00:99::".parse()? }),
        masquerades_all: 0,
    };
    rig.locality.set(0, network, 0)?;
    for (port, frontend) in (11..).zip([vip::<F>(1), node_port::<F>(), load_balancer::<F>()]) {
        assert_eq!(from_pod(&mut rig, port, frontend)?.ip(), node::<F>());
    }
    // And cluster IPs may be masqueraded for everybody.
    rig.locality.set(0, Locality { masquerades_all: 1, ..Locality::of_devices() }, 0)?;
    assert_eq!(from_pod(&mut rig, 21, vip::<F>(1))?.ip(), node::<F>());
    assert_eq!(from_pod(&mut rig, 22, node_port::<F>())?.ip(), pod.ip());
    Ok(())
}

/// By its address it is one of the cluster's pods, which cluster IPs are not masqueraded for.
fn a_pod_of_another_node_is_outside_at_node_ports<F: Tabled>() -> Result<()> {
    let mut rig = rig::<F>(&[backend::<F>(1)], Policy::default())?;
    let pod = SocketAddr::new(F::pod(3, 12), 40_000);
    let prefix = |address: IpAddr| <F::Abi as Family>::Addr::from_ip(address).expect("the family");
    let (mask, prefix) = if pod.is_ipv4() {
        (prefix("255.255.0.0".parse()?), prefix("10.244.0.0".parse()?))
    } else {
        (prefix("ffff:ffff:ffff::".parse()?), prefix("fd00:10:244::".parse()?))
    };
    rig.locality.set(0, Locality { mask, prefix, masquerades_all: 0 }, 0)?;
    for (port, frontend) in (1..).zip([node_port::<F>(), load_balancer::<F>()]) {
        let client = SocketAddr::new(pod.ip(), port);
        let flow = Outside::open(&rig, Protocol::Tcp, client, frontend)?;
        assert_eq!(flow.source.ip(), node::<F>());
        flow.works(&rig)?;
    }
    let flow = Outside::open(&rig, Protocol::Tcp, pod, vip::<F>(1))?;
    assert_eq!(flow.source, pod);
    Ok(())
}

fn without_an_address_nothing_is_masqueraded<F: Tabled>() -> Result<()> {
    let mut rig = rig::<F>(&[backend::<F>(1)], Policy::default())?;
    rig.host_addresses.remove(&DEVICE)?;
    let sent = opening(Protocol::Udp, outsider::<F>(40_000), node_port::<F>());
    let inside = rig.programs.arrives(&sent)?.packet(Verdict::Pass)?;
    rig.programs.leaves(&inside, DEVICE)?.is_dropped();
    assert_eq!(rig.count(Reason::DropMasquerade)?, 1);
    // A process of the node's own has addresses, and no flow.
    rig.programs.leaves(&inside, 0)?.is(Verdict::Pass, &inside)
}

fn a_lost_masquerade_comes_back<F: Tabled>() -> Result<()> {
    let mut rig = rig::<F>(&[backend::<F>(1)], Policy::default())?;
    let flow = Outside::open(&rig, Protocol::Udp, outsider::<F>(40_000), node_port::<F>())?;
    rig.forget_masquerades()?;
    let sent = udp(flow.client, flow.frontend, b"again");
    let inside = rig.programs.arrives(&sent)?.packet(Verdict::Pass)?;
    let left = rig.programs.leaves(&inside, DEVICE)?.packet(Verdict::Pass)?;
    let source = left.source_socket().context("ports")?;
    assert_eq!(source.ip(), node::<F>());
    Outside { source, ..flow }.works(&rig)
}

fn datagrams_follow_the_nodes_address<F: Tabled>() -> Result<()> {
    let mut rig = rig::<F>(&[backend::<F>(1)], Policy::default())?;
    let flows = Protocol::ALL
        .map(|protocol| Outside::open(&rig, protocol, outsider::<F>(40_000), node_port::<F>()));
    let new = F::underlay(9);
    rig.set_host_address(new)?;
    for flow in flows {
        let flow = flow?;
        if flow.protocol != Protocol::Udp {
            // A connection has the address that it began with.
            flow.reply(&rig, &answer(flow.protocol, flow.backend, flow.source))?;
            flow.request(&rig, &proof(flow.protocol, flow.client, flow.frontend))?;
        }
        let again = opening(flow.protocol, flow.client, flow.frontend);
        let inside = rig.programs.arrives(&again)?.packet(Verdict::Pass)?;
        let left = rig.programs.leaves(&inside, DEVICE)?.packet(Verdict::Pass)?;
        let source = left.source_socket().context("ports")?;
        assert_eq!(source.ip(), new);
        Outside { source, ..flow }.works(&rig)?;
        // Nobody is at the former address.
        let late = answer(flow.protocol, flow.backend, flow.source);
        rig.programs.arrives(&late)?.is(Verdict::Pass, &late)?;
    }
    Ok(())
}
