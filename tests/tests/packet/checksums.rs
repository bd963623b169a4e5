// SPDX-License-Identifier: Apache-2.0

//! Checksums that are not all there when a program sees the frame: those that the device has
//! summed up already (`CHECKSUM_COMPLETE`), and those that the device is to complete
//! (`CHECKSUM_PARTIAL`), of one segment or of many (GSO).

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use proxy_common::frontend::ServiceIndex;
use proxy_tests::both_families;
use proxy_tests::model::{Model, Outcome, Strays, Verdict};
use proxy_tests::packet::{Content, Packet, TcpFlags};
use proxy_tests::protocol::Protocol;

use crate::connection::Connection;
use crate::frames::{backend, client, opening, proof, tcp, udp, vip};
use crate::programs::At;
use crate::rig::{Rig, Tabled};
use crate::wire::{Seen, Wire};

both_families!(
    the_sum_of_a_device_follows_the_frame,
    what_is_left_to_the_device_stays_so,
    large_segments_are_translated_whole,
);

/// Frames from a client and to it, and a rig that knows their flows: translated ones in both
/// directions, and refused ones; with a model that knows what they must become.
struct Cases {
    from_client: Vec<Packet>,
    /// From a client too, but refused by an answer that is shorter.
    cut: Vec<Packet>,
    to_client: Vec<Packet>,
    model: Model,
}

fn cases<F: Tabled>(rig: &mut Rig<F>) -> Result<Cases> {
    const REFUSED: u8 = 2;
    let known = client::<F>(12, 40_000);
    let text: Vec<u8> = (0..=255).cycle().take(1001).collect();
    let mut model = Model::new(Strays::Refuse);
    let (mut from_client, mut cut, mut to_client) = (Vec::new(), Vec::new(), Vec::new());
    for protocol in Protocol::ALL {
        let _: ServiceIndex = rig.service(vip::<F>(1), protocol, &[backend::<F>(1)])?;
        let _: ServiceIndex = rig.service(vip::<F>(REFUSED), protocol, &[])?;
        model.set_backends(protocol, vip::<F>(1), [backend::<F>(1)]);
        model.set_backends(protocol, vip::<F>(REFUSED), []);
        let first = opening(protocol, known, vip::<F>(1));
        from_client.extend([first.clone(), first.with_options().payload(&text)]);
        let refused = opening(protocol, known, vip::<F>(REFUSED));
        cut.push(refused.clone().with_options().payload(&text));
        // The ABORT that answers an INIT is shorter, too.
        let answered = if protocol == Protocol::Sctp { &mut cut } else { &mut from_client };
        answered.extend([refused.clone(), refused.with_options()]);
        let amid = proof(protocol, known, vip::<F>(1));
        from_client.extend([amid.clone(), amid.payload(b"odd")]);
        let reply = proof(protocol, backend::<F>(1), known);
        to_client.extend([reply.clone(), reply.with_options().payload(&text)]);
    }
    Ok(Cases { from_client, cut, to_client, model })
}

/// The length of what a datagram carries, in bytes.
fn payload_length(packet: &Packet) -> usize {
    match &packet.content {
        Content::Udp(udp) => udp.payload.len(),
        _ => 0,
    }
}

fn the_sum_of_a_device_follows_the_frame<F: Tabled>() -> Result<()> {
    let mut rig = Rig::<F>::new()?;
    let mut cases = cases(&mut rig)?;
    if !rig.programs.can_sum(&cases.from_client[0].build()?)? {
        return Ok(());
    }
    // Of a frame that is cut the kernel gives up the sum, and tells nobody.
    for sent in &cases.from_client {
        let ran = rig.programs.run_summed(At::Ingress, &sent.build()?);
        let ran = ran.with_context(|| format!("from the client: {sent:?}"))?;
        cases.model.from_client(sent, &ran.for_model()?)?;
    }
    for sent in &cases.to_client {
        let ran = rig.programs.run_summed(At::Egress, &sent.build()?);
        let ran = ran.with_context(|| format!("to the client: {sent:?}"))?;
        cases.model.to_client(sent, &ran.for_model()?)?;
    }
    Ok(())
}

/// What came off a wire, for the model: what came with its MAC addresses exchanged was sent back.
fn outcome_on_wire(sent: &Packet, seen: &Seen, is_partial: bool) -> Result<Outcome> {
    assert_eq!(seen.is_partial(), is_partial, "{sent:?}");
    let mut packet = Packet::decode(&seen.completed()?)?;
    if let Content::Icmp(error) = &mut packet.content {
        // Where the quoted datagram's checksum was partial, the device has put the sum of what is
        // left of the datagram there; the error's own checksum has allowed for that.
        let original = sent.build_ip()?;
        let checksum = original.len() - payload_length(sent) - 2;
        let quoted = error.payload.get_mut(checksum..checksum + 2).context("the quote is short")?;
        quoted.copy_from_slice(&original[checksum..checksum + 2]);
    }
    let is_back = packet.link.destination == sent.link.source;
    let verdict = if is_back { Verdict::SendBack } else { Verdict::Pass };
    Ok(Outcome { verdict, packet })
}

fn what_is_left_to_the_device_stays_so<F: Tabled>() -> Result<()> {
    for is_partial in [true, false] {
        Wire::run(|wire, rig: &mut Rig<F>| {
            let mut cases = cases(rig)?;
            for sent in cases.from_client.iter().chain(&cases.cut) {
                let seen = wire.send(rig, At::Ingress, sent, is_partial, None)?;
                cases.model.from_client(sent, &outcome_on_wire(sent, &seen, is_partial)?)?;
            }
            for sent in &cases.to_client {
                let seen = wire.send(rig, At::Egress, sent, is_partial, None)?;
                cases.model.to_client(sent, &outcome_on_wire(sent, &seen, is_partial)?)?;
            }
            Ok(())
        })?;
    }
    Ok(())
}

fn large_segments_are_translated_whole<F: Tabled>() -> Result<()> {
    const SEGMENT: u16 = 1_400;
    let text: Vec<u8> = (0..=255).cycle().take(20_000).collect();
    Wire::run(|wire, rig: &mut Rig<F>| {
        let (from, to): (SocketAddr, SocketAddr) = (client::<F>(12, 40_000), backend::<F>(1));
        let _: ServiceIndex = rig.service(vip::<F>(1), Protocol::Tcp, &[to])?;
        let _: ServiceIndex = rig.service(vip::<F>(1), Protocol::Udp, &[to])?;
        let flow = Connection::establish(&rig.programs, Protocol::Tcp, from, vip::<F>(1))?;
        let request = tcp(from, vip::<F>(1), TcpFlags::ACK).payload(&text);
        let reply = tcp(to, from, TcpFlags::ACK | TcpFlags::PSH).payload(&text);
        for (at, sent, expected) in [
            (At::Ingress, request.clone(), request.to(flow.backend)),
            (At::Egress, reply.clone(), reply.from(flow.frontend)),
        ] {
            let seen = wire.send(rig, at, &sent, true, Some(SEGMENT))?;
            assert!(seen.is_partial());
            assert_eq!(seen.segment(), Some(SEGMENT));
            assert!(seen.completed()? == expected.build()?, "another large segment came out");
        }
        let first = udp(from, vip::<F>(1), &text[..1_000]);
        let seen = wire.send(rig, At::Ingress, &first, true, None)?;
        assert!(seen.completed()? == first.to(to).build()?);
        Ok(())
    })
}
