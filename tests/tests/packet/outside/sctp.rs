// SPDX-License-Identifier: Apache-2.0

//! SCTP from outside: its checksum follows the port of a masquerade as well as the frontend's, and
//! what is refused is aborted there.

use anyhow::Result;
use proxy_common::counter::Reason;
use proxy_common::service::Policy;
use proxy_tests::both_families;
use proxy_tests::packet::{Chunk, Content, Packet};
use proxy_tests::protocol::Protocol;

use super::{Outside, load_balancer, node_port, outsider, rig};
use crate::frames::{BACKEND_TAG, CLIENT_TAG, backend, init, sctp};
use crate::programs::{Outcome, Verdict};
use crate::rig::{DEVICE, Rig, Tabled};

both_families!(
    checksums_follow_a_masquerade,
    an_association_ends_at_each_place,
    first_fragments_cannot_be_masqueraded,
    new_associations_are_aborted_at_the_uplink,
    strays_are_the_nodes_at_node_ports_only,
);

fn open<F: Tabled>(rig: &Rig<F>) -> Result<Outside> {
    Outside::open(rig, Protocol::Sctp, outsider::<F>(40_000), node_port::<F>())
}

fn request(flow: &Outside, chunk: Chunk) -> Packet {
    sctp(flow.client, flow.frontend, BACKEND_TAG, chunk)
}

fn reply(flow: &Outside, chunk: Chunk) -> Packet {
    sctp(flow.backend, flow.source, CLIENT_TAG, chunk)
}

fn checksums_follow_a_masquerade<F: Tabled>() -> Result<()> {
    let rig = rig::<F>(&[backend::<F>(1)], Policy::default())?;
    let flow = open(&rig)?;
    flow.works(&rig)?;
    for length in (0..300).chain([1_000, 1_400]) {
        let text: Vec<u8> = (0..=250).cycle().take(length).collect();
        flow.request(&rig, &request(&flow, Chunk::DATA).payload(&text))?;
        flow.reply(&rig, &reply(&flow, Chunk::DATA).payload(&text))?;
    }
    // One that is left to the device stays so.
    for (mut packet, is_request) in
        [(request(&flow, Chunk::DATA), true), (reply(&flow, Chunk::DATA), false)]
    {
        if let Content::Sctp(sctp) = &mut packet.content {
            sctp.checksum = false;
        }
        if is_request {
            flow.request(&rig, &packet)?;
        } else {
            flow.reply(&rig, &packet)?;
        }
    }
    Ok(())
}

/// The masquerade's entries follow it as the client's own do: the next one has both anew.
fn an_association_ends_at_each_place<F: Tabled>() -> Result<()> {
    let rig = rig::<F>(&[backend::<F>(1)], Policy::default())?;
    // What ends it, and how many flows there have been when the client has begun anew: an ABORT may
    // have been forged, and leaves it in the same flow.
    for (from_client, from_backend, count) in [
        (vec![Chunk::SHUTDOWN, Chunk::SHUTDOWN_COMPLETE], vec![Chunk::SHUTDOWN_ACK], 1),
        (vec![Chunk::ABORT], vec![], 2),
        (vec![], vec![Chunk::ABORT], 2),
        (vec![], vec![], 2),
    ] {
        let flow = open(&rig)?;
        flow.works(&rig)?;
        assert_eq!(rig.count(Reason::FlowCreated)?, count);
        assert_eq!(rig.count(Reason::FlowMasqueraded)?, count);
        for chunk in from_client {
            flow.request(&rig, &request(&flow, chunk))?;
        }
        for chunk in from_backend {
            flow.reply(&rig, &reply(&flow, chunk))?;
        }
    }
    Ok(())
}

/// Even if the frontend has the backend's own port.
fn first_fragments_cannot_be_masqueraded<F: Tabled>() -> Result<()> {
    let mut to = backend::<F>(1);
    to.set_port(node_port::<F>().port());
    let rig = rig::<F>(&[to], Policy::default())?;
    let flow = open(&rig)?;
    flow.works(&rig)?;
    let sent = request(&flow, Chunk::DATA).payload(&[7; 1_000]);
    let fragments = sent.clone().fragments(31)?;
    let inside = sent.to(flow.backend).fragments(31)?;
    rig.programs.arrives(&fragments[0])?.is(Verdict::Pass, &inside[0])?;
    rig.programs.leaves(&inside[0], DEVICE)?.is_dropped();
    assert_eq!(rig.count(Reason::DropSctpFragment)?, 1);
    let fragments = reply(&flow, Chunk::DATA).payload(&[7; 1_000]).fragments(31)?;
    rig.programs.arrives(&fragments[0])?.is_dropped();
    assert_eq!(rig.count(Reason::DropSctpFragment)?, 2);
    assert_eq!(rig.count(Reason::DropRewrite)?, 0);
    Ok(())
}

/// The first chunk of what is sent back for a packet, and the tag.
fn refusal(outcome: &Outcome, to: &Packet) -> Result<(Chunk, u32)> {
    let packet = outcome.packet(Verdict::Redirect)?;
    assert_eq!((packet.source, packet.destination), (to.destination, to.source));
    let Content::Sctp(sctp) = packet.content else { anyhow::bail!("{packet:?}") };
    Ok((Chunk(sctp.chunks[0]), sctp.tag))
}

fn new_associations_are_aborted_at_the_uplink<F: Tabled>() -> Result<()> {
    let rig = rig::<F>(&[], Policy::default())?;
    for (count, frontend) in (1..).zip([node_port::<F>(), load_balancer::<F>()]) {
        let sent = init(outsider::<F>(40_000), frontend);
        let refused = refusal(&rig.programs.arrives(&sent)?, &sent)?;
        assert_eq!(refused, (Chunk::ABORT, CLIENT_TAG));
        assert_eq!(rig.count(Reason::RejectNoEndpoints)?, count);
    }
    assert_eq!(rig.count(Reason::FlowCreated)?, 0);
    Ok(())
}

fn strays_are_the_nodes_at_node_ports_only<F: Tabled>() -> Result<()> {
    let rig = rig::<F>(&[backend::<F>(1)], Policy::default())?;
    for chunk in [Chunk::DATA, Chunk::SHUTDOWN_ACK, Chunk::ABORT] {
        let stray = sctp(outsider::<F>(40_000), node_port::<F>(), 7, chunk);
        rig.programs.arrives(&stray)?.is(Verdict::Pass, &stray)?;
    }
    for (chunk, answer) in
        [(Chunk::DATA, Chunk::ABORT), (Chunk::SHUTDOWN_ACK, Chunk::SHUTDOWN_COMPLETE)]
    {
        let stray = sctp(outsider::<F>(40_000), load_balancer::<F>(), 7, chunk);
        assert_eq!(refusal(&rig.programs.arrives(&stray)?, &stray)?, (answer, 7));
    }
    assert_eq!(rig.count(Reason::RejectNoFlow)?, 2);
    Ok(())
}
