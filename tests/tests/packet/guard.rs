// SPDX-License-Identifier: Apache-2.0

//! What must not leave the node: packets to Service CIDRs that nobody has translated.

use std::net::{IpAddr, SocketAddr};

use anyhow::Result;
use proxy_common::counter::Reason;
use proxy_common::device::Device;
use proxy_common::frontend::{FrontendKey, ServiceIndex};
use proxy_tests::both_families;
use proxy_tests::family::IpFamily;
use proxy_tests::packet::{Content, Icmp, Packet, TcpFlags};
use proxy_tests::protocol::Protocol;

use crate::frames::{ack, backend, client, opening, syn, tcp, udp, vip};
use crate::programs::{At, Verdict};
use crate::refusal::assert_refusal;
use crate::rig::{Rig, Tabled, address};

both_families!(
    without_service_cidrs_everything_leaves,
    what_nobody_has_translated_does_not_leave,
    who_is_outside_gets_answers,
    frames_of_others_leave,
    a_vip_refuses_what_would_leave,
    what_must_not_be_answered_is_dropped,
    the_rest_leaves,
);

/// A rig with a Service CIDR, and a VIP in it, all of which is taken.
fn guarded<F: Tabled>() -> Result<Rig<F>> {
    let mut rig = Rig::<F>::new()?;
    let length = match F::FAMILY {
        IpFamily::V4 => 16,
        IpFamily::V6 => 112,
    };
    rig.guard(F::cluster_ip(0), length)?;
    rig.mark(SocketAddr::new(F::cluster_ip(1), 0), Protocol::Tcp, ServiceIndex::REFUSE)?;
    for protocol in Protocol::ALL {
        let _: ServiceIndex = rig.service(vip::<F>(1), protocol, &[backend::<F>(1)])?;
    }
    Ok(rig)
}

/// Packets of every kind that begin something.
fn first_packets<F: Tabled>(to: SocketAddr) -> Vec<Packet> {
    let from = client::<F>(12, 40_000);
    let mut packets = Protocol::ALL.map(|protocol| opening(protocol, from, to)).to_vec();
    packets.push(udp(from, to, b"a datagram like any other"));
    for protocol in [47, 50, 254] {
        let content = Content::Other { protocol, payload: vec![7; 30] };
        packets.push(Packet { content, ..udp(from, to, b"") });
    }
    packets
}

/// TCP segments that belong to a connection.
fn amid<F: Tabled>(to: SocketAddr) -> [Packet; 4] {
    let flags = [TcpFlags::ACK, TcpFlags::SYN | TcpFlags::ACK, TcpFlags::FIN, TcpFlags::RST];
    flags.map(|flags| tcp(client::<F>(12, 40_000), to, flags))
}

fn leaves<F: Tabled>(rig: &Rig<F>, packet: &Packet) -> Result<()> {
    let frame = packet.build()?;
    let outcome = rig.programs.run(At::UplinkEgress, &frame)?;
    assert_eq!((outcome.verdict, outcome.frame), (Verdict::Pass, frame), "{packet:?}");
    Ok(())
}

fn without_service_cidrs_everything_leaves<F: Tabled>() -> Result<()> {
    let mut rig = Rig::<F>::new()?;
    rig.mark(SocketAddr::new(F::cluster_ip(1), 0), Protocol::Tcp, ServiceIndex::REFUSE)?;
    for to in [vip::<F>(1), vip::<F>(2), backend::<F>(1)] {
        for packet in first_packets::<F>(to).iter().chain(&amid::<F>(to)) {
            leaves(&rig, packet)?;
        }
    }
    Ok(())
}

fn what_nobody_has_translated_does_not_leave<F: Tabled>() -> Result<()> {
    let rig = guarded::<F>()?;
    let nobody = vip::<F>(200);
    let mut first = first_packets::<F>(nobody);
    first.push(udp(client::<F>(12, 40_000), nobody, &[7; 100]).fragments(5)?[1].clone());
    for (count, packet) in (1..).zip(&first) {
        rig.programs.run(At::UplinkEgress, &packet.build()?)?.is_dropped();
        assert_eq!(rig.count(Reason::DropServiceCidr)?, count);
    }
    Ok(())
}

