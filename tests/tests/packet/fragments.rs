// SPDX-License-Identifier: Apache-2.0

//! Fragments: the first has the ports, and the others follow it.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use proxy_agent::bpf::clock;
use proxy_common::clock::{Tick, seconds};
use proxy_common::counter::Reason;
use proxy_common::fragment::{FRAGMENT_SECONDS, Fragmented};
use proxy_common::frontend::ServiceIndex;
use proxy_tests::both_families;
use proxy_tests::family::IpFamily;
use proxy_tests::packet::{Content, Fragment, Packet, TcpFlags};
use proxy_tests::protocol::Protocol;

use crate::connection::Connection;
use crate::frames::{
    backend, backends, client, opening, proof, syn, tcp, udp, vip, with_extension,
};
use crate::programs::{At, Outcome, Verdict};
use crate::rig::{Rig, Tabled};

both_families!(
    fragments_go_where_their_first_goes,
    replies_come_in_fragments,
    fragments_may_come_in_any_order_behind_the_first,
    a_fragment_that_overtakes_its_first_is_dropped,
    fragments_of_refused_packets_are_dropped,
    fragments_of_others_pass,
    fragments_turn_around_in_a_hairpin,
    a_first_fragment_is_forgotten,
    an_identification_may_come_round_again,
    a_packet_in_one_fragment_is_whole,
);

/// The protocols whose checksums are sums: of SCTP see `sctp_checksums`.
const SUMMED: [Protocol; 2] = [Protocol::Tcp, Protocol::Udp];

/// Something long.
const LONG: [u8; 1_000] = [7; 1_000];

/// A rig with a VIP, all of which is taken, of three backends.
fn served<F: Tabled>() -> Result<Rig<F>> {
    let mut rig = Rig::<F>::new()?;
    let whole = SocketAddr::new(F::cluster_ip(1), 0);
    rig.mark(whole, Protocol::Tcp, ServiceIndex::REFUSE)?;
    for protocol in SUMMED {
        let _: ServiceIndex = rig.service(vip::<F>(1), protocol, &backends::<F>(3))?;
    }
    Ok(rig)
}

/// A packet of the client's that opens a flow, and is long enough to be cut.
fn long_opening<F: Tabled>(protocol: Protocol, port: u16, number: u32) -> Packet {
    let packet = opening(protocol, client::<F>(12, port), vip::<F>(1)).payload(&LONG);
    Packet { label: number, ..packet }
}

/// The destination of a first fragment.
fn destination<F: Tabled>(outcome: &Outcome) -> Result<SocketAddr> {
    let packet = outcome.packet(Verdict::Pass)?;
    Ok(SocketAddr::new(packet.destination, backend::<F>(1).port()))
}

fn fragments_go_where_their_first_goes<F: Tabled>() -> Result<()> {
    let rig = served::<F>()?;
    for protocol in SUMMED {
        let mut destinations = Vec::new();
        for number in 1..40 {
            let mut sent = long_opening::<F>(protocol, 40_000 + u16::try_from(number)?, number);
            match &mut sent.content {
                Content::Udp(udp) if F::FAMILY == IpFamily::V4 => udp.checksum = number % 2 == 0,
                _ => {}
            }
            if number % 3 == 0 {
                sent = sent.with_options();
            }
            let fragments = sent.fragments(31)?;
            let first = rig.programs.ingress(&fragments[0])?;
            let to = destination::<F>(&first)?;
            destinations.push(to);
            let expected = sent.to(to).fragments(31)?;
            first.is(Verdict::Pass, &expected[0])?;
            for (fragment, expected) in fragments.iter().zip(&expected).skip(1) {
                rig.programs.ingress(fragment)?.is(Verdict::Pass, expected)?;
            }
        }
        destinations.sort_unstable();
        destinations.dedup();
        assert_eq!(destinations.len(), 3, "all backends are chosen");
    }
    assert_eq!(rig.count(Reason::DropFragment)?, 0);
    Ok(())
}

