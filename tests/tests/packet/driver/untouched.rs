// SPDX-License-Identifier: Apache-2.0

//! What the driver leaves to the stack as it is, and as what it is counted.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use proxy_common::counter::Reason;
use proxy_common::foreign_nat::ForeignNat;
use proxy_common::frontend::ServiceIndex;
use proxy_common::service::{BackendSet, Policy};
use proxy_tests::both_families;
use proxy_tests::packet::{Packet, TcpFlags};
use proxy_tests::protocol::Protocol;

use super::{Flow, Node, PROTOCOLS, elsewhere};
use crate::frames::{ack, opening, tcp, udp};
use crate::outside::{load_balancer, node as node_address, node_port, outsider};
use crate::programs::Verdict;
use crate::rig::Tabled;

both_families!(
    what_is_nothing_of_ours,
    what_is_unusual,
    what_only_the_stack_can_open,
    what_is_for_somebody_else,
    what_claims_to_be_from_the_node,
    what_has_no_hop_left,
    short_frames,
);

/// The driver must leave it as it is, for this reason.
#[track_caller]
fn goes_up<F: Tabled>(node: &Node<'_, F>, packet: &Packet, reason: Reason) -> Result<()> {
    let before = node.rig.count(reason)?;
    node.rig.programs.in_driver(packet)?.is(Verdict::Pass, packet)?;
    let counted = node.rig.count(reason)? - before;
    ensure!(counted == 1, "{packet:?} is not counted as {}", reason.name());
    Ok(())
}

fn what_is_nothing_of_ours<F: Tabled>() -> Result<()> {
    Node::<F>::run(&elsewhere::<F>(), Policy::default(), |node| {
        let (client, nobody) = (outsider::<F>(40_000), outsider::<F>(80));
        for packet in [udp(client, nobody, b"hello"), opening(Protocol::Tcp, client, nobody)] {
            goes_up(node, &packet, Reason::XdpUpOther)?;
        }
        // An address that may be a frontend's.
        goes_up(node, &ack(client, node_port::<F>()), Reason::XdpUpFlow)
    })
}

fn what_is_unusual<F: Tabled>() -> Result<()> {
    Node::<F>::with_hops(|node| {
        for (protocol, port) in PROTOCOLS.into_iter().zip(40_000..) {
            let flow = Flow::open(node, protocol, port)?;
            flow.is_sent(node)?;
            for request in [flow.request(), flow.reply()] {
                goes_up(node, &request.clone().with_options(), Reason::XdpUpUnusual)?;
                let whole = request.payload(&[1; 64]);
                for fragment in whole.fragments(4)? {
                    goes_up(node, &fragment, Reason::XdpUpUnusual)?;
                }
            }
        }
        let flow = Flow::open(node, Protocol::Tcp, 41_000)?;
        flow.is_sent(node)?;
        let reset = tcp(flow.client, flow.frontend, TcpFlags::RST);
        goes_up(node, &reset, Reason::XdpUpFlow)?;
        let other = opening(Protocol::Sctp, outsider::<F>(42_000), node_port::<F>());
        goes_up(node, &other, Reason::XdpUpUnusual)
    })
}

fn what_only_the_stack_can_open<F: Tabled>() -> Result<()> {
    Node::<F>::with_hops(|node| {
        let service = ServiceIndex::FIRST;
        let sent = opening(Protocol::Tcp, outsider::<F>(40_000), node_port::<F>());
        let flows = node.rig.count(Reason::FlowCreated)?;
        for policy in [Policy::EXTERNAL_LOCAL, Policy::default().with_affinity(60)] {
            node.rig.tables.publish_policy(service, policy)?;
            goes_up(node, &sent, Reason::XdpUpNew)?;
        }
        node.rig.tables.publish_policy(service, Policy::SOURCE_RANGES)?;
        let balanced = opening(Protocol::Tcp, outsider::<F>(40_000), load_balancer::<F>());
        goes_up(node, &balanced, Reason::XdpUpNew)?;
        node.rig.tables.publish_policy(service, Policy::default())?;
        for set in [BackendSet::REJECT, BackendSet::DROP] {
            node.rig.tables.publish_cluster(service, set)?;
            goes_up(node, &sent, Reason::XdpUpNew)?;
        }
        // Another version's programs may know it, which are in the stack.
        let backends = node.rig.backend_set(&elsewhere::<F>())?;
        node.rig.tables.publish_cluster(service, backends)?;
        node.rig.foreign_nat.set(0, ForeignNat::FORMER, 0)?;
        goes_up(node, &sent, Reason::XdpUpNew)?;
        ensure!(node.rig.count(Reason::FlowCreated)? == flows, "a flow has been opened");
        node.rig.foreign_nat.set(0, ForeignNat::NONE, 0)?;
        let _ = node.rig.programs.in_driver(&sent)?;
        ensure!(node.rig.count(Reason::FlowCreated)? == flows + 1, "no flow has been opened");
        Ok(())
    })
}

