// SPDX-License-Identifier: Apache-2.0

//! A pod that is its own backend: both directions turn around at its device,
//! and the host stands between.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use proxy_common::counter::Reason;
use proxy_common::frontend::ServiceIndex;
use proxy_tests::both_families;
use proxy_tests::packet::Packet;
use proxy_tests::protocol::Protocol;

use crate::frames::{answer, backend, client, opening, proof, vip};
use crate::loaded::SOURCE_PORTS;
use crate::programs::Verdict;
use crate::rig::{Rig, Tabled};

both_families!(
    a_pod_reaches_itself,
    other_backends_are_reached_as_ever,
    without_a_host_address_a_hairpin_is_dropped,
    without_a_free_port_a_hairpin_is_refused,
);

/// The packet with its hardware addresses swapped.
fn turned(mut packet: Packet) -> Packet {
    std::mem::swap(&mut packet.link.source, &mut packet.link.destination);
    packet
}

/// The pod's own port.
fn own<F: Tabled>() -> SocketAddr {
    client::<F>(12, 8080)
}

/// A rig with Service ports that only the pod itself serves.
fn rig_with_hairpin<F: Tabled>() -> Result<Rig<F>> {
    equip(Rig::<F>::new()?)
}

fn equip<F: Tabled>(mut rig: Rig<F>) -> Result<Rig<F>> {
    for protocol in Protocol::ALL {
        let _: ServiceIndex = rig.service(vip::<F>(1), protocol, &[own::<F>()])?;
    }
    Ok(rig)
}

fn a_pod_reaches_itself<F: Tabled>() -> Result<()> {
    let mut rig = rig_with_hairpin::<F>()?;
    let host = F::pod(1, 1);
    rig.set_host_address(host)?;
    for protocol in Protocol::ALL {
        for port in [40_000, 40_001, 8080] {
            let client = client::<F>(12, port);
            let first = opening(protocol, client, vip::<F>(1));
            let outcome = rig.programs.ingress(&first)?;
            let packet = outcome.packet(Verdict::Redirect)?;
            let source = packet.source_socket().context("ports")?;
            assert_eq!(source.ip(), host);
            assert!(SOURCE_PORTS.contains(&source.port()), "{source}");
            let request = |packet: &Packet| turned(packet.clone()).from(source).to(own::<F>());
            let reply = |packet: &Packet| turned(packet.clone()).from(vip::<F>(1)).to(client);
            outcome.is(Verdict::Redirect, &request(&first))?;
            let answer = answer(protocol, own::<F>(), source);
            let proof = proof(protocol, client, vip::<F>(1));
            for _ in 0..2 {
                rig.programs.ingress(&answer)?.is(Verdict::Redirect, &reply(&answer))?;
                rig.programs.ingress(&proof)?.is(Verdict::Redirect, &request(&proof))?;
            }
            rig.programs.ingress(&first)?.is(Verdict::Redirect, &request(&first))?;
        }
    }
    assert_eq!(rig.count(Reason::FlowConfirmed)?, 9);
    Ok(())
}

fn other_backends_are_reached_as_ever<F: Tabled>() -> Result<()> {
    let mut rig = Rig::<F>::new()?;
    let host = F::pod(1, 1);
    rig.set_host_address(host)?;
    let backends = [own::<F>(), backend::<F>(1)];
    let _: ServiceIndex = rig.service(vip::<F>(1), Protocol::Tcp, &backends)?;
    let mut verdicts = Vec::new();
    for port in 40_000..40_040 {
        let client = client::<F>(12, port);
        let outcome = rig.programs.ingress(&opening(Protocol::Tcp, client, vip::<F>(1)))?;
        verdicts.push(outcome.verdict);
        if outcome.verdict == Verdict::Pass {
            let expected = opening(Protocol::Tcp, client, backend::<F>(1));
            outcome.is(Verdict::Pass, &expected)?;
        }
    }
    assert!(verdicts.contains(&Verdict::Pass) && verdicts.contains(&Verdict::Redirect));
    Ok(())
}

fn without_a_host_address_a_hairpin_is_dropped<F: Tabled>() -> Result<()> {
    let rig = rig_with_hairpin::<F>()?;
    for (count, protocol) in (1..).zip(Protocol::ALL) {
        rig.programs
            .ingress(&opening(protocol, client::<F>(12, 40_000), vip::<F>(1)))?
            .is_dropped();
        assert_eq!(rig.count(Reason::DropHairpin)?, count);
    }
    assert_eq!(rig.count(Reason::FlowCreated)?, 0);
    Ok(())
}

fn without_a_free_port_a_hairpin_is_refused<F: Tabled>() -> Result<()> {
    let mut rig = equip(Rig::<F>::with_source_ports(61_000..=61_003)?)?;
    rig.set_host_address(F::pod(1, 1))?;
    for protocol in Protocol::ALL {
        for port in 40_000..40_004 {
            let first = opening(protocol, client::<F>(12, port), vip::<F>(1));
            let inside = rig.programs.ingress(&first)?.packet(Verdict::Redirect)?;
            assert_eq!(inside.source, F::pod(1, 1));
        }
        let first = opening(protocol, client::<F>(12, 40_004), vip::<F>(1));
        let refusal = rig.programs.ingress(&first)?.packet(Verdict::Redirect)?;
        assert_eq!((refusal.source, refusal.destination), (first.destination, first.source));
    }
    assert_eq!(rig.count(Reason::RejectSourcePorts)?, 3);
    Ok(())
}
