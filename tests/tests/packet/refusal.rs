// SPDX-License-Identifier: Apache-2.0

//! What cannot be served is refused at once, in the name of the VIP, and
//! counted.

use std::net::{IpAddr, SocketAddr};
use std::thread;
use std::time::Instant;

use anyhow::{Context as _, Result, anyhow};
use proxy_common::counter::Reason;
use proxy_common::frontend::ServiceIndex;
use proxy_common::reject::{BURST, PER_TICK};
use proxy_common::service::{BackendSet, Policy};
use proxy_tests::both_families;
use proxy_tests::family::IpFamily;
use proxy_tests::packet::{Chunk, Content, Link, Packet, TcpFlags};
use proxy_tests::protocol::Protocol;

use crate::connection::Connection;
use crate::frames::{NODE_MAC, ack, backend, client, opening, syn, tcp, udp, vip};
use crate::processors;
use crate::programs::{At, Verdict};
use crate::rig::{Rig, Tabled};

both_families!(
    a_syn_gets_a_reset,
    a_datagram_gets_an_error,
    a_segment_without_flow_gets_a_reset,
    a_reset_gets_nothing,
    what_must_not_be_answered_is_not,
    padding_is_no_data,
    a_flow_is_served_on_a_vip_that_refuses,
    refusals_have_a_limit,
    a_local_policy_drops,
);

/// A way to be refused: where a client dials, and what is counted then.
type Refusal = (SocketAddr, Reason);

/// The ways to be refused that a client has: by a Service port without
/// endpoints, and by a VIP without the port.
fn refusing<F: Tabled>() -> Result<(Rig<F>, [Refusal; 2])> {
    let mut rig = Rig::<F>::new()?;
    for protocol in Protocol::ALL {
        let _: ServiceIndex = rig.service(vip::<F>(1), protocol, &[])?;
    }
    let whole = SocketAddr::new(F::cluster_ip(1), 0);
    rig.mark(whole, Protocol::Tcp, ServiceIndex::REFUSE)?;
    let wrong = SocketAddr::new(F::cluster_ip(1), 81);
    Ok((rig, [(vip::<F>(1), Reason::RejectNoEndpoints), (wrong, Reason::RejectNoPort)]))
}

/// The packet on its way back from the node that made it, to the sender of
/// another one.
pub(crate) fn sent_back(packet: Packet, to: &Packet) -> Packet {
    let link = Link { source: NODE_MAC, destination: to.link.source, vlan: None };
    Packet { link, hop_limit: 64, ..packet }
}

/// Asserts that a packet refuses another one, as is usual for the protocol of that.
pub(crate) fn assert_refusal<F: Tabled>(of: &Packet, answer: &Packet) {
    assert_eq!((answer.source, answer.destination), (of.destination, of.source));
    let is_refusal = match (&of.content, &answer.content) {
        (Content::Tcp(_), Content::Tcp(reset)) => reset.flags.contains(TcpFlags::RST),
        (Content::Sctp(_), Content::Sctp(abort)) => abort.chunks == Chunk::ABORT.with(&[]),
        (Content::Tcp(_) | Content::Sctp(_), _) => false,
        (_, Content::Icmp(error)) => error.is_port_unreachable(F::FAMILY),
        _ => false,
    };
    assert!(is_refusal, "{answer:?}");
}

/// The RST that answers a segment.
fn reset(to: &Packet, flags: TcpFlags, sequence: u32, acknowledgment: u32) -> Result<Packet> {
    let mut packet = to.clone();
    std::mem::swap(&mut packet.source, &mut packet.destination);
    let Content::Tcp(tcp) = &mut packet.content else { anyhow::bail!("not TCP") };
    std::mem::swap(&mut tcp.source, &mut tcp.destination);
    tcp.flags = flags;
    tcp.window = 0;
    tcp.options.clear();
    tcp.payload.clear();
    Ok(sent_back(packet.numbers(sequence, acknowledgment), to))
}

fn a_syn_gets_a_reset<F: Tabled>() -> Result<()> {
    let (rig, refusals) = refusing::<F>()?;
    for (frontend, reason) in refusals {
        let plain = syn(client::<F>(12, 40_000), frontend);
        let mut options = plain.clone().with_options();
        if let Content::Tcp(tcp) = &mut options.content {
            tcp.options = vec![2, 4, 5, 0xb4, 1, 3, 3, 7];
        }
        let data = plain.clone().payload(&[7; 1000]);
        let cases = [(plain, 1), (options, 1), (data, 1001)];
        for (count, (packet, taken)) in (1..).zip(cases) {
            // RFC 9293 section 3.10.7.1: SYN and data are both acknowledged.
            let next = crate::frames::CLIENT_ISN.wrapping_add(taken);
            let expected = reset(&packet, TcpFlags::RST | TcpFlags::ACK, 0, next)?;
            rig.programs.ingress(&packet)?.is(Verdict::Redirect, &expected)?;
            assert_eq!(rig.count(reason)?, count);
        }
    }
    assert_eq!(rig.count(Reason::FlowCreated)?, 0);
    Ok(())
}

