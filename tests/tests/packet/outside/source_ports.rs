// SPDX-License-Identifier: Apache-2.0

//! The ports that masqueraded flows share.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use proxy_common::counter::Reason;
use proxy_common::frontend::FrontendKind;
use proxy_common::service::Policy;
use proxy_tests::both_families;
use proxy_tests::packet::{Chunk, Content, Packet, TcpFlags};
use proxy_tests::protocol::Protocol;

use super::{Outside, equip, node_port, outsider, rig};
use crate::frames::{answer, backend, opening, proof, tcp, vip};
use crate::programs::Verdict;
use crate::races::{FLOWS, race};
use crate::rig::{DEVICE, Rig, Tabled};

both_families!(
    each_masqueraded_flow_has_a_port_of_its_own,
    without_a_free_port_a_flow_is_refused,
    who_proves_nothing_leaves_his_port,
    who_is_there_keeps_his_port,
    what_an_ended_flow_leaves_behind_holds_no_port,
    connections_that_have_ended_leave_their_ports,
    two_flows_at_once_have_two_ports,
    two_flows_at_once_do_not_take_each_others_ports,
);

/// Three ports, of which a flow misses the last one that is free once in 400,000 times; and a Service whose backend is elsewhere.
fn rig_of_three<F: Tabled>() -> Result<Rig<F>> {
    let few = Rig::<F>::with_source_ports(61_000..=61_002)?;
    equip(few, &[backend::<F>(1)], Policy::default())
}

fn each_masqueraded_flow_has_a_port_of_its_own<F: Tabled>() -> Result<()> {
    let rig = rig::<F>(&[backend::<F>(1)], Policy::default())?;
    let mut sources = BTreeSet::new();
    for port in 40_000..40_500 {
        let flow = Outside::open(&rig, Protocol::Udp, outsider::<F>(port), node_port::<F>())?;
        assert!(sources.insert(flow.source), "{flow:?}");
    }
    assert_eq!(rig.count(Reason::FlowMasqueraded)?, 500);
    Ok(())
}