fn replies_come_in_fragments<F: Tabled>() -> Result<()> {
    let rig = served::<F>()?;
    for protocol in SUMMED {
        let client = client::<F>(12, 40_000);
        let flow = Connection::establish(&rig.programs, protocol, client, vip::<F>(1))?;
        let sent = proof(protocol, flow.backend, flow.source).payload(&LONG);
        let expected = sent.clone().from(flow.frontend).to(flow.client).fragments(20)?;
        for (fragment, expected) in sent.fragments(20)?.iter().zip(&expected) {
            rig.programs.egress(fragment)?.is(Verdict::Pass, expected)?;
        }
    }
    Ok(())
}

fn fragments_may_come_in_any_order_behind_the_first<F: Tabled>() -> Result<()> {
    let rig = served::<F>()?;
    // Of two packets at once, the later ones twice and backwards.
    let sent = [1, 2].map(|number| {
        long_opening::<F>(Protocol::Udp, 40_000 + u16::try_from(number).unwrap_or(0), number)
    });
    let mut expected = Vec::new();
    for packet in &sent {
        let first = rig.programs.ingress(&packet.fragments(31)?[0])?;
        expected.push(packet.clone().to(destination::<F>(&first)?).fragments(31)?);
    }
    for _ in 0..2 {
        for (packet, expected) in sent.iter().zip(&expected) {
            for (fragment, expected) in packet.fragments(31)?.iter().zip(expected).skip(1).rev() {
                rig.programs.ingress(fragment)?.is(Verdict::Pass, expected)?;
            }
        }
    }
    Ok(())
}

fn a_fragment_that_overtakes_its_first_is_dropped<F: Tabled>() -> Result<()> {
    let rig = served::<F>()?;
    let sent = long_opening::<F>(Protocol::Udp, 40_000, 7);
    let fragments = sent.fragments(31)?;
    rig.programs.ingress(&fragments[1])?.is_dropped();
    assert_eq!(rig.count(Reason::DropFragment)?, 1);
    let first = rig.programs.ingress(&fragments[0])?;
    let expected = sent.clone().to(destination::<F>(&first)?).fragments(31)?;
    rig.programs.ingress(&fragments[2])?.is(Verdict::Pass, &expected[2])?;
    // What names another packet is another packet's.
    let mut others = vec![Packet { label: 8, ..sent.clone() }];
    others.push(sent.clone().from(client::<F>(13, 40_000)));
    if F::FAMILY == IpFamily::V4 {
        others.push(
            Packet { label: 7, ..tcp(client::<F>(12, 40_000), vip::<F>(1), TcpFlags::ACK) }
                .payload(&LONG),
        );
    }
    for (count, other) in (2..).zip(others) {
        rig.programs.ingress(&other.fragments(31)?[1])?.is_dropped();
        assert_eq!(rig.count(Reason::DropFragment)?, count);
    }
    // In the other direction nothing says that it is a flow's.
    let reply = udp(backend::<F>(1), client::<F>(12, 40_000), &LONG).fragments(31)?;
    rig.programs.egress(&reply[1])?.is(Verdict::Pass, &reply[1])
}

fn fragments_of_refused_packets_are_dropped<F: Tabled>() -> Result<()> {
    let rig = served::<F>()?;
    let mut wrong = vip::<F>(1);
    wrong.set_port(81);
    for (count, protocol) in (1..).zip(SUMMED) {
        let sent = opening(protocol, client::<F>(12, 40_000), wrong).payload(&LONG);
        let fragments = sent.fragments(31)?;
        // The answer is no fragment: a RST that acknowledges what has come of the data, or an
        // error that quotes it.
        let answer = rig.programs.ingress(&fragments[0])?.packet(Verdict::Redirect)?;
        assert!(
            answer.fragment.is_none_or(|fragment| fragment == Fragment { offset: 0, more: false })
        );
        assert_eq!((answer.source, answer.destination), (sent.destination, sent.source));
        rig.programs.ingress(&fragments[1])?.is_dropped();
        assert_eq!(rig.count(Reason::DropFragment)?, count);
    }
    assert_eq!(rig.count(Reason::RejectNoPort)?, 2);
    Ok(())
}

fn fragments_of_others_pass<F: Tabled>() -> Result<()> {
    let mut rig = served::<F>()?;
    rig.mark(backend::<F>(1), Protocol::Udp, ServiceIndex::DIRECT)?;
    for to in [backend::<F>(1), client::<F>(13, 80)] {
        for fragment in udp(client::<F>(12, 40_000), to, &LONG).fragments(31)? {
            for at in [At::Ingress, At::Egress] {
                rig.programs.run(at, &fragment.build()?)?.is(Verdict::Pass, &fragment)?;
            }
        }
    }
    Ok(())
}

