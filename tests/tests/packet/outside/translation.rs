// SPDX-License-Identifier: Apache-2.0

//! Clients outside are translated where they come in, and their replies where they leave.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use proxy_common::counter::Reason;
use proxy_common::device::Device;
use proxy_common::frontend::ServiceIndex;
use proxy_common::service::Policy;
use proxy_tests::both_families;
use proxy_tests::packet::{Packet, TcpFlags};
use proxy_tests::protocol::Protocol;

use super::{ELSEWHERE, Outside, load_balancer, node, node_port, outsider, rig};
use crate::frames::{NODE_MAC, answer, backend, opening, proof, tcp, udp, vip};
use crate::loaded::SOURCE_PORTS;
use crate::programs::Verdict;
use crate::rig::{DEVICE, Tabled};

both_families!(
    a_client_outside_is_translated_at_the_uplink,
    a_local_policy_keeps_the_clients_address,
    a_direct_connection_beside_a_translated_one_works,
    the_node_answers_strays_to_its_node_ports,
    errors_find_their_way_back,
);

fn a_client_outside_is_translated_at_the_uplink<F: Tabled>() -> Result<()> {
    let rig = rig::<F>(&[backend::<F>(1)], Policy::default())?;
    let both = |protocol| [node_port::<F>(), load_balancer::<F>()].map(|to| (protocol, to));
    for (port, (protocol, frontend)) in (40_000..).zip(Protocol::ALL.into_iter().flat_map(both)) {
        let client = outsider::<F>(port);
        let sent = opening(protocol, client, frontend);
        let inside = sent.clone().to(backend::<F>(1));
        rig.programs.arrives(&sent)?.is(Verdict::Pass, &inside)?;
        // The backend is on this node: its answer leaves by the uplink.
        let said = answer(protocol, backend::<F>(1), client);
        rig.programs.leaves(&said, ELSEWHERE)?.is(Verdict::Pass, &said.clone().from(frontend))?;
        let sent = proof(protocol, client, frontend);
        rig.programs.arrives(&sent)?.is(Verdict::Pass, &sent.clone().to(backend::<F>(1)))?;
    }
    assert_eq!(rig.count(Reason::FlowCreated)?, 6);
    assert_eq!(rig.count(Reason::FlowConfirmed)?, 6);
    assert_eq!(rig.count(Reason::FlowMasqueraded)?, 0);
    Ok(())
}

fn a_local_policy_keeps_the_clients_address<F: Tabled>() -> Result<()> {
    let mut rig = rig::<F>(&[backend::<F>(1)], Policy::EXTERNAL_LOCAL)?;
    let sent = opening(Protocol::Tcp, outsider::<F>(40_000), node_port::<F>());
    rig.programs.arrives(&sent)?.is_dropped();
    assert_eq!(rig.count(Reason::DropPolicyLocal)?, 1);
    let local = rig.backend_set(&[backend::<F>(2)])?;
    rig.tables.publish_local(ServiceIndex::FIRST, local)?;
    let inside = sent.clone().to(backend::<F>(2));
    rig.programs.arrives(&sent)?.is(Verdict::Pass, &inside)?;
    rig.programs.leaves(&inside, DEVICE)?.is(Verdict::Pass, &inside)?;
    // A pod of the node's own is not bound by it.
    rig.set_device(Device::routed().with_local_clients(true))?;
    let from_pod = opening(Protocol::Tcp, SocketAddr::new(F::pod(1, 12), 40_000), node_port::<F>());
    let inside = from_pod.clone().to(backend::<F>(1));
    rig.programs.ingress(&from_pod)?.is(Verdict::Pass, &inside)
}