/// The range may be in use outside, too. Who comes from there gets answers.
fn who_is_outside_gets_answers<F: Tabled>() -> Result<()> {
    let mut rig = guarded::<F>()?;
    let outsider = vip::<F>(200);
    // A connection that is older than the guard.
    for packet in amid::<F>(outsider) {
        leaves(&rig, &packet)?;
    }
    let arriving = udp(outsider, client::<F>(12, 40_000), b"hello").build()?;
    let noticed = rig.programs.run(At::UplinkIngress, &arriving)?;
    assert_eq!((noticed.verdict, noticed.frame), (Verdict::Pass, arriving));
    for packet in first_packets::<F>(outsider).iter().chain(&amid::<F>(outsider)) {
        leaves(&rig, packet)?;
    }
    // Only there; and a VIP is never outside: what comes from it the node has said itself.
    rig.programs
        .run(At::UplinkEgress, &opening(Protocol::Udp, outsider, vip::<F>(201)).build()?)?
        .is_dropped();
    let own = udp(vip::<F>(1), client::<F>(12, 40_000), b"refused").build()?;
    assert_eq!(rig.programs.run(At::UplinkIngress, &own)?.verdict, Verdict::Pass);
    let sent = opening(Protocol::Tcp, client::<F>(12, 40_000), vip::<F>(1)).build()?;
    assert_eq!(rig.programs.run(At::UplinkEgress, &sent)?.verdict, Verdict::Redirect);
    // Nor when its Service is gone, and the address nobody's.
    rig.tables.remove_frontend(&FrontendKey::whole(address::<F>(vip::<F>(1))))?;
    rig.programs.run(At::UplinkEgress, &sent)?.is_dropped();
    Ok(())
}

/// Virtual machines and macvlan devices send through a node's device, too.
fn frames_of_others_leave<F: Tabled>() -> Result<()> {
    let mut rig = guarded::<F>()?;
    let sent = syn(client::<F>(12, 40_000), vip::<F>(1));
    rig.set_device(Device::uplink(sent.link.source))?;
    assert_eq!(rig.programs.run(At::UplinkEgress, &sent.build()?)?.verdict, Verdict::Redirect);
    rig.set_device(Device::uplink([2, 0, 0, 0, 0, 99]))?;
    leaves(&rig, &sent)
}

fn a_vip_refuses_what_would_leave<F: Tabled>() -> Result<()> {
    let rig = guarded::<F>()?;
    let mut wrong = vip::<F>(1);
    wrong.set_port(81);
    let sent = first_packets::<F>(vip::<F>(1)).into_iter().chain(first_packets::<F>(wrong));
    for (count, sent) in (1..).zip(sent) {
        let answer =
            rig.programs.run(At::UplinkEgress, &sent.build()?)?.packet(Verdict::Redirect)?;
        // To whom it came from, on this side of the device.
        assert_eq!(answer.link.destination, sent.link.source);
        assert_eq!(answer.link.source, sent.link.destination);
        assert_refusal::<F>(&sent, &answer);
        assert_eq!(rig.count(Reason::RejectServiceCidr)?, count);
    }
    Ok(())
}

fn what_must_not_be_answered_is_dropped<F: Tabled>() -> Result<()> {
    let rig = guarded::<F>()?;
    let (from, to) = (client::<F>(12, 40_000), vip::<F>(1));
    let about = udp(to, from, b"what the VIP never sent");
    let mut frames = vec![
        tcp(from, to, TcpFlags::RST).build()?,
        // A segment that a translation has missed will come again.
        ack(from, to).build()?,
        tcp(from, to, TcpFlags::RST | TcpFlags::ACK).build()?,
        Packet::port_unreachable(from.ip(), &about)?.build()?,
        udp(from, to, &[7; 100]).fragments(5)?[1].build()?,
        Packet { authentication: true, ..syn(from, to) }.build()?,
    ];
    let redirect = Icmp { kind: 5, code: 1, rest: [0; 4], payload: about.build_ip()? };
    frames.push(Packet { content: Content::Icmp(redirect), ..syn(from, to) }.build()?);
    // Cut short.
    let frame = syn(from, to).build()?;
    frames.push(frame[..frame.len() - 1].to_vec());
    for (count, frame) in (1..).zip(frames) {
        rig.programs.run(At::UplinkEgress, &frame)?.is_dropped();
        assert_eq!(rig.count(Reason::DropServiceCidr)?, count);
    }
    Ok(())
}

fn the_rest_leaves<F: Tabled>() -> Result<()> {
    let mut rig = guarded::<F>()?;
    // Next to the range, on both sides; and what comes from a VIP.
    let beside: [IpAddr; 2] = match F::FAMILY {
        IpFamily::V4 => ["10.95.255.255".parse()?, "10.97.0.0".parse()?],
        IpFamily::V6 => {
            ["fd00:10:95:ffff:ffff:ffff:ffff:ffff".parse()?, "fd00:10:96::1:0".parse()?]
        }
    };
    for to in
        beside.map(|address| SocketAddr::new(address, 80)).into_iter().chain([backend::<F>(1)])
    {
        for packet in first_packets::<F>(to).iter().chain(&amid::<F>(to)) {
            leaves(&rig, packet)?;
        }
        leaves(&rig, &ack(vip::<F>(1), to))?;
    }
    let mut tagged = syn(client::<F>(12, 40_000), vip::<F>(1));
    tagged.link.vlan = Some(7);
    leaves(&rig, &tagged)?;
    // And all of it, once the range is gone.
    for prefix in std::mem::take(&mut rig.service_cidrs) {
        rig.tables.remove_service_cidr(prefix)?;
    }
    leaves(&rig, &syn(client::<F>(12, 40_000), vip::<F>(1)))
}