fn a_datagram_gets_an_error<F: Tabled>() -> Result<()> {
    let (rig, refusals) = refusing::<F>()?;
    for (frontend, reason) in refusals {
        let from = client::<F>(12, 40_000);
        let empty = udp(from, frontend, b"");
        let odd = udp(from, frontend, b"odd");
        let long = udp(from, frontend, &[7; 1200]).with_options();
        for (count, packet) in (1..).zip([empty, odd, long]) {
            let mut expected = Packet::port_unreachable(frontend.ip(), &packet)?;
            // RFC 1812 asks for this precedence of errors; ICMPv6 has none.
            expected.traffic_class = if from.is_ipv4() { 0xc0 } else { 0 };
            expected.label = 0;
            expected.dont_fragment = false;
            if let Content::Icmp(icmp) = &mut expected.content {
                icmp.payload.truncate(128);
            }
            let answer = rig.programs.ingress(&packet)?.packet(Verdict::Redirect)?;
            assert_eq!(answer, sent_back(expected, &packet));
            assert_eq!(rig.count(reason)?, count);
        }
    }
    Ok(())
}

fn a_segment_without_flow_gets_a_reset<F: Tabled>() -> Result<()> {
    let (mut rig, [(empty, _), (wrong, _)]) = refusing::<F>()?;
    let served = vip::<F>(2);
    let _: ServiceIndex = rig.service(served, Protocol::Tcp, &[backend::<F>(1)])?;
    for frontend in [served, empty, wrong] {
        let from = client::<F>(12, 40_000);
        for flags in [TcpFlags::default(), TcpFlags::PSH, TcpFlags::FIN, TcpFlags::SYN] {
            let packet = tcp(from, frontend, flags | TcpFlags::ACK).numbers(5, 9).payload(b"abc");
            let expected = reset(&packet, TcpFlags::RST, 9, 0)?;
            rig.programs.ingress(&packet)?.is(Verdict::Redirect, &expected)?;
        }
        // Without acknowledgement there is no number to take.
        let packet = tcp(from, frontend, TcpFlags::FIN).numbers(5, 9).payload(b"abc");
        let expected = reset(&packet, TcpFlags::RST | TcpFlags::ACK, 0, 9)?;
        rig.programs.ingress(&packet)?.is(Verdict::Redirect, &expected)?;
    }
    assert_eq!(rig.count(Reason::RejectNoFlow)?, 15);
    assert_eq!(rig.count(Reason::FlowCreated)?, 0);
    Ok(())
}

fn a_reset_gets_nothing<F: Tabled>() -> Result<()> {
    let (rig, refusals) = refusing::<F>()?;
    for (frontend, _) in refusals {
        for flags in [TcpFlags::default(), TcpFlags::ACK, TcpFlags::SYN] {
            let packet = tcp(client::<F>(12, 40_000), frontend, flags | TcpFlags::RST);
            rig.programs.ingress(&packet)?.is(Verdict::Pass, &packet)?;
        }
    }
    Ok(())
}

/// Who must never get an error in answer (RFC 1122 section 3.2.2, RFC 4443 section 2.4).
fn what_must_not_be_answered_is_not<F: Tabled>() -> Result<()> {
    let (mut rig, [(empty, _), (wrong, _)]) = refusing::<F>()?;
    let (group, nobody): (IpAddr, IpAddr) = match F::FAMILY {
        IpFamily::V4 => ("224.0.0.251".parse()?, "0.0.0.0".parse()?),
        IpFamily::V6 => ("ff02::fb".parse()?, "::".parse()?),
    };
    let group = SocketAddr::new(group, 80);
    let from = client::<F>(12, 40_000);
    let mut silent = Vec::new();
    for protocol in Protocol::ALL {
        let _: ServiceIndex = rig.service(group, protocol, &[])?;
        silent.push(opening(protocol, from, group));
        for frontend in [empty, wrong] {
            let mut packet = opening(protocol, from, frontend);
            for mac in [[0xff; 6], [0x33, 0x33, 0, 0, 0, 1], [1, 0, 0x5e, 0, 0, 1]] {
                packet.link.destination = mac;
                silent.push(packet.clone());
            }
            for source in [group.ip(), nobody] {
                silent.push(opening(protocol, SocketAddr::new(source, 40_000), frontend));
            }
            // An ICMP error, about a packet that could have been the VIP's.
            let about = opening(protocol, frontend, from);
            silent
                .push(Packet { link: about.link, ..Packet::port_unreachable(from.ip(), &about)? });
        }
    }
    for packet in silent {
        let frame = packet.build()?;
        let outcome = rig.programs.run(At::Ingress, &frame)?;
        assert_eq!(outcome.verdict, Verdict::Pass, "{packet:?}");
        assert!(outcome.frame == frame, "{packet:?}");
    }
    for reason in [Reason::RejectNoEndpoints, Reason::RejectNoPort, Reason::RejectNoFlow] {
        assert_eq!(rig.count(reason)?, 0);
    }
    Ok(())
}