/// As in promiscuous mode.
fn what_is_for_somebody_else<F: Tabled>() -> Result<()> {
    Node::<F>::with_hops(|node| {
        let flow = Flow::open(node, Protocol::Udp, 40_000)?;
        flow.is_sent(node)?;
        let flows = node.rig.count(Reason::FlowCreated)?;
        let new = opening(Protocol::Tcp, outsider::<F>(41_000), node_port::<F>());
        for mut packet in [flow.request(), flow.reply(), new] {
            packet.link.destination = [2, 0, 0, 0, 9, 9];
            node.rig.programs.in_driver(&packet)?.is(Verdict::Pass, &packet)?;
        }
        ensure!(node.rig.count(Reason::FlowCreated)? == flows, "a flow has been opened");
        Ok(())
    })
}

/// Nobody outside has its address. The stack, which drops such packets, gets to see them.
fn what_claims_to_be_from_the_node<F: Tabled>() -> Result<()> {
    Node::<F>::with_hops(|node| {
        let source = SocketAddr::new(node_address::<F>(), 40_000);
        for sent in [
            opening(Protocol::Tcp, source, load_balancer::<F>()),
            udp(source, load_balancer::<F>(), b"hello"),
        ] {
            goes_up(node, &sent, Reason::XdpUpNew)?;
            let inside = sent.clone().to(elsewhere::<F>()[0]);
            node.rig.programs.arrives(&sent)?.is(Verdict::Pass, &inside)?;
        }
        Ok(())
    })
}

/// The stack tells who has sent it.
fn what_has_no_hop_left<F: Tabled>() -> Result<()> {
    Node::<F>::with_hops(|node| {
        let mut new = opening(Protocol::Tcp, outsider::<F>(41_000), node_port::<F>());
        new.hop_limit = 1;
        goes_up(node, &new, Reason::XdpUpNew)?;
        // It passes on its way through the stack, which takes the last hop from it.
        let inside = new.clone().to(elsewhere::<F>()[0]);
        node.rig.programs.arrives(&new)?.is(Verdict::Pass, &inside)?;
        let mut flow = Flow::open(node, Protocol::Tcp, 40_000)?;
        for is_reply in [false, true] {
            flow = Flow::open(node, Protocol::Tcp, 40_001 + u16::from(is_reply))?;
            flow.is_sent(node)?;
            let (packet, inside) = if is_reply {
                (flow.reply(), flow.reply().to(flow.client))
            } else {
                (flow.request(), flow.request().to(flow.backend))
            };
            let last = |mut packet: Packet| {
                packet.hop_limit = 1;
                packet
            };
            goes_up(node, &last(packet.clone()), Reason::XdpUpUnusual)?;
            node.rig.programs.arrives(&last(packet))?.is(Verdict::Pass, &last(inside))?;
        }
        // All of the flow goes through the stack from then on.
        let request = flow.request();
        goes_up(node, &request, Reason::XdpUpFlow)?;
        let inside = request.clone().to(flow.backend);
        node.rig.programs.arrives(&request)?.is(Verdict::Pass, &inside)?;
        let left = inside.clone().from(flow.source);
        node.rig.programs.leaves(&inside, crate::rig::DEVICE)?.is(Verdict::Pass, &left)?;
        let reply = flow.reply();
        let inside = reply.clone().to(flow.client);
        node.rig.programs.arrives(&reply)?.is(Verdict::Pass, &inside)?;
        let left = inside.clone().from(flow.frontend);
        node.rig.programs.leaves(&inside, crate::rig::DEVICE)?.is(Verdict::Pass, &left)?;
        ensure!(flow.source.ip() == node_address::<F>(), "another source");
        Ok(())
    })
}

/// Each frame that is cut short somewhere goes up as it is.
fn short_frames<F: Tabled>() -> Result<()> {
    Node::<F>::with_hops(|node| {
        for (protocol, port) in PROTOCOLS.into_iter().zip(40_000..) {
            let flow = Flow::open(node, protocol, port)?;
            flow.is_sent(node)?;
            let frame = flow.request().payload(b"").build()?;
            // The kernel runs programs on whole Ethernet headers.
            for length in 14..frame.len() {
                let left = node.rig.programs.run_in_driver(&frame[..length])?;
                ensure!(left.verdict == Verdict::Pass, "{length} bytes are sent");
                ensure!(left.frame == frame[..length], "{length} bytes are changed");
            }
            // What is behind the packet is not a part of it.
            let padded = [frame.as_slice(), &[0; 6]].concat();
            let left = node.rig.programs.run_in_driver(&padded)?;
            ensure!(left.verdict == Verdict::Redirect, "padding goes up");
        }
        Ok(())
    })
}
