// SPDX-License-Identifier: Apache-2.0

//! SCTP associations: how they are opened, proved, ended, and refused.

use std::net::SocketAddr;

use anyhow::Result;
use proxy_common::counter::Reason;
use proxy_common::frontend::ServiceIndex;
use proxy_tests::both_families;
use proxy_tests::packet::{Chunk, Content, Packet};
use proxy_tests::protocol::Protocol;

use crate::connection::Connection;
use crate::frames::{
    BACKEND_TAG, CLIENT_TAG, backend, backends, client, init, init_ack, sctp, vip,
};
use crate::programs::{At, Verdict};
use crate::refusal::sent_back;
use crate::rig::{Rig, Tabled};

both_families!(
    an_association_is_followed_to_its_end,
    a_repeated_init_keeps_its_backend,
    only_the_backends_tag_confirms,
    silence_and_ends_have_their_times,
    an_init_after_the_end_is_another_flow,
    new_associations_are_aborted,
    strays_are_answered_as_by_an_endpoint,
    an_init_must_be_well_formed,
);

/// A rig with a Service port, and a VIP without others.
fn served<F: Tabled>(hosts: u8) -> Result<(Rig<F>, ServiceIndex)> {
    let mut rig = Rig::<F>::new()?;
    let whole = SocketAddr::new(F::cluster_ip(1), 0);
    rig.mark(whole, Protocol::Tcp, ServiceIndex::REFUSE)?;
    let service = rig.service(vip::<F>(1), Protocol::Sctp, &backends::<F>(hosts))?;
    Ok((rig, service))
}

fn establish<F: Tabled>(rig: &Rig<F>, port: u16) -> Result<Connection> {
    let client = client::<F>(12, port);
    Connection::establish(&rig.programs, Protocol::Sctp, client, vip::<F>(1))
}

fn request<F: Tabled>(rig: &Rig<F>, flow: &Connection, chunk: Chunk) -> Result<()> {
    flow.request(&rig.programs, &sctp(flow.client, flow.frontend, BACKEND_TAG, chunk))
}

fn reply<F: Tabled>(rig: &Rig<F>, flow: &Connection, chunk: Chunk) -> Result<()> {
    flow.reply(&rig.programs, &sctp(flow.backend, flow.source, CLIENT_TAG, chunk))
}

fn an_association_is_followed_to_its_end<F: Tabled>() -> Result<()> {
    let (rig, _) = served::<F>(1)?;
    let flow = establish(&rig, 40_000)?;
    assert_eq!((flow.source, flow.backend), (flow.client, backend::<F>(1)));
    assert!(flow.is_confirmed(&rig)?);
    reply(&rig, &flow, Chunk::COOKIE_ACK)?;
    for chunk in [Chunk::DATA, Chunk::SACK, Chunk::HEARTBEAT, Chunk::FORWARD_TSN, Chunk(15)] {
        request(&rig, &flow, chunk)?;
        reply(&rig, &flow, chunk)?;
    }
    request(&rig, &flow, Chunk::SHUTDOWN)?;
    reply(&rig, &flow, Chunk::SHUTDOWN_ACK)?;
    request(&rig, &flow, Chunk::SHUTDOWN_COMPLETE)?;
    assert_eq!(rig.count(Reason::FlowCreated)?, 1);
    Ok(())
}

fn a_repeated_init_keeps_its_backend<F: Tabled>() -> Result<()> {
    let (rig, _) = served::<F>(8)?;
    for port in 40_000..40_020 {
        let client = client::<F>(12, port);
        let flow = Connection::open(&rig.programs, Protocol::Sctp, client, vip::<F>(1))?;
        for tag in [CLIENT_TAG, 1] {
            // A client that has begun anew has another tag.
            let mut again = Packet::init(client, flow.frontend, tag);
            again.link.destination = init(client, flow.frontend).link.destination;
            flow.request(&rig.programs, &again)?;
        }
    }
    assert_eq!(rig.count(Reason::FlowCreated)?, 20);
    Ok(())
}