fn padding_is_no_data<F: Tabled>() -> Result<()> {
    let (rig, [(frontend, _), _]) = refusing::<F>()?;
    let packet = syn(client::<F>(12, 40_000), frontend);
    let mut frame = packet.build()?;
    // What Ethernet adds to short frames (IEEE 802.3), and some more.
    frame.resize(frame.len() + 6, 0);
    let next = crate::frames::CLIENT_ISN.wrapping_add(1);
    let expected = reset(&packet, TcpFlags::RST | TcpFlags::ACK, 0, next)?;
    rig.programs.run(At::Ingress, &frame)?.is(Verdict::Redirect, &expected)?;

    let packet = udp(client::<F>(12, 40_000), frontend, b"abc");
    let expected = rig.programs.ingress(&packet)?.packet(Verdict::Redirect)?;
    let mut frame = packet.build()?;
    frame.resize(frame.len() + 6, 0);
    rig.programs.run(At::Ingress, &frame)?.is(Verdict::Redirect, &expected)
}

fn a_flow_is_served_on_a_vip_that_refuses<F: Tabled>() -> Result<()> {
    let mut rig = Rig::<F>::new()?;
    let whole = SocketAddr::new(F::cluster_ip(1), 0);
    rig.mark(whole, Protocol::Tcp, ServiceIndex::REFUSE)?;
    for protocol in Protocol::ALL {
        let service = rig.service(vip::<F>(1), protocol, &[backend::<F>(1)])?;
        let client = client::<F>(12, 40_000);
        let connection = Connection::establish(&rig.programs, protocol, client, vip::<F>(1))?;
        rig.tables.publish_cluster(service, BackendSet::REJECT)?;
        connection.prove(&rig.programs)?;
        connection.answer(&rig.programs)?;
    }
    Ok(())
}

fn refusals_have_a_limit<F: Tabled>() -> Result<()> {
    const PACKETS: u64 = 4 * BURST as u64;
    let mut rig = Rig::<F>::new()?;
    let _: ServiceIndex = rig.service(vip::<F>(1), Protocol::Tcp, &[])?;
    let frame = syn(client::<F>(12, 40_000), vip::<F>(1)).build()?;
    // Each processor has a limit of its own.
    let one = processors::allowed()?.first().copied().context("a processor")?;
    let flood = || {
        processors::stay_on(one)?;
        let (begin, mut refused) = (Instant::now(), 0);
        for _ in 0..PACKETS {
            match rig.programs.run(At::Ingress, &frame)?.verdict {
                Verdict::Redirect => refused += 1,
                verdict => assert_eq!(verdict, Verdict::Drop),
            }
        }
        anyhow::Ok((refused, begin.elapsed()))
    };
    let (refused, took) = thread::scope(|scope| scope.spawn(flood).join())
        .map_err(|_| anyhow!("the flood panicked"))??;
    let ticks = u64::try_from(took.as_nanos() >> 26)? + 2;
    let most = u64::from(BURST) + ticks * u64::from(PER_TICK);
    assert!(most < PACKETS, "too slow to reach the limit: {took:?}");
    assert!((u64::from(BURST)..=most).contains(&refused), "{refused} refusals");
    assert_eq!(rig.count(Reason::RejectNoEndpoints)?, refused);
    assert_eq!(rig.count(Reason::DropRejectLimit)?, PACKETS - refused);
    Ok(())
}

fn a_local_policy_drops<F: Tabled>() -> Result<()> {
    let mut rig = Rig::<F>::new()?;
    for (count, protocol) in (1..).zip(Protocol::ALL) {
        let service = rig.service(vip::<F>(1), protocol, &[backend::<F>(1)])?;
        rig.tables.publish_local(service, BackendSet::DROP)?;
        rig.tables.publish_policy(service, Policy::INTERNAL_LOCAL)?;
        rig.programs
            .ingress(&opening(protocol, client::<F>(12, 40_000), vip::<F>(1)))?
            .is_dropped();
        assert_eq!(rig.count(Reason::DropPolicyLocal)?, count);
    }
    // What is amid a connection is refused all the same.
    let packet = ack(client::<F>(12, 40_000), vip::<F>(1));
    assert_eq!(rig.programs.ingress(&packet)?.verdict, Verdict::Redirect);
    Ok(())
}