fn fragments_turn_around_in_a_hairpin<F: Tabled>() -> Result<()> {
    let mut rig = Rig::<F>::new()?;
    let own = client::<F>(12, 8080);
    rig.set_host_address(F::pod(1, 1))?;
    let _: ServiceIndex = rig.service(vip::<F>(1), Protocol::Udp, &[own])?;
    let first = opening(Protocol::Udp, client::<F>(12, 40_000), vip::<F>(1));
    let turned = rig.programs.ingress(&first)?.packet(Verdict::Redirect)?;
    let source = turned.source_socket().expect("ports");
    let sent = long_opening::<F>(Protocol::Udp, 40_000, 7);
    let mut expected = sent.clone().from(source).to(own);
    std::mem::swap(&mut expected.link.source, &mut expected.link.destination);
    for (fragment, expected) in sent.fragments(31)?.iter().zip(expected.fragments(31)?) {
        rig.programs.ingress(fragment)?.is(Verdict::Redirect, &expected)?;
    }
    Ok(())
}

fn a_first_fragment_is_forgotten<F: Tabled>() -> Result<()> {
    let mut rig = served::<F>()?;
    let sent = long_opening::<F>(Protocol::Udp, 40_000, 7);
    let fragments = sent.fragments(31)?;
    let first = rig.programs.ingress(&fragments[0])?;
    let expected = sent.to(destination::<F>(&first)?).fragments(31)?;
    let (key, known) = rig.fragments.iter().next().context("a first fragment")??;
    for (age, passes) in [(FRAGMENT_SECONDS - 1, true), (FRAGMENT_SECONDS + 2, false)] {
        let written = Tick(clock::now().0.wrapping_sub(seconds(age)));
        let (source, destination) = (known.source_port(), known.destination_port());
        let known = Fragmented::new(known.protocol(), source, destination, written);
        rig.fragments.insert(key, known, 0)?;
        let outcome = rig.programs.ingress(&fragments[1])?;
        if passes {
            outcome.is(Verdict::Pass, &expected[1])?;
        } else {
            outcome.is_dropped();
        }
    }
    Ok(())
}

/// A later packet with the same name is nobody's: its fragments are not the flow's.
fn an_identification_may_come_round_again<F: Tabled>() -> Result<()> {
    let rig = served::<F>()?;
    let client = client::<F>(12, 40_000);
    let flow = Connection::establish(&rig.programs, Protocol::Udp, client, vip::<F>(1))?;
    let reply = udp(flow.backend, flow.source, &LONG);
    let expected = reply.clone().from(flow.frontend).to(flow.client).fragments(31)?;
    let other = udp(SocketAddr::new(flow.backend.ip(), 9), client, &LONG);
    for (fragment, expected) in reply.fragments(31)?.iter().zip(&expected).take(2) {
        rig.programs.egress(fragment)?.is(Verdict::Pass, expected)?;
    }
    for fragment in other.fragments(31)? {
        rig.programs.egress(&fragment)?.is(Verdict::Pass, &fragment)?;
    }
    Ok(())
}

/// IPv6 has headers of fragments that are none (RFC 6946).
fn a_packet_in_one_fragment_is_whole<F: Tabled>() -> Result<()> {
    let rig = served::<F>()?;
    let whole = syn(client::<F>(12, 40_000), vip::<F>(1));
    let atomic = Packet { fragment: Some(Fragment { offset: 0, more: false }), ..whole.clone() };
    if F::FAMILY == IpFamily::V4 {
        assert_eq!(atomic.build()?, whole.build()?);
        return Ok(());
    }
    let outcome = rig.programs.ingress(&atomic)?;
    let to = destination::<F>(&outcome)?;
    assert_eq!(outcome.frame, atomic.to(to).build()?);
    assert!(rig.fragments.iter().next().is_none());
    // With another extension header before it.
    let frame = with_extension(&whole.build()?, 60);
    assert_eq!(rig.programs.run(At::Ingress, &frame)?.verdict, Verdict::Pass);
    Ok(())
}
