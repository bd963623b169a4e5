// SPDX-License-Identifier: Apache-2.0

//! The checksum of SCTP, which covers no address, follows other ports at any length of the packet;
//! fragments, of which it needs all; and errors, which quote it.

use std::net::SocketAddr;

use anyhow::Result;
use proxy_common::counter::Reason;
use proxy_common::frontend::ServiceIndex;
use proxy_tests::both_families;
use proxy_tests::family::IpFamily;
use proxy_tests::packet::{Chunk, Content, Packet};
use proxy_tests::protocol::Protocol;

use crate::connection::Connection;
use crate::frames::{BACKEND_TAG, CLIENT_TAG, backend, client, init, sctp, vip};
use crate::programs::{At, Verdict};
use crate::rig::{Rig, Tabled};
use crate::wire::Wire;

both_families!(
    the_checksum_is_right_at_every_length,
    the_checksum_is_right_in_long_packets,
    what_is_wrong_stays_wrong,
    no_checksum_stays_none,
    fragments_follow_where_the_ports_stay,
    fragments_cannot_get_other_ports,
    openings_in_fragments_pass,
    a_quoted_checksum_stays,
);

/// The lengths of the common header and of a chunk's, in bytes.
const HEADER: usize = 12;
const CHUNK: usize = 4;

/// A rig with a flow whose ports change.
fn established<F: Tabled>() -> Result<(Rig<F>, Connection)> {
    let mut rig = Rig::<F>::new()?;
    let whole = SocketAddr::new(F::cluster_ip(1), 0);
    rig.mark(whole, Protocol::Tcp, ServiceIndex::REFUSE)?;
    let _: ServiceIndex = rig.service(vip::<F>(1), Protocol::Sctp, &[backend::<F>(1)])?;
    let client = client::<F>(12, 40_000);
    let flow = Connection::establish(&rig.programs, Protocol::Sctp, client, vip::<F>(1))?;
    assert_ne!(flow.frontend.port(), flow.backend.port());
    Ok((rig, flow))
}

/// The same packet with this much behind the common header; the last chunk is not padded.
fn with_length(mut packet: Packet, length: usize) -> Result<Packet> {
    let Content::Sctp(sctp) = &mut packet.content else { anyhow::bail!("not SCTP") };
    let told = u16::try_from(length - HEADER)?.to_be_bytes();
    sctp.chunks = (0..=250).cycle().take(length - HEADER).collect();
    sctp.chunks[..CHUNK].copy_from_slice(&[0, 3, told[0], told[1]]);
    Ok(packet)
}

fn request(flow: &Connection) -> Packet {
    sctp(flow.client, flow.frontend, BACKEND_TAG, Chunk::DATA)
}

fn reply(flow: &Connection) -> Packet {
    sctp(flow.backend, flow.source, CLIENT_TAG, Chunk::DATA)
}

fn the_checksum_is_right_at_every_length<F: Tabled>() -> Result<()> {
    let (rig, flow) = established::<F>()?;
    // No packet is without a chunk.
    for length in (HEADER + CHUNK..=1_500).chain([2_047, 2_048, 3_000]) {
        flow.request(&rig.programs, &with_length(request(&flow), length)?)?;
        flow.reply(&rig.programs, &with_length(reply(&flow), length)?)?;
    }
    // Nor does padding count.
    let sent = with_length(request(&flow), 17)?;
    let mut frame = sent.build()?;
    frame.extend([7; 9]);
    let outcome = rig.programs.run(At::Ingress, &frame)?;
    let expected = [sent.to(flow.backend).build()?, vec![7; 9]].concat();
    assert_eq!((outcome.verdict, outcome.frame), (Verdict::Pass, expected));
    for length in HEADER..HEADER + CHUNK {
        let mut empty = request(&flow);
        if let Content::Sctp(sctp) = &mut empty.content {
            sctp.chunks.truncate(length - HEADER);
        }
        rig.programs.ingress(&empty)?.is(Verdict::Pass, &empty)?;
    }
    Ok(())
}

/// Longer ones than a program can be given without a device.
fn the_checksum_is_right_in_long_packets<F: Tabled>() -> Result<()> {
    Wire::run(|wire, rig: &mut Rig<F>| {
        let _: ServiceIndex = rig.service(vip::<F>(1), Protocol::Sctp, &[backend::<F>(1)])?;
        let client = client::<F>(12, 40_000);
        let flow = Connection::establish(&rig.programs, Protocol::Sctp, client, vip::<F>(1))?;
        for length in [4_095, 4_096, 9_000, 32_767, 65_280, 65_400] {
            let sent = with_length(request(&flow), length)?;
            let seen = wire.send(rig, At::Ingress, &sent, false, None)?;
            assert!(seen.completed()? == sent.to(flow.backend).build()?, "{length}");
            let sent = with_length(reply(&flow), length)?;
            let seen = wire.send(rig, At::Egress, &sent, false, None)?;
            assert!(seen.completed()? == sent.from(flow.frontend).build()?, "{length}");
        }
        Ok(())
    })
}

