// SPDX-License-Identifier: Apache-2.0

//! What leaves from the driver.

use anyhow::{Context as _, Result, ensure};
use proxy_common::counter::Reason;
use proxy_common::device::DeviceTraits;
use proxy_common::service::Policy;
use proxy_common::traffic::Traffic;
use proxy_tests::both_families;
use proxy_tests::packet::{Content, Packet, TcpFlags};
use proxy_tests::protocol::Protocol;

use super::{CLIENT_MAC, Flow, Node, OUT_MAC, PROTOCOLS, ROUTER_MAC, aged, elsewhere};
use crate::frames::{tcp, udp};
use crate::loaded::SOURCE_PORTS;
use crate::outside::{node as node_address, node_port, outsider};
use crate::programs::Verdict;
use crate::rig::Tabled;

both_families!(
    flows_leave_from_the_driver,
    the_stack_uses_each_next_hop_first,
    the_stack_goes_on_with_what_the_driver_has_begun,
    connections_end_in_the_driver,
    checksums_follow,
    frames_in_several_buffers,
);

/// More than the kernel gives one buffer, in bytes.
const LARGE: usize = 6_000;

fn flows_leave_from_the_driver<F: Tabled>() -> Result<()> {
    Node::<F>::with_hops(|node| {
        let before = node.rig.count(Reason::XdpSent)?;
        for (protocol, port) in PROTOCOLS.into_iter().zip(40_000..) {
            let flow = Flow::open(node, protocol, port)?;
            ensure!(flow.source.ip() == node_address::<F>(), "{flow:?}");
            ensure!(SOURCE_PORTS.contains(&flow.source.port()), "{flow:?}");
            ensure!(flow.backend == elsewhere::<F>()[0], "{flow:?}");
            flow.is_sent(node)?;
        }
        ensure!(node.rig.count(Reason::XdpSent)? == before + 14, "some went up");
        ensure!(node.rig.count(Reason::FlowCreated)? == 2, "other flows");
        let Traffic { volumes: [requests, replies], flows, .. } = node.rig.traffic()?;
        ensure!(requests.packets + replies.packets == 14 && flows == 2, "{requests:?} {replies:?}");
        ensure!(requests.packets > 2 && replies.packets > 2, "{requests:?} {replies:?}");
        ensure!(node.rig.count(Reason::FlowConfirmed)? == 2, "not confirmed");
        ensure!(node.rig.count(Reason::FlowMasqueraded)? == 0, "flows of the stack");
        Ok(())
    })
}

/// A driver's packets would not make the kernel ask whether a neighbour is there.
fn the_stack_uses_each_next_hop_first<F: Tabled>() -> Result<()> {
    Node::<F>::run(&elsewhere::<F>(), Policy::default(), |node| {
        let sent = udp(outsider::<F>(40_000), node_port::<F>(), b"question");
        node.rig.programs.in_driver(&sent)?.is(Verdict::Pass, &sent)?;
        ensure!(node.rig.count(Reason::FlowCreated)? == 1, "it is opened in the driver");
        let outcome = node.rig.programs.arrives(&sent)?;
        let flow = Flow::of(&sent, &outcome, Protocol::Udp)?;
        outcome.is(Verdict::Redirect, &aged(&flow.translated(&sent)))?;
        ensure!(node.rig.count(Reason::FlowCreated)? == 1, "and not again");
        // The one that leads to the backend is known now, that to the client is not.
        node.sends(&sent, &flow.translated(&sent), ROUTER_MAC)?;
        let reply = flow.first_reply();
        node.leaves_to_stack(&reply, &flow.restored(&reply))?;
        node.sends(&reply, &flow.restored(&reply), CLIENT_MAC)?;
        ensure!(node.rig.count(Reason::XdpUpNeighbour)? == 2, "another reason");
        // After a second they are used again.
        node.rig.forget_hops()?;
        node.leaves_to_stack(&sent, &flow.translated(&sent))?;
        node.leaves_to_stack(&reply, &flow.restored(&reply))?;
        flow.is_sent(node)
    })
}

