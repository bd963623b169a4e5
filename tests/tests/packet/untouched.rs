// SPDX-License-Identifier: Apache-2.0

//! What is not ours passes as it is, at both hooks, even where its addresses
//! are those of a Service.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, Result};
use proxy_common::frontend::ServiceIndex;
use proxy_tests::both_families;
use proxy_tests::family::IpFamily;
use proxy_tests::packet::{Content, Icmp, Packet};
use proxy_tests::protocol::Protocol;

use crate::connection::Connection;
use crate::frames::{backend, backends, client, init, opening, proof, syn, udp, vip};
use crate::programs::{At, Verdict};
use crate::rig::{Rig, Tabled};

both_families!(
    packets_to_no_frontend_pass,
    authenticated_and_source_routed_packets_pass,
    groups_are_not_served,
    frames_for_others_pass,
    tagged_frames_pass,
    other_protocols_pass,
    truncated_frames_pass,
);

/// A rig with all of a VIP taken, and a confirmed flow per protocol.
fn rig_with_flows<F: Tabled>() -> Result<Rig<F>> {
    let mut rig = Rig::<F>::new()?;
    rig.mark(SocketAddr::new(F::cluster_ip(1), 0), Protocol::Tcp, ServiceIndex::REFUSE)?;
    for protocol in Protocol::ALL {
        let _: ServiceIndex = rig.service(vip::<F>(1), protocol, &[backend::<F>(1)])?;
        let _: Connection =
            Connection::establish(&rig.programs, protocol, client::<F>(12, 40_000), vip::<F>(1))?;
    }
    Ok(rig)
}

/// A frame must pass both hooks as it is.
#[track_caller]
fn passes<F: Tabled>(rig: &Rig<F>, frame: &[u8]) -> Result<()> {
    for at in [At::Ingress, At::Egress] {
        let outcome = rig.programs.run(at, frame)?;
        assert_eq!(outcome.verdict, Verdict::Pass, "{at:?}");
        assert_eq!(outcome.frame, frame, "{at:?}");
    }
    Ok(())
}

/// The client's packets to the frontend, new and of a flow, and the backend's
/// replies to it.
fn served<F: Tabled>() -> Vec<Packet> {
    let known = client::<F>(12, 40_000);
    let new = client::<F>(12, 40_001);
    let served = Protocol::ALL.map(|protocol| {
        [
            opening(protocol, new, vip::<F>(1)),
            proof(protocol, known, vip::<F>(1)),
            proof(protocol, backend::<F>(1), known),
        ]
    });
    served.concat()
}

fn packets_to_no_frontend_pass<F: Tabled>() -> Result<()> {
    let rig = rig_with_flows::<F>()?;
    let stranger = SocketAddr::new(F::cluster_ip(2), 80);
    for protocol in Protocol::ALL {
        for to in [stranger, backend::<F>(1), backend::<F>(2), client::<F>(13, 80)] {
            passes(&rig, &opening(protocol, client::<F>(12, 40_001), to).build()?)?;
            passes(&rig, &proof(protocol, client::<F>(12, 40_001), to).build()?)?;
        }
    }
    Ok(())
}

fn authenticated_and_source_routed_packets_pass<F: Tabled>() -> Result<()> {
    let rig = rig_with_flows::<F>()?;
    for packet in served::<F>() {
        passes(&rig, &Packet { authentication: true, ..packet.clone() }.build()?)?;
        // IPv4 has no routing header.
        if F::FAMILY == IpFamily::V6 {
            passes(&rig, &Packet { segments_left: Some(1), ..packet }.build()?)?;
        }
    }
    Ok(())
}

fn groups_are_not_served<F: Tabled>() -> Result<()> {
    let mut rig = Rig::<F>::new()?;
    let addresses: [IpAddr; 3] = match F::FAMILY {
        IpFamily::V4 => ["224.0.0.251", "239.1.1.1", "255.255.255.255"],
        IpFamily::V6 => ["ff02::fb", "ff0e::10", "ff05::1"],
    }
    .map(|text| text.parse().expect("an address"));
    for address in addresses {
        let frontend = SocketAddr::new(address, 80);
        for protocol in Protocol::ALL {
            let _: ServiceIndex = rig.service(frontend, protocol, &backends::<F>(1))?;
            passes(&rig, &opening(protocol, client::<F>(12, 40_000), frontend).build()?)?;
        }
    }
    Ok(())
}

fn frames_for_others_pass<F: Tabled>() -> Result<()> {
    let rig = rig_with_flows::<F>()?;
    for mut packet in served::<F>() {
        for mac in [[2, 0, 0, 0, 0, 9], [0xff; 6], [0x33, 0x33, 0, 0, 0, 1], [1, 0, 0x5e, 0, 0, 1]]
        {
            packet.link.destination = mac;
            let frame = packet.build()?;
            let outcome = rig.programs.run(At::Ingress, &frame)?;
            assert_eq!((outcome.verdict, outcome.frame), (Verdict::Pass, frame));
        }
    }
    Ok(())
}

fn tagged_frames_pass<F: Tabled>() -> Result<()> {
    let rig = rig_with_flows::<F>()?;
    for mut packet in served::<F>() {
        packet.link.vlan = Some(7);
        passes(&rig, &packet.build()?)?;
    }
    Ok(())
}

fn other_protocols_pass<F: Tabled>() -> Result<()> {
    let rig = rig_with_flows::<F>()?;
    let (from, to) = (client::<F>(12, 40_000), vip::<F>(1));
    let frame = syn(from, to).build()?;
    // ARP, LLDP, EAPOL, whatever is in them.
    for ethertype in [0x0806_u16, 0x88cc, 0x888e] {
        let mut frame = frame.clone();
        frame[12..14].copy_from_slice(&ethertype.to_be_bytes());
        passes(&rig, &frame)?;
    }
    // To whom no VIP is.
    let stranger = SocketAddr::new(F::cluster_ip(2), 80);
    let ports = &frame[frame.len() - 20..];
    for protocol in [2, 4, 41, 47, 50, 132, 255] {
        let content = Content::Other { protocol, payload: ports.to_vec() };
        passes(&rig, &Packet { content, ..syn(from, stranger) }.build()?)?;
    }
    // Redirects and neighbour discovery, even to a VIP.
    let quote = syn(from, to).build_ip()?;
    let kinds: &[u8] = match F::FAMILY {
        IpFamily::V4 => &[4, 5, 9, 10, 40, 255],
        IpFamily::V6 => &[5, 100, 130, 131, 132, 133, 134, 135, 136, 137, 143, 255],
    };
    for kind in kinds {
        let icmp = Icmp { kind: *kind, code: 0, rest: [0; 4], payload: quote.clone() };
        passes(&rig, &Packet { content: Content::Icmp(icmp), ..syn(from, to) }.build()?)?;
    }
    Ok(())
}

fn truncated_frames_pass<F: Tabled>() -> Result<()> {
    let rig = rig_with_flows::<F>()?;
    let from = client::<F>(12, 40_001);
    for packet in [syn(from, vip::<F>(1)), udp(from, vip::<F>(1), b""), init(from, vip::<F>(1))] {
        let frame = packet.build()?;
        let headers = match packet.protocol().context("a protocol with ports")? {
            Protocol::Tcp => 20,
            Protocol::Udp => 8,
            Protocol::Sctp => 32,
        };
        let network = frame.len() - headers;
        for length in [network, network + 4, frame.len() - 1] {
            passes(&rig, &frame[..length])?;
        }
    }
    Ok(())
}