fn what_is_wrong_stays_wrong<F: Tabled>() -> Result<()> {
    let (rig, flow) = established::<F>()?;
    let sent = with_length(request(&flow), 300)?;
    let (right, expected) = (sent.build()?, sent.to(flow.backend).build()?);
    for bit in 0..32 {
        let at = right.len() - 300 + 8 + bit / 8;
        let wrong = |frame: &[u8]| {
            let mut frame = frame.to_vec();
            frame[at] ^= 1 << (bit % 8);
            frame
        };
        let outcome = rig.programs.run(At::Ingress, &wrong(&right))?;
        assert_eq!((outcome.verdict, outcome.frame), (Verdict::Pass, wrong(&expected)));
    }
    Ok(())
}

/// It is left to the device, or nobody wants it.
fn no_checksum_stays_none<F: Tabled>() -> Result<()> {
    let (rig, flow) = established::<F>()?;
    for length in [16, 100, 1_500] {
        for (mut sent, is_request) in [(request(&flow), true), (reply(&flow), false)] {
            sent = with_length(sent, length)?;
            if let Content::Sctp(sctp) = &mut sent.content {
                sctp.checksum = false;
            }
            if is_request {
                flow.request(&rig.programs, &sent)?;
            } else {
                flow.reply(&rig.programs, &sent)?;
            }
        }
    }
    Ok(())
}

fn fragments_follow_where_the_ports_stay<F: Tabled>() -> Result<()> {
    let mut rig = Rig::<F>::new()?;
    let mut to = backend::<F>(1);
    to.set_port(vip::<F>(1).port());
    let _: ServiceIndex = rig.service(vip::<F>(1), Protocol::Sctp, &[to])?;
    let client = client::<F>(12, 40_000);
    let flow = Connection::establish(&rig.programs, Protocol::Sctp, client, vip::<F>(1))?;
    let sent = with_length(request(&flow), 1_000)?;
    let expected = sent.clone().to(to).fragments(31)?;
    for (fragment, expected) in sent.fragments(31)?.iter().zip(&expected) {
        rig.programs.ingress(fragment)?.is(Verdict::Pass, expected)?;
    }
    let sent = with_length(reply(&flow), 1_000)?;
    let expected = sent.clone().from(flow.frontend).fragments(31)?;
    for (fragment, expected) in sent.fragments(31)?.iter().zip(&expected) {
        rig.programs.egress(fragment)?.is(Verdict::Pass, expected)?;
    }
    Ok(())
}

/// Who must know all of a packet for its checksum cannot begin with its first fragment.
fn fragments_cannot_get_other_ports<F: Tabled>() -> Result<()> {
    let (rig, flow) = established::<F>()?;
    let fragments = with_length(request(&flow), 1_000)?.fragments(31)?;
    for fragment in &fragments {
        rig.programs.ingress(fragment)?.is_dropped();
    }
    assert_eq!(rig.count(Reason::DropSctpFragment)?, 1);
    assert_eq!(rig.count(Reason::DropFragment)?, u64::try_from(fragments.len() - 1)?);
    let fragments = with_length(reply(&flow), 1_000)?.fragments(31)?;
    rig.programs.egress(&fragments[0])?.is_dropped();
    // Without their first, they are of no use to anybody.
    rig.programs.egress(&fragments[1])?.is(Verdict::Pass, &fragments[1])?;
    assert_eq!(rig.count(Reason::DropSctpFragment)?, 2);
    assert_eq!(rig.count(Reason::DropRewrite)?, 0);
    Ok(())
}

fn openings_in_fragments_pass<F: Tabled>() -> Result<()> {
    let (rig, _) = established::<F>()?;
    let sent = init(client::<F>(13, 40_000), vip::<F>(1)).payload(&[7; 1_000]);
    let first = &sent.fragments(31)?[0];
    rig.programs.ingress(first)?.is(Verdict::Pass, first)
}

/// It covers what the quote may lack, and nobody looks at it there.
fn a_quoted_checksum_stays<F: Tabled>() -> Result<()> {
    let (rig, flow) = established::<F>()?;
    let sent = request(&flow);
    let forwarded = sent.clone().to(flow.backend);
    let (kind, header) = match F::FAMILY {
        IpFamily::V4 => ((3, 1), 20),
        IpFamily::V6 => ((1, 0), 40),
    };
    for quoted in [header + 8, header + 12, header + 20] {
        let about = |packet| Packet::icmp_error(F::underlay(9), kind, [0; 4], packet, quoted);
        let arriving = about(&forwarded)?;
        let mut expected = about(&sent)?;
        if let (Content::Icmp(error), Content::Icmp(came)) =
            (&mut expected.content, &arriving.content)
            && quoted > header + 8
        {
            error.payload[header + 8..header + 12]
                .copy_from_slice(&came.payload[header + 8..header + 12]);
        }
        rig.programs.egress(&arriving)?.is(Verdict::Pass, &expected)?;
    }
    Ok(())
}