/// Any packet may take either way, at any time.
fn the_stack_goes_on_with_what_the_driver_has_begun<F: Tabled>() -> Result<()> {
    Node::<F>::with_hops(|node| {
        for (protocol, port) in PROTOCOLS.into_iter().zip(40_000..) {
            for by_driver in 0..8 {
                let flow = Flow::open(node, protocol, port + 10 * by_driver)?;
                let takes = |place: u16| by_driver & 1 << place != 0;
                for place in 0..3 {
                    let reply = if place == 0 { flow.first_reply() } else { flow.reply() };
                    let request = flow.request();
                    let (sent, expected, mac) = if place == 1 {
                        (&request, flow.translated(&request), ROUTER_MAC)
                    } else {
                        (&reply, flow.restored(&reply), CLIENT_MAC)
                    };
                    if takes(place) {
                        node.sends(sent, &expected, mac)?;
                    } else {
                        let outcome = node.rig.programs.arrives(sent)?;
                        outcome.is(Verdict::Redirect, &aged(&expected))?;
                    }
                }
                flow.is_sent(node)?;
            }
        }
        ensure!(node.rig.count(Reason::FlowConfirmed)? == 16, "not confirmed");
        Ok(())
    })
}

fn connections_end_in_the_driver<F: Tabled>() -> Result<()> {
    Node::<F>::with_hops(|node| {
        let flow = Flow::open(node, Protocol::Tcp, 40_000)?;
        flow.is_sent(node)?;
        let fin = TcpFlags::FIN | TcpFlags::ACK;
        let request = tcp(flow.client, flow.frontend, fin);
        node.sends(&request, &flow.translated(&request), ROUTER_MAC)?;
        let reply = tcp(flow.backend, flow.source, fin);
        node.sends(&reply, &flow.restored(&reply), CLIENT_MAC)?;
        // Its client may use its port again.
        let again = Flow::open(node, Protocol::Tcp, 40_000)?;
        ensure!(again.source != flow.source, "the flow goes on");
        ensure!(node.rig.count(Reason::FlowCreated)? == 2, "no flow of its own");
        again.is_sent(node)
    })
}

/// A checksum that was wrong stays wrong, and one that is not there is not made.
fn checksums_follow<F: Tabled>() -> Result<()> {
    Node::<F>::with_hops(|node| {
        let flow = Flow::open(node, Protocol::Udp, 40_000)?;
        flow.is_sent(node)?;
        if flow.client.is_ipv4() {
            let mut bare = udp(flow.client, flow.frontend, b"bare");
            let Content::Udp(datagram) = &mut bare.content else { unreachable!() };
            datagram.checksum = false;
            node.sends(&bare, &flow.translated(&bare), ROUTER_MAC)?;
        }
        // Zero would say that there is none. What a checksum lacks to zero is the checksum over zeros.
        let with = |word: [u8; 2]| udp(flow.client, flow.frontend, &word);
        let checksum = |packet: &Packet| {
            let frame = packet.build()?;
            anyhow::Ok([frame[frame.len() - 4], frame[frame.len() - 3]])
        };
        let zero = with(checksum(&flow.translated(&with([0; 2])))?);
        ensure!(checksum(&flow.translated(&zero))? == [0xff; 2], "the sum is not zero");
        node.sends(&zero, &flow.translated(&zero), ROUTER_MAC)?;
        // What is damaged on its way is for its receiver to see.
        for protocol in PROTOCOLS {
            let flow = Flow::open(node, protocol, 41_000)?;
            flow.is_sent(node)?;
            let sent = flow.request().payload(b"whole");
            let mut expected = aged(&flow.translated(&sent));
            (expected.link.source, expected.link.destination) = (OUT_MAC, ROUTER_MAC);
            let damaged = |packet: &Packet| {
                let mut frame = packet.build()?;
                *frame.last_mut().context("a payload")? ^= 0x40;
                anyhow::Ok(frame)
            };
            let left = node.rig.programs.run_in_driver(&damaged(&sent)?)?;
            ensure!(left.verdict == Verdict::Redirect, "it goes up");
            ensure!(left.frame == damaged(&expected)?, "{:02x?}", left.frame);
        }
        Ok(())
    })
}

/// Large frames leave by drivers that can send them; others get them from the stack.
fn frames_in_several_buffers<F: Tabled>() -> Result<()> {
    Node::<F>::with_hops(|node| {
        let flow = Flow::open(node, Protocol::Udp, 40_000)?;
        flow.is_sent(node)?;
        let small = flow.request();
        let large = udp(flow.client, node_port::<F>(), &[b'x'; LARGE]);
        node.sends(&large, &flow.translated(&large), ROUTER_MAC)?;
        node.use_hops_by(DeviceTraits::XDP_ONE_BUFFER)?;
        // The kernel makes no socket buffer of that for a test.
        node.rig.programs.in_driver(&large)?.is(Verdict::Pass, &large)?;
        ensure!(node.rig.count(Reason::XdpUpUnusual)? == 1, "{:?}", node.counts());
        node.sends(&small, &flow.translated(&small), ROUTER_MAC)
    })
}