fn without_a_free_port_a_flow_is_refused<F: Tabled>() -> Result<()> {
    let rig = rig_of_three::<F>()?;
    for protocol in Protocol::ALL {
        for port in 41_000..41_003 {
            let client = outsider::<F>(port);
            let _: Outside = Outside::open(&rig, protocol, client, node_port::<F>())?;
        }
        let sent = opening(protocol, outsider::<F>(40_000), node_port::<F>());
        let inside = rig.programs.arrives(&sent)?.packet(Verdict::Pass)?;
        let refused = rig.programs.leaves(&inside, DEVICE)?.packet(Verdict::Redirect)?;
        assert_eq!((refused.source, refused.destination), (sent.destination, sent.source));
        match &refused.content {
            Content::Tcp(reset) => assert!(reset.flags.contains(TcpFlags::RST)),
            Content::Icmp(error) => assert!(error.is_port_unreachable(F::FAMILY)),
            Content::Sctp(abort) => assert_eq!(abort.chunks[0], Chunk::ABORT.0),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(rig.count(Reason::RejectSourcePorts)?, 3);
    assert_eq!(rig.count(Reason::FlowMasqueraded)?, 9);
    Ok(())
}

/// Whoever forges senders must not be able to take all ports for longer than that.
fn who_proves_nothing_leaves_his_port<F: Tabled>() -> Result<()> {
    let mut rig = rig_of_three::<F>()?;
    for protocol in Protocol::ALL {
        let mut forged = Vec::new();
        for port in 41_000..41_003 {
            let flow = Outside::open(&rig, protocol, outsider::<F>(port), node_port::<F>())?;
            flow.reply(&rig, &answer(protocol, flow.backend, flow.source))?;
            forged.push(flow);
        }
        for flow in &forged {
            rig.age(&flow.masqueraded::<F>(), 2)?;
        }
        for port in 42_000..42_003 {
            let flow = Outside::open(&rig, protocol, outsider::<F>(port), node_port::<F>())?;
            flow.works(&rig)?;
        }
        // Nothing that is late gets into the flow of another one.
        for flow in &forged {
            let late = proof(protocol, flow.client, flow.frontend).to(flow.backend);
            let left = rig.programs.leaves(&late, DEVICE)?;
            assert_eq!(left.verdict, Verdict::Redirect, "{left:?}");
        }
    }
    Ok(())
}

fn who_is_there_keeps_his_port<F: Tabled>() -> Result<()> {
    let mut rig = rig_of_three::<F>()?;
    for protocol in Protocol::ALL {
        let mut flows = Vec::new();
        for port in 41_000..41_003 {
            let flow = Outside::open(&rig, protocol, outsider::<F>(port), node_port::<F>())?;
            flow.works(&rig)?;
            flows.push(flow);
        }
        // Datagrams prove little: their flows keep theirs for half a minute.
        let silence = if protocol == Protocol::Udp { 29 } else { 60 };
        let mut age =
            |seconds| flows.iter().try_for_each(|flow| rig.age(&flow.masqueraded::<F>(), seconds));
        age(silence)?;
        let sent = opening(protocol, outsider::<F>(40_000), node_port::<F>());
        let inside = rig.programs.arrives(&sent)?.packet(Verdict::Pass)?;
        let _: Packet = rig.programs.leaves(&inside, DEVICE)?.packet(Verdict::Redirect)?;
        for flow in &flows {
            flow.works(&rig)?;
        }
    }
    assert_eq!(rig.count(Reason::RejectSourcePorts)?, 3);
    Ok(())
}

fn what_an_ended_flow_leaves_behind_holds_no_port<F: Tabled>() -> Result<()> {
    let mut rig = rig_of_three::<F>()?;
    for protocol in Protocol::ALL {
        for port in 41_000..41_003 {
            let flow = Outside::open(&rig, protocol, outsider::<F>(port), node_port::<F>())?;
            flow.works(&rig)?;
            // Collected, as a flow is that has ended.
            rig.tables.remove_flow(&flow.masqueraded::<F>())?;
        }
        for port in 42_000..42_003 {
            let flow = Outside::open(&rig, protocol, outsider::<F>(port), node_port::<F>())?;
            flow.works(&rig)?;
        }
    }
    Ok(())
}

/// Long before they are forgotten: short connections would take all ports.
fn connections_that_have_ended_leave_their_ports<F: Tabled>() -> Result<()> {
    const FIN: TcpFlags = TcpFlags::FIN;
    let mut rig = rig_of_three::<F>()?;
    let mut flows = Vec::new();
    for port in 41_000..41_003 {
        let client = outsider::<F>(port);
        let flow = Outside::open(&rig, Protocol::Tcp, client, node_port::<F>())?;
        flow.works(&rig)?;
        flows.push(flow);
    }
    // One of them goes on, and keeps its port for as long as it likes.
    let goes_on = flows.remove(0);
    for flow in &flows {
        flow.request(&rig, &tcp(flow.client, flow.frontend, FIN | TcpFlags::ACK))?;
        flow.reply(&rig, &tcp(flow.backend, flow.source, FIN | TcpFlags::ACK))?;
    }
    for flow in [goes_on].iter().chain(&flows) {
        rig.age(&flow.masqueraded::<F>(), 2)?;
    }
    for port in 42_000..42_002 {
        let client = outsider::<F>(port);
        Outside::open(&rig, Protocol::Tcp, client, node_port::<F>())?.works(&rig)?;
    }
    let sent = opening(Protocol::Tcp, outsider::<F>(43_000), node_port::<F>());
    let inside = rig.programs.arrives(&sent)?.packet(Verdict::Pass)?;
    let _: Packet = rig.programs.leaves(&inside, DEVICE)?.packet(Verdict::Redirect)?;
    goes_on.works(&rig)
}

/// Services with a backend and two ports each: as many of each protocol as there are races.
fn rig_of_pairs<F: Tabled>() -> Result<Rig<F>> {
    let pairs = Rig::<F>::with_source_ports(61_000..=61_001)?;
    let mut rig = equip(pairs, &[], Policy::default())?;
    for (protocol, number) in
        Protocol::ALL.into_iter().flat_map(|it| (0..FLOWS).map(move |n| (it, n)))
    {
        let cluster_ip = SocketAddr::new(vip::<F>(2).ip(), number + 1);
        let mut backend = backend::<F>(1);
        backend.set_port(number + 1);
        let service = rig.service(cluster_ip, protocol, &[backend])?;
        let anywhere = SocketAddr::new(F::FAMILY.unspecified(), node_port_of::<F>(number).port());
        rig.frontend(anywhere, protocol, service, FrontendKind::NodePort)?;
    }
    Ok(rig)
}

fn node_port_of<F: Tabled>(number: u16) -> SocketAddr {
    SocketAddr::new(node_port::<F>().ip(), 31_000 + number)
}

/// Each racer opens a flow to the same Service.
fn race_for_ports<F: Tabled>(
    rig: &Rig<F>,
    protocol: Protocol,
) -> Result<Vec<[Option<SocketAddr>; 2]>> {
    let open = |client: u16, number| {
        let sent = opening(protocol, outsider::<F>(client), node_port_of::<F>(number));
        let inside = rig.programs.arrives(&sent)?.packet(Verdict::Pass)?;
        let left = rig.programs.leaves(&inside, DEVICE)?;
        let opened = (left.verdict == Verdict::Pass).then(|| left.packet(Verdict::Pass));
        Ok(opened.transpose()?.and_then(|packet| packet.source_socket()))
    };
    let [one, other] = race(|number| open(50_001, number), |number| open(50_002, number))?;
    Ok(one.into_iter().zip(other).map(|(one, other)| [one, other]).collect())
}

fn two_flows_at_once_have_two_ports<F: Tabled>() -> Result<()> {
    let rig = rig_of_pairs::<F>()?;
    for protocol in Protocol::ALL {
        for [one, other] in race_for_ports(&rig, protocol)? {
            let (one, other) = (one.context("refused")?, other.context("refused")?);
            assert_ne!(one, other);
        }
    }
    Ok(())
}

/// There are ports for both, of flows that prove nothing. Who comes second may be refused, but not
/// get what the first has just taken.
fn two_flows_at_once_do_not_take_each_others_ports<F: Tabled>() -> Result<()> {
    let mut rig = rig_of_pairs::<F>()?;
    for protocol in Protocol::ALL {
        for number in 0..FLOWS {
            for port in 41_000..41_002 {
                let client = outsider::<F>(port);
                let flow = Outside::open(&rig, protocol, client, node_port_of::<F>(number))?;
                rig.age(&flow.masqueraded::<F>(), 2)?;
            }
        }
        for [one, other] in race_for_ports(&rig, protocol)? {
            assert!(one.is_some() || other.is_some());
            assert_ne!(one, other);
        }
    }
    Ok(())
}
