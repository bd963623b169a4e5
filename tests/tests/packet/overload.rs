// SPDX-License-Identifier: Apache-2.0

//! Too many flows: those of clients that are not there push each other out, and nobody else; those
//! for which there is no room go on all the same.

use std::net::SocketAddr;

use anyhow::Result;
use proxy_agent::bpf::FlowCapacity;
use proxy_common::counter::Reason;
use proxy_common::frontend::ServiceIndex;
use proxy_tests::both_families;
use proxy_tests::packet::TcpFlags;
use proxy_tests::protocol::Protocol;

use crate::connection::Connection;
use crate::frames::{backend, client, syn, syn_ack, tcp, vip};
use crate::programs::{At, Programs};
use crate::rig::{HALF_OPEN, Rig, Tabled};

both_families!(a_flood_that_syncookies_answer_harms_nobody, without_room_a_flow_goes_on_half_open,);

/// Spoofed SYNs between the packets of a client that is there.
const BETWEEN: usize = 50;

/// Adds a Service port of one backend for each protocol.
fn with_services<F: Tabled>(mut rig: Rig<F>) -> Result<Rig<F>> {
    for protocol in Protocol::ALL {
        let _: ServiceIndex = rig.service(vip::<F>(1), protocol, &[backend::<F>(1)])?;
    }
    Ok(rig)
}

/// SYNs from clients that are not there, each answered as a listener with syncookies answers.
struct Flood {
    request: Vec<u8>,
    reply: Vec<u8>,
    ports: std::ops::RangeInclusive<u16>,
}

impl Flood {
    fn new<F: Tabled>() -> Result<Self> {
        let spoofed = client::<F>(13, 0);
        let request = syn(spoofed, vip::<F>(1)).build()?;
        let reply = syn_ack(backend::<F>(1), spoofed).build()?;
        Ok(Self { request, reply, ports: 1..=u16::MAX })
    }

    /// Sends so many more of them. The ports are written without regard to the checksum, which
    /// the programs only ever correct.
    fn go_on(&mut self, programs: &Programs, count: usize) -> Result<()> {
        const TCP_HEADER: usize = 20;
        let (source, destination) =
            (self.request.len() - TCP_HEADER, self.reply.len() - TCP_HEADER + 2);
        for port in self.ports.by_ref().take(count) {
            self.request[source..source + 2].copy_from_slice(&port.to_be_bytes());
            self.reply[destination..destination + 2].copy_from_slice(&port.to_be_bytes());
            let _ = programs.run(At::Ingress, &self.request)?;
            let _ = programs.run(At::Egress, &self.reply)?;
        }
        Ok(())
    }
}

fn a_flood_that_syncookies_answer_harms_nobody<F: Tabled>() -> Result<()> {
    // Each flow takes two entries: enough to fill the table three times over.
    const ROUNDS: usize = HALF_OPEN as usize / 2 * 3 / (10 * BETWEEN);
    let rig = with_services(Rig::<F>::new()?)?;
    let programs = &rig.programs;
    let at = |port| client::<F>(12, port);
    let mut flood = Flood::new::<F>()?;
    let mut confirmed = Vec::new();
    for protocol in Protocol::ALL {
        confirmed.push(Connection::establish(programs, protocol, at(30_000), vip::<F>(1))?);
    }
    let silent = Connection::open(programs, Protocol::Tcp, at(30_001), vip::<F>(1))?;
    // Clients that are there get through, in the midst of it.
    for (round, port) in (40_000..).enumerate().take(ROUNDS) {
        let protocol = Protocol::ALL[round % Protocol::ALL.len()];
        let connection = Connection::open(programs, protocol, at(port), vip::<F>(1))?;
        flood.go_on(programs, BETWEEN)?;
        connection.answer(programs)?;
        flood.go_on(programs, BETWEEN)?;
        connection.prove(programs)?;
        assert!(connection.is_confirmed(&rig)?, "{connection:?}");
        confirmed.push(connection);
        flood.go_on(programs, 8 * BETWEEN)?;
    }
    for connection in &confirmed {
        assert!(connection.is_confirmed(&rig)?, "{connection:?}");
        connection.prove(programs)?;
        connection.answer(programs)?;
    }
    let spoofed = u64::try_from(ROUNDS * 10 * BETWEEN)?;
    let clients = u64::try_from(confirmed.len())?;
    assert_eq!(rig.count(Reason::FlowConfirmed)?, clients, "a spoofed flow was confirmed");
    assert_eq!(rig.count(Reason::FlowCreated)?, spoofed + clients + 1);
    assert_eq!(rig.count(Reason::FlowTableFull)?, 0);
    // There was a flood: who said nothing meanwhile was pushed out. A repeated SYN is enough.
    assert_eq!(rig.tables.flow(false, &silent.key::<F>())?, None);
    silent.repeat(programs)?;
    silent.answer(programs)?;
    silent.prove(programs)?;
    assert!(silent.is_confirmed(&rig)?);
    Ok(())
}

fn without_room_a_flow_goes_on_half_open<F: Tabled>() -> Result<()> {
    // Room for three flows and one direction of a fourth.
    let capacity = FlowCapacity { confirmed: 7, half_open: HALF_OPEN };
    let mut rig = with_services(Rig::<F>::with_capacity(capacity)?)?;
    let establish = |rig: &Rig<F>, port| {
        let client = client::<F>(12, port);
        Connection::establish(&rig.programs, Protocol::Tcp, client, vip::<F>(1))
    };
    let data = |from: SocketAddr, to| tcp(from, to, TcpFlags::ACK).payload(b"data");
    let mut early = Vec::new();
    for port in 40_000..40_003 {
        early.push(establish(&rig, port)?);
    }
    // New ones are served all the same, one after the other.
    let mut late = Vec::new();
    for (count, port) in (1..).zip(40_003..40_005) {
        let flow = establish(&rig, port)?;
        // All of it or nothing: half a flow in the table would be a hole.
        assert!(!flow.is_confirmed(&rig)?);
        assert_eq!(rig.count(Reason::FlowTableFull)?, count);
        late.push(flow);
    }
    for flow in early.iter().chain(&late) {
        flow.answer(&rig.programs)?;
        flow.request(&rig.programs, &data(flow.client, flow.frontend))?;
        flow.reply(&rig.programs, &data(flow.backend, flow.client))?;
    }
    for flow in &early {
        assert!(flow.is_confirmed(&rig)?);
    }
    assert_eq!(rig.count(Reason::FlowConfirmed)?, 3);
    // Room that is made is used.
    for key in [early[0].key::<F>(), early[0].reply_key::<F>()] {
        rig.tables.remove_flow(true, &key)?;
    }
    late[0].prove(&rig.programs)?;
    assert!(late[0].is_confirmed(&rig)?);
    Ok(())
}
