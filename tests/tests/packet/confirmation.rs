// SPDX-License-Identifier: Apache-2.0

//! A flow is confirmed by a client that is there.

use anyhow::Result;
use proxy_common::counter::Reason;
use proxy_common::frontend::ServiceIndex;
use proxy_tests::both_families;
use proxy_tests::packet::TcpFlags;
use proxy_tests::protocol::Protocol;

use crate::connection::Connection;
use crate::frames::{BACKEND_ISN, CLIENT_ISN, ack, backend, client, syn_ack, tcp, vip};
use crate::rig::{Rig, Tabled};

both_families!(
    only_the_right_acknowledgement_confirms,
    a_client_cannot_forge_the_proof,
    the_latest_answer_to_a_syn_counts,
    a_datagram_after_a_reply_confirms,
    a_flow_is_confirmed_once,
);

/// A rig with a Service port of one backend for each protocol.
fn rig_with_services<F: Tabled>() -> Result<Rig<F>> {
    let mut rig = Rig::new()?;
    for protocol in Protocol::ALL {
        let _: ServiceIndex = rig.service(vip::<F>(1), protocol, &[backend::<F>(1)])?;
    }
    Ok(rig)
}

fn only_the_right_acknowledgement_confirms<F: Tabled>() -> Result<()> {
    let rig = rig_with_services::<F>()?;
    let client = client::<F>(12, 40_000);
    let frontend = vip::<F>(1);
    let connection = Connection::open(&rig.programs, Protocol::Tcp, client, frontend)?;
    // Nothing has been acknowledged yet: a guess, even of zero, is none.
    connection.prove(&rig.programs)?;
    connection.request(&rig.programs, &ack(client, frontend).numbers(CLIENT_ISN, 0))?;
    assert!(!connection.is_confirmed(&rig)?);
    // A listener that defends itself with syncookies answers anyone.
    connection.answer(&rig.programs)?;
    assert!(!connection.is_confirmed(&rig)?);
    let right = BACKEND_ISN.wrapping_add(1);
    for wrong in [0xffff_fffe, BACKEND_ISN, right + 1, right + 1000, CLIENT_ISN] {
        connection.request(&rig.programs, &ack(client, frontend).numbers(CLIENT_ISN, wrong))?;
    }
    for flags in [TcpFlags::SYN, TcpFlags::PSH, TcpFlags::FIN, TcpFlags::RST] {
        // The number is there, but it does not count without its flag.
        let segment = tcp(client, frontend, flags).numbers(CLIENT_ISN, right);
        connection.request(&rig.programs, &segment)?;
    }
    let reset = tcp(client, frontend, TcpFlags::RST | TcpFlags::ACK).numbers(CLIENT_ISN, right);
    connection.request(&rig.programs, &reset)?;
    assert!(!connection.is_confirmed(&rig)?);
    connection.prove(&rig.programs)?;
    assert!(connection.is_confirmed(&rig)?);
    // With data in it, it is as good.
    let mut other = connection;
    other.client.set_port(40_001);
    let other = Connection::open(&rig.programs, Protocol::Tcp, other.client, frontend)?;
    other.answer(&rig.programs)?;
    let flags = TcpFlags::ACK | TcpFlags::PSH | TcpFlags::FIN;
    let data = tcp(other.client, frontend, flags).numbers(CLIENT_ISN, right).payload(b"GET /");
    other.request(&rig.programs, &data)?;
    assert!(other.is_confirmed(&rig)?);
    assert_eq!(rig.count(Reason::FlowConfirmed)?, 2);
    Ok(())
}

fn a_client_cannot_forge_the_proof<F: Tabled>() -> Result<()> {
    let rig = rig_with_services::<F>()?;
    let (client, frontend) = (client::<F>(12, 40_000), vip::<F>(1));
    let connection = Connection::open(&rig.programs, Protocol::Tcp, client, frontend)?;
    connection.answer(&rig.programs)?;
    // Who never saw the backend's number sends one of its own.
    connection.request(&rig.programs, &syn_ack(client, frontend).numbers(6_999, 1))?;
    connection.request(&rig.programs, &ack(client, frontend).numbers(1, 7_000))?;
    assert!(!connection.is_confirmed(&rig)?);
    connection.prove(&rig.programs)?;
    assert!(connection.is_confirmed(&rig)?);
    Ok(())
}

fn the_latest_answer_to_a_syn_counts<F: Tabled>() -> Result<()> {
    let rig = rig_with_services::<F>()?;
    let (client, frontend) = (client::<F>(12, 40_000), vip::<F>(1));
    let connection = Connection::open(&rig.programs, Protocol::Tcp, client, frontend)?;
    connection.answer(&rig.programs)?;
    connection.repeat(&rig.programs)?;
    let again = syn_ack(backend::<F>(1), client).numbers(4_999, CLIENT_ISN.wrapping_add(1));
    connection.reply(&rig.programs, &again)?;
    connection.prove(&rig.programs)?;
    assert!(!connection.is_confirmed(&rig)?);
    connection.request(&rig.programs, &ack(client, frontend).numbers(1, 5_000))?;
    assert!(connection.is_confirmed(&rig)?);
    Ok(())
}

fn a_datagram_after_a_reply_confirms<F: Tabled>() -> Result<()> {
    let rig = rig_with_services::<F>()?;
    let client = client::<F>(12, 40_000);
    let connection = Connection::open(&rig.programs, Protocol::Udp, client, vip::<F>(1))?;
    for _ in 0..3 {
        connection.prove(&rig.programs)?;
    }
    assert!(!connection.is_confirmed(&rig)?);
    connection.answer(&rig.programs)?;
    assert!(!connection.is_confirmed(&rig)?);
    connection.prove(&rig.programs)?;
    assert!(connection.is_confirmed(&rig)?);
    Ok(())
}

fn a_flow_is_confirmed_once<F: Tabled>() -> Result<()> {
    let rig = rig_with_services::<F>()?;
    for protocol in Protocol::ALL {
        let client = client::<F>(12, 40_000);
        let connection = Connection::establish(&rig.programs, protocol, client, vip::<F>(1))?;
        assert!(connection.is_confirmed(&rig)?);
        connection.repeat(&rig.programs)?;
        connection.answer(&rig.programs)?;
        connection.prove(&rig.programs)?;
        connection.prove(&rig.programs)?;
    }
    assert_eq!(rig.count(Reason::FlowCreated)?, 3);
    assert_eq!(rig.count(Reason::FlowConfirmed)?, 3);
    assert_eq!(rig.count(Reason::SourcePortTranslated)?, 0);
    Ok(())
}