fn a_direct_connection_beside_a_translated_one_works<F: Tabled>() -> Result<()> {
    let rig = rig::<F>(&[backend::<F>(1)], Policy::EXTERNAL_LOCAL)?;
    let mut rig = rig;
    let local = rig.backend_set(&[backend::<F>(1)])?;
    rig.tables.publish_local(ServiceIndex::FIRST, local)?;
    let client = outsider::<F>(40_000);
    // Nothing is noted of it as long as it is alone.
    let direct = opening(Protocol::Tcp, client, backend::<F>(1));
    rig.programs.arrives(&direct)?.is(Verdict::Pass, &direct)?;
    assert_eq!(rig.count(Reason::FlowCreated)?, 0);
    let sent = opening(Protocol::Tcp, client, node_port::<F>());
    rig.programs.arrives(&sent)?.is(Verdict::Pass, &sent.clone().to(backend::<F>(1)))?;
    let moved = rig.programs.arrives(&direct)?.packet(Verdict::Pass)?;
    let source = moved.source_socket().context("ports")?;
    assert_eq!(source.ip(), client.ip());
    assert!(SOURCE_PORTS.contains(&source.port()), "{source}");
    let said = answer(Protocol::Tcp, backend::<F>(1), source);
    rig.programs.leaves(&said, ELSEWHERE)?.is(Verdict::Pass, &said.clone().to(client))?;
    let said = answer(Protocol::Tcp, backend::<F>(1), client);
    let restored = said.clone().from(node_port::<F>());
    rig.programs.leaves(&said, ELSEWHERE)?.is(Verdict::Pass, &restored)
}

fn the_node_answers_strays_to_its_node_ports<F: Tabled>() -> Result<()> {
    let rig = rig::<F>(&[backend::<F>(1)], Policy::default())?;
    let stray = tcp(outsider::<F>(40_000), node_port::<F>(), TcpFlags::ACK);
    rig.programs.arrives(&stray)?.is(Verdict::Pass, &stray)?;
    let stray = tcp(outsider::<F>(40_000), load_balancer::<F>(), TcpFlags::ACK);
    let _: Packet = rig.programs.arrives(&stray)?.packet(Verdict::Redirect)?;
    assert_eq!(rig.count(Reason::RejectNoFlow)?, 1);
    // Other ports of the node are its own, those of a cluster IP are refused.
    let other = opening(Protocol::Tcp, outsider::<F>(40_000), SocketAddr::new(node::<F>(), 22));
    rig.programs.arrives(&other)?.is(Verdict::Pass, &other)?;
    let mut wrong = vip::<F>(1);
    wrong.set_port(81);
    let refused = opening(Protocol::Tcp, outsider::<F>(40_000), wrong);
    let _: Packet = rig.programs.arrives(&refused)?.packet(Verdict::Redirect)?;
    assert_eq!(rig.count(Reason::RejectNoPort)?, 1);
    Ok(())
}

/// About a masqueraded request, from a router on the way to the backend; and about a reply, from one
/// on the way to the client.
fn errors_find_their_way_back<F: Tabled>() -> Result<()> {
    let rig = rig::<F>(&[backend::<F>(1)], Policy::default())?;
    let flow = Outside::open(&rig, Protocol::Udp, outsider::<F>(40_000), node_port::<F>())?;
    let router = F::underlay(254);
    let about = |from, to| {
        let mut error = Packet::port_unreachable(router, &udp(from, to, b"question"))?;
        error.link.destination = NODE_MAC;
        anyhow::Ok(error)
    };
    let outside = about(flow.source, flow.backend)?;
    let inside = rig.programs.arrives(&outside)?.packet(Verdict::Pass)?;
    assert_eq!((inside.source, inside.destination), (router, flow.client.ip()));
    let left = rig.programs.leaves(&inside, DEVICE)?.packet(Verdict::Pass)?;
    assert_eq!(left, about(flow.client, flow.frontend)?);
    let outside = about(flow.frontend, flow.client)?;
    let inside = rig.programs.arrives(&outside)?.packet(Verdict::Pass)?;
    assert_eq!((inside.source, inside.destination), (router, flow.backend.ip()));
    let left = rig.programs.leaves(&inside, DEVICE)?.packet(Verdict::Pass)?;
    assert_eq!(left, about(flow.backend, flow.source)?);
    assert_eq!(rig.count(Reason::IcmpErrorTranslated)?, 4);
    Ok(())
}
