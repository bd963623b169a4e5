// SPDX-License-Identifier: Apache-2.0

//! Connections that are nothing of ours, and that the programs remember as such for a while: that
//! changes nothing of what becomes of a packet.

use std::net::SocketAddr;

use anyhow::Result;
use proxy_common::frontend::ServiceIndex;
use proxy_tests::both_families;
use proxy_tests::packet::{Packet, TcpFlags};
use proxy_tests::protocol::Protocol;

use crate::connection::Connection;
use crate::frames::{backend, client, tcp, vip};
use crate::programs::Verdict;
use crate::rig::{Rig, Tabled};

both_families!(
    a_new_frontend_is_seen_at_once,
    a_new_service_cidr_is_seen_at_once,
    a_new_flow_is_served_from_its_first_packet_on,
    others_of_a_connection_are_not_taken_for_it,
);

/// A segment amid a connection passes both hooks, and an uplink, as often as it comes.
fn pass<F: Tabled>(rig: &Rig<F>, segment: &Packet) -> Result<()> {
    for _ in 0..3 {
        rig.programs.ingress(segment)?.is(Verdict::Pass, segment)?;
        rig.programs.egress(segment)?.is(Verdict::Pass, segment)?;
        rig.programs.arrives(segment)?.is(Verdict::Pass, segment)?;
        rig.programs.leaves(segment, 0)?.is(Verdict::Pass, segment)?;
    }
    Ok(())
}

fn a_new_frontend_is_seen_at_once<F: Tabled>() -> Result<()> {
    let mut rig = Rig::<F>::new()?;
    let segment = tcp(client::<F>(12, 40_000), vip::<F>(1), TcpFlags::ACK);
    pass(&rig, &segment)?;
    let _: ServiceIndex = rig.service(vip::<F>(1), Protocol::Tcp, &[backend::<F>(1)])?;
    assert_eq!(rig.programs.ingress(&segment)?.verdict, Verdict::Redirect);
    assert_eq!(rig.programs.arrives(&segment)?.verdict, Verdict::Redirect);
    Ok(())
}

/// Where it is held back that its address is a VIP's.
fn a_new_service_cidr_is_seen_at_once<F: Tabled>() -> Result<()> {
    let mut rig = Rig::<F>::new()?;
    rig.mark(SocketAddr::new(F::cluster_ip(1), 0), Protocol::Tcp, ServiceIndex::REFUSE)?;
    let segment = tcp(client::<F>(12, 40_000), vip::<F>(1), TcpFlags::ACK);
    for _ in 0..3 {
        rig.programs.leaves(&segment, 0)?.is(Verdict::Pass, &segment)?;
    }
    rig.guard(F::cluster_ip(1), F::FAMILY.host_prefix_length().into())?;
    assert_eq!(rig.programs.leaves(&segment, 0)?.verdict, Verdict::Drop);
    Ok(())
}

/// The client has spoken with the backend directly, and now does so through a VIP: from the same port.
fn a_new_flow_is_served_from_its_first_packet_on<F: Tabled>() -> Result<()> {
    let mut rig = Rig::<F>::new()?;
    let (from, to) = (client::<F>(12, 40_000), backend::<F>(1));
    let _: ServiceIndex = rig.service(vip::<F>(1), Protocol::Tcp, &[to])?;
    let answer = tcp(to, from, TcpFlags::ACK);
    for _ in 0..3 {
        rig.programs.egress(&answer)?.is(Verdict::Pass, &answer)?;
    }
    let connection = Connection::open(&rig.programs, Protocol::Tcp, from, vip::<F>(1))?;
    assert_eq!(connection.source, from, "the direct connection has ended");
    connection.reply(&rig.programs, &answer)?;
    connection.answer(&rig.programs)?;
    connection.prove(&rig.programs)?;
    connection.reply(&rig.programs, &answer)
}

/// Neither by another hook nor by another port.
fn others_of_a_connection_are_not_taken_for_it<F: Tabled>() -> Result<()> {
    let mut rig = Rig::<F>::new()?;
    let _: ServiceIndex = rig.service(vip::<F>(1), Protocol::Tcp, &[backend::<F>(1)])?;
    let segment = tcp(client::<F>(12, 40_000), vip::<F>(1), TcpFlags::ACK);
    for _ in 0..3 {
        rig.programs.egress(&segment)?.is(Verdict::Pass, &segment)?;
    }
    assert_eq!(rig.programs.ingress(&segment)?.verdict, Verdict::Redirect);
    for port in 40_001..40_100 {
        let other = tcp(client::<F>(12, port), vip::<F>(1), TcpFlags::ACK);
        assert_eq!(rig.programs.ingress(&other)?.verdict, Verdict::Redirect);
    }
    Ok(())
}