fn only_the_backends_tag_confirms<F: Tabled>() -> Result<()> {
    let (rig, _) = served::<F>(1)?;
    let (client, frontend) = (client::<F>(12, 40_000), vip::<F>(1));
    let flow = Connection::open(&rig.programs, Protocol::Sctp, client, frontend)?;
    let says = |tag, chunk| flow.request(&rig.programs, &sctp(client, frontend, tag, chunk));
    says(BACKEND_TAG, Chunk::COOKIE_ECHO)?;
    flow.answer(&rig.programs)?;
    for wrong in [0, BACKEND_TAG - 1, BACKEND_TAG.wrapping_add(1), CLIENT_TAG] {
        says(wrong, Chunk::COOKIE_ECHO)?;
    }
    // The tag is there, but these prove nothing.
    for chunk in [Chunk::ABORT, Chunk::SHUTDOWN_COMPLETE] {
        says(BACKEND_TAG, chunk)?;
    }
    // Nor can a client set it.
    let mut forged = Packet::init_ack(client, frontend, CLIENT_TAG, 7);
    forged.link = init_ack(client, frontend).link;
    flow.request(&rig.programs, &forged)?;
    says(7, Chunk::COOKIE_ECHO)?;
    assert!(!flow.is_confirmed(&rig)?);
    says(BACKEND_TAG, Chunk::COOKIE_ECHO)?;
    assert!(flow.is_confirmed(&rig)?);
    Ok(())
}

fn silence_and_ends_have_their_times<F: Tabled>() -> Result<()> {
    const NOTHING: &[Chunk] = &[];
    const SHUTDOWN: &[Chunk] = &[Chunk::SHUTDOWN];
    let (mut rig, _) = served::<F>(1)?;
    let cases = [
        (NOTHING, NOTHING, 210),
        (SHUTDOWN, NOTHING, 210),
        (NOTHING, SHUTDOWN, 210),
        (SHUTDOWN, &[Chunk::SHUTDOWN_ACK], 10),
        (&[Chunk::SHUTDOWN_COMPLETE], NOTHING, 10),
        (&[Chunk::ABORT], NOTHING, 10),
        (NOTHING, &[Chunk::ABORT], 10),
        // An ABORT that was forged: the association goes on.
        (&[Chunk::ABORT], &[Chunk::DATA], 210),
        (&[Chunk::ABORT, Chunk::DATA], NOTHING, 210),
    ];
    for (port, (from_client, from_backend, seconds)) in (40_000..).zip(cases) {
        for (port, after, is_over) in [(port, seconds - 2, false), (port + 100, seconds + 1, true)]
        {
            let flow = establish(&rig, port)?;
            for chunk in from_client {
                request(&rig, &flow, *chunk)?;
            }
            for chunk in from_backend {
                reply(&rig, &flow, *chunk)?;
            }
            for key in [flow.key::<F>(), flow.reply_key::<F>()] {
                rig.age(&key, after)?;
            }
            if is_over {
                let late = sctp(flow.client, flow.frontend, BACKEND_TAG, Chunk::DATA);
                assert_eq!(rig.programs.ingress(&late)?.verdict, Verdict::Redirect, "{port}");
            } else {
                request(&rig, &flow, Chunk::DATA)?;
            }
        }
    }
    Ok(())
}

fn an_init_after_the_end_is_another_flow<F: Tabled>() -> Result<()> {
    let (mut rig, service) = served::<F>(1)?;
    // What both say, and who serves the INIT after it: an ABORT may have been forged, and that too.
    let ends: [(&[Chunk], &[Chunk], u8); 4] = [
        (&[Chunk::ABORT], &[], 1),
        (&[], &[Chunk::ABORT], 1),
        (&[Chunk::SHUTDOWN_COMPLETE], &[], 1),
        (&[Chunk::SHUTDOWN], &[Chunk::SHUTDOWN_ACK], 2),
    ];
    for (port, (from_client, from_backend, server)) in (40_000..).zip(ends) {
        let first = rig.backend_set(&[backend::<F>(1)])?;
        rig.tables.publish_cluster(service, first)?;
        let flow = establish(&rig, port)?;
        let second = rig.backend_set(&[backend::<F>(2)])?;
        rig.tables.publish_cluster(service, second)?;
        // Amid it, an INIT is one of a client that has begun anew (RFC 9260 section 5.2).
        flow.repeat(&rig.programs)?;
        for chunk in from_client {
            request(&rig, &flow, *chunk)?;
        }
        for chunk in from_backend {
            reply(&rig, &flow, *chunk)?;
        }
        assert_eq!(establish(&rig, port)?.backend, backend::<F>(server));
    }
    Ok(())
}

