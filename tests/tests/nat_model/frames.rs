// SPDX-License-Identifier: Apache-2.0

//! Frames for others, and frames that leave the node.

use anyhow::Result;
use proxy_tests::both_families;
use proxy_tests::family::{IpFamily, TestFamily};
use proxy_tests::model::{Hook, Model, Rule, Verdict};
use proxy_tests::packet::{Packet, TcpFlags};
use proxy_tests::protocol::Protocol;

use crate::{backend, client, frontend, model};

both_families!(
    frames_for_others_pass,
    direct_connections_to_neighbours_are_flows,
    what_nobody_has_translated_does_not_leave,
);

const NODE: [u8; 6] = [2, 0, 0, 0, 0, 1];
const BRIDGE: [u8; 6] = [2, 0, 0, 0, 0, 2];
const NEIGHBOUR: [u8; 6] = [2, 0, 0, 0, 0, 3];
const GROUP: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];

fn opening<F: TestFamily>(to: [u8; 6]) -> Packet {
    let mut packet = Packet::opening(Protocol::Tcp, client::<F>(1), frontend::<F>(1));
    packet.link.destination = to;
    packet
}

/// By which rule a packet may pass untouched, if it may.
fn passes(model: &mut Model, hook: Hook, packet: &Packet) -> Result<Rule> {
    let frame = packet.build()?;
    model.judge(hook, &frame, Verdict::Pass, &frame)
}

fn frames_for_others_pass<F: TestFamily>() -> Result<()> {
    let mut model = model::<F>();
    for (bridge, for_others, for_node) in [
        (None, &[BRIDGE, NEIGHBOUR, GROUP][..], &[NODE][..]),
        (Some(BRIDGE), &[NEIGHBOUR, GROUP], &[NODE, BRIDGE]),
    ] {
        model.set_device(NODE, bridge);
        for mac in for_others {
            let rule = passes(&mut model, Hook::Ingress, &opening::<F>(*mac))?;
            assert_eq!(rule, Rule::ForSomebodyElse);
        }
        for mac in for_node {
            assert!(passes(&mut model, Hook::Ingress, &opening::<F>(*mac)).is_err());
        }
    }
    Ok(())
}

fn direct_connections_to_neighbours_are_flows<F: TestFamily>() -> Result<()> {
    let mut model = model::<F>();
    model.set_device(NODE, Some(BRIDGE));
    let direct = opening::<F>(NEIGHBOUR).to(backend::<F>(12));
    assert_eq!(passes(&mut model, Hook::Ingress, &direct)?, Rule::OpenedDirect);
    // So a translated flow needs another port.
    let (sent, same) = (opening::<F>(NODE), opening::<F>(NODE).to(backend::<F>(12)));
    model.set_backends(Protocol::Tcp, frontend::<F>(1), [backend::<F>(12)]);
    let mut judge =
        |left: Packet| model.judge(Hook::Ingress, &sent.build()?, Verdict::Pass, &left.build()?);
    assert!(judge(same.clone()).is_err());
    assert_eq!(judge(same.from(client::<F>(9)))?, Rule::OpenedWithAnotherPort);
    Ok(())
}

fn what_nobody_has_translated_does_not_leave<F: TestFamily>() -> Result<()> {
    let mut model = model::<F>();
    assert_eq!(passes(&mut model, Hook::UplinkEgress, &opening::<F>(NODE))?, Rule::Leaves);
    model.add_service_cidr(F::cluster_ip(0), if F::FAMILY == IpFamily::V4 { 16 } else { 112 });
    let (from, vip) = (client::<F>(1), frontend::<F>(1));
    let dropped = |model: &mut Model, packet: &Packet| {
        let frame = packet.build()?;
        model.judge(Hook::UplinkEgress, &frame, Verdict::Drop, &frame)
    };
    let nobody = Packet::opening(Protocol::Udp, from, frontend::<F>(200));
    let amid = Packet::tcp(from, frontend::<F>(200), TcpFlags::ACK);
    assert_eq!(passes(&mut model, Hook::UplinkEgress, &amid)?, Rule::LeavesAmidConnection);
    for flags in [TcpFlags::RST, TcpFlags::ACK] {
        assert_eq!(dropped(&mut model, &Packet::tcp(from, vip, flags))?, Rule::GuardDropped);
    }
    for packet in [Packet::tcp(from, vip, TcpFlags::RST), nobody] {
        assert!(passes(&mut model, Hook::UplinkEgress, &packet).is_err());
        assert_eq!(dropped(&mut model, &packet)?, Rule::GuardDropped);
    }
    let asked = Packet::opening(Protocol::Udp, from, vip);
    assert!(dropped(&mut model, &asked).is_err(), "a VIP answers");
    let mut answer = Packet::port_unreachable(vip.ip(), &asked)?;
    std::mem::swap(&mut answer.link.source, &mut answer.link.destination);
    let (sent, answer) = (asked.build()?, answer.build()?);
    let rule = model.judge(Hook::UplinkEgress, &sent, Verdict::SendBack, &answer)?;
    assert_eq!(rule, Rule::GuardRefused);
    let outside = Packet::opening(Protocol::Udp, from, backend::<F>(12));
    assert_eq!(passes(&mut model, Hook::UplinkEgress, &outside)?, Rule::Leaves);
    Ok(())
}