/// What answers a packet that is refused.
fn refusal(to: &Packet, tag: u32, chunk: Chunk, is_reflected: bool) -> Result<Packet> {
    let mut packet = to.clone();
    std::mem::swap(&mut packet.source, &mut packet.destination);
    let Content::Sctp(sctp) = &mut packet.content else { anyhow::bail!("not SCTP") };
    std::mem::swap(&mut sctp.source, &mut sctp.destination);
    sctp.tag = tag;
    sctp.checksum = true;
    sctp.chunks = chunk.with(&[]);
    sctp.chunks[1] = is_reflected.into();
    Ok(sent_back(packet, to))
}

fn new_associations_are_aborted<F: Tabled>() -> Result<()> {
    let (mut rig, _) = served::<F>(1)?;
    let _: ServiceIndex = rig.service(vip::<F>(2), Protocol::Sctp, &[])?;
    let wrong = SocketAddr::new(F::cluster_ip(1), 81);
    for (to, reason) in [(vip::<F>(2), Reason::RejectNoEndpoints), (wrong, Reason::RejectNoPort)] {
        let plain = init(client::<F>(12, 40_000), to);
        for (count, sent) in (1..).zip([
            plain.clone(),
            plain.clone().with_options(),
            plain.clone().payload(&[7; 1_000]).with_options(),
        ]) {
            let expected = refusal(&sent, CLIENT_TAG, Chunk::ABORT, false)?;
            rig.programs.ingress(&sent)?.is(Verdict::Redirect, &expected)?;
            assert_eq!(rig.count(reason)?, count);
        }
    }
    assert_eq!(rig.count(Reason::FlowCreated)?, 0);
    Ok(())
}

fn strays_are_answered_as_by_an_endpoint<F: Tabled>() -> Result<()> {
    let (rig, _) = served::<F>(1)?;
    let (from, wrong) = (client::<F>(12, 40_000), SocketAddr::new(F::cluster_ip(1), 81));
    for to in [vip::<F>(1), wrong] {
        for (chunk, answer) in [
            (Chunk::DATA, Chunk::ABORT),
            (Chunk::COOKIE_ECHO, Chunk::ABORT),
            (Chunk::SHUTDOWN, Chunk::ABORT),
            (Chunk::SHUTDOWN_ACK, Chunk::SHUTDOWN_COMPLETE),
            (Chunk::FORWARD_TSN, Chunk::ABORT),
        ] {
            let stray = sctp(from, to, 0xabcd_ef01, chunk);
            let expected = refusal(&stray, 0xabcd_ef01, answer, true)?;
            rig.programs.ingress(&stray)?.is(Verdict::Redirect, &expected)?;
        }
        for chunk in [Chunk::ABORT, Chunk::SHUTDOWN_COMPLETE] {
            let last = sctp(from, to, 7, chunk);
            rig.programs.ingress(&last)?.is(Verdict::Pass, &last)?;
        }
    }
    assert_eq!(rig.count(Reason::RejectNoFlow)?, 10);
    assert_eq!(rig.count(Reason::FlowCreated)?, 0);
    Ok(())
}

fn an_init_must_be_well_formed<F: Tabled>() -> Result<()> {
    let (rig, _) = served::<F>(1)?;
    let good = init(client::<F>(12, 40_000), vip::<F>(1));
    let changes: [fn(&mut Vec<u8>); 6] = [
        // Another chunk behind it.
        |chunks| chunks.extend(Chunk::DATA.with(b"text")),
        // One too short for what it must have.
        |chunks| chunks[3] = 16,
        // Chunks beyond the packet, and shorter than their own header.
        |chunks| chunks[3] += 1,
        |chunks| chunks[2] = 0xff,
        |chunks| chunks[3] = 3,
        |chunks| chunks.truncate(0),
    ];
    let mut bad: Vec<_> = changes
        .into_iter()
        .map(|change| {
            let mut packet = good.clone();
            if let Content::Sctp(sctp) = &mut packet.content {
                change(&mut sctp.chunks);
            }
            packet
        })
        .collect();
    // A tag, which it cannot know.
    let mut tagged = good.clone();
    if let Content::Sctp(sctp) = &mut tagged.content {
        sctp.tag = 1;
    }
    bad.push(tagged);
    for packet in bad {
        for at in [At::Ingress, At::Egress] {
            rig.programs.run(at, &packet.build()?)?.is(Verdict::Pass, &packet)?;
        }
    }
    rig.programs.ingress(&good)?.is(Verdict::Pass, &good.clone().to(backend::<F>(1)))
}
