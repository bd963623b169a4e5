// SPDX-License-Identifier: Apache-2.0

//! Too many flows: those of clients that are not there push each other out, as those do that have ended,
//! and nobody else; new ones for which there is no room are refused.

use std::net::SocketAddr;

use anyhow::Result;
use proxy_agent::bpf::FlowCapacity;
use proxy_common::counter::Reason;
use proxy_common::flow::Kind;
use proxy_common::frontend::ServiceIndex;
use proxy_tests::both_families;
use proxy_tests::packet::TcpFlags;
use proxy_tests::protocol::Protocol;

use crate::connection::Connection;
use crate::frames::{backend, client, syn, syn_ack, tcp, vip};
use crate::programs::{At, Programs, Verdict};
use crate::rig::{CAPACITY, PLACES, Rig, Tabled};

both_families!(
    a_flood_that_syncookies_answer_harms_nobody,
    a_place_is_given_up_by_its_own_flow_alone,
    closed_connections_make_room_for_each_other,
    confirmed_connections_end_no_half_open_one,
    datagrams_that_nobody_answers_begin_again,
    without_room_nothing_is_opened,
);

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

/// Programs and tables whose places nobody has taken yet.
fn rig_of_its_own<F: Tabled>() -> Result<Rig<F>> {
    Rig::with_capacity(CAPACITY)
}

/// How many flows are half-open.
fn half_open<F: Tabled>(rig: &Rig<F>) -> Result<u64> {
    let mut count = 0;
    for entry in rig.tables.flows() {
        let (_, flow) = entry?;
        count += u64::from(!flow.is_confirmed() && !flow.kind.has(Kind::REPLY));
    }
    Ok(count)
}

/// Opens flows that nobody confirms, from these ports of another client.
fn take_places<F: Tabled>(rig: &Rig<F>, ports: std::ops::Range<u16>) -> Result<()> {
    for port in ports {
        let _: Connection =
            Connection::open(&rig.programs, Protocol::Tcp, client::<F>(14, port), vip::<F>(1))?;
    }
    Ok(())
}

fn a_flood_that_syncookies_answer_harms_nobody<F: Tabled>() -> Result<()> {
    // Enough to take each place three times.
    const ROUNDS: usize = PLACES as usize * 3 / (10 * BETWEEN);
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
    let waiting = half_open(&rig)?;
    assert!(waiting <= u64::from(PLACES), "{waiting} flows wait");
    assert_eq!(rig.count(Reason::FlowEvicted)?, spoofed + 1 - waiting);
    // There was a flood: who said nothing meanwhile was pushed out. A repeated SYN is enough.
    assert_eq!(rig.tables.flow(&silent.key::<F>())?, None);
    assert_eq!(rig.tables.flow(&silent.reply_key::<F>())?, None);
    silent.repeat(programs)?;
    silent.answer(programs)?;
    silent.prove(programs)?;
    assert!(silent.is_confirmed(&rig)?);
    Ok(())
}

fn a_place_is_given_up_by_its_own_flow_alone<F: Tabled>() -> Result<()> {
    let mut rig = with_services(rig_of_its_own::<F>()?)?;
    let at = client::<F>(12, 40_000);
    let first = Connection::open(&rig.programs, Protocol::Tcp, at, vip::<F>(1))?;
    // The flow is forgotten, and opened again at another place.
    for key in [first.key::<F>(), first.reply_key::<F>()] {
        rig.tables.remove_flow(&key)?;
    }
    let half = u16::try_from(PLACES / 2)?;
    take_places(&rig, 0..half)?;
    let again = Connection::open(&rig.programs, Protocol::Tcp, at, vip::<F>(1))?;
    // Its first place is taken, and then its second one.
    take_places(&rig, half..2 * half)?;
    assert!(rig.tables.flow(&again.key::<F>())?.is_some());
    again.answer(&rig.programs)?;
    take_places(&rig, 2 * half..3 * half)?;
    assert_eq!(rig.tables.flow(&again.key::<F>())?, None);
    assert_eq!(rig.tables.flow(&again.reply_key::<F>())?, None);
    Ok(())
}

/// Opens a connection from this port.
fn open_one<F: Tabled>(rig: &Rig<F>, port: u16) -> Result<Connection> {
    Connection::establish(&rig.programs, Protocol::Tcp, client::<F>(12, port), vip::<F>(1))
}

/// Has both sides end a connection.
fn finish<F: Tabled>(rig: &Rig<F>, connection: &Connection) -> Result<()> {
    let end = |from, to| tcp(from, to, TcpFlags::FIN | TcpFlags::ACK);
    connection.request(&rig.programs, &end(connection.client, connection.frontend))?;
    connection.reply(&rig.programs, &end(connection.backend, connection.client))
}

fn closed_connections_make_room_for_each_other<F: Tabled>() -> Result<()> {
    let mut rig = with_services(rig_of_its_own::<F>()?)?;
    let (first, going_on) = (open_one(&rig, 1)?, open_one(&rig, 2)?);
    finish(&rig, &first)?;
    // One that is gone, and has been closed again at another place.
    let gone = open_one(&rig, 3)?;
    finish(&rig, &gone)?;
    for key in [gone.key::<F>(), gone.reply_key::<F>()] {
        rig.tables.remove_flow(&key)?;
    }
    let gone = open_one(&rig, 3)?;
    finish(&rig, &gone)?;
    // One whose port is used again waits no more, and leaves the fourth place free.
    finish(&rig, &open_one(&rig, 4)?)?;
    let used_again = open_one(&rig, 4)?;
    let places = u16::try_from(PLACES)?;
    let mut ports = 10..;
    let mut finish_others = |count| {
        ports.by_ref().take(count).try_for_each(|port| finish(&rig, &open_one(&rig, port)?))
    };
    finish_others(usize::from(places) - 4)?;
    let is_gone = |connection: &Connection| -> Result<bool> {
        let forward = rig.tables.flow(&connection.key::<F>())?;
        let reply = rig.tables.flow(&connection.reply_key::<F>())?;
        assert_eq!(forward.is_none(), reply.is_none());
        Ok(forward.is_none())
    };
    assert!(rig.count(Reason::FlowEvicted)? == 0 && !is_gone(&first)?);
    finish_others(1)?;
    assert!(rig.count(Reason::FlowEvicted)? == 1 && is_gone(&first)?);
    // The place that was another connection's with the same port.
    finish_others(1)?;
    assert!(rig.count(Reason::FlowEvicted)? == 1 && !is_gone(&gone)?);
    finish_others(1)?;
    assert!(rig.count(Reason::FlowEvicted)? == 2 && is_gone(&gone)?);
    // The free one.
    finish_others(1)?;
    assert_eq!(rig.count(Reason::FlowEvicted)?, 2);
    assert!(going_on.is_confirmed(&rig)? && used_again.is_confirmed(&rig)?);
    Ok(())
}

fn confirmed_connections_end_no_half_open_one<F: Tabled>() -> Result<()> {
    let rig = with_services(Rig::<F>::new()?)?;
    let at = |port| client::<F>(12, port);
    let slow = Connection::open(&rig.programs, Protocol::Tcp, at(1), vip::<F>(1))?;
    for port in (10..).take(2 * PLACES as usize) {
        let _: Connection =
            Connection::establish(&rig.programs, Protocol::Tcp, at(port), vip::<F>(1))?;
    }
    assert_eq!(rig.count(Reason::FlowEvicted)?, 0);
    slow.answer(&rig.programs)?;
    slow.prove(&rig.programs)?;
    assert!(slow.is_confirmed(&rig)?);
    Ok(())
}

/// Who only ever sends has proven nothing, and makes room as others do. Each datagram gets through all the same.
fn datagrams_that_nobody_answers_begin_again<F: Tabled>() -> Result<()> {
    let rig = with_services(rig_of_its_own::<F>()?)?;
    let at = client::<F>(12, 40_000);
    let first = Connection::open(&rig.programs, Protocol::Udp, at, vip::<F>(1))?;
    for (round, ports) in (1..).zip([0..PLACES, PLACES..2 * PLACES]) {
        take_places(&rig, u16::try_from(ports.start)?..u16::try_from(ports.end)?)?;
        assert_eq!(rig.tables.flow(&first.key::<F>())?, None);
        let again = Connection::open(&rig.programs, Protocol::Udp, at, vip::<F>(1))?;
        assert_eq!(again, first, "the Service has one backend");
        assert!(rig.tables.flow(&again.reply_key::<F>())?.is_some(), "round {round}");
    }
    // Once it is answered, it stays.
    first.answer(&rig.programs)?;
    first.repeat(&rig.programs)?;
    take_places(&rig, u16::try_from(2 * PLACES)?..u16::try_from(3 * PLACES)?)?;
    assert!(first.is_confirmed(&rig)?);
    Ok(())
}

fn without_room_nothing_is_opened<F: Tabled>() -> Result<()> {
    // Room for three flows and one direction of a fourth.
    let capacity = FlowCapacity { entries: 7, ..CAPACITY };
    let mut rig = with_services(Rig::<F>::with_capacity(capacity)?)?;
    let at = |port| client::<F>(12, port);
    let data = |from: SocketAddr, to| tcp(from, to, TcpFlags::ACK).payload(b"data");
    let mut early = Vec::new();
    for port in 40_000..40_003 {
        early.push(Connection::establish(&rig.programs, Protocol::Tcp, at(port), vip::<F>(1))?);
    }
    // All of a flow or nothing: half of one would be a hole.
    for (count, port) in (1..).zip(40_003..40_005) {
        let outcome = rig.programs.ingress(&syn(at(port), vip::<F>(1)))?;
        assert_eq!(outcome.verdict, Verdict::Drop);
        assert_eq!(rig.count(Reason::DropFlowInsert)?, count);
        assert_eq!(rig.tables.flows().count(), 6);
    }
    for flow in &early {
        flow.answer(&rig.programs)?;
        flow.request(&rig.programs, &data(flow.client, flow.frontend))?;
        flow.reply(&rig.programs, &data(flow.backend, flow.client))?;
        assert!(flow.is_confirmed(&rig)?);
    }
    assert_eq!(rig.count(Reason::FlowConfirmed)?, 3);
    // Room that is made is used.
    for key in [early[0].key::<F>(), early[0].reply_key::<F>()] {
        rig.tables.remove_flow(&key)?;
    }
    let late = Connection::establish(&rig.programs, Protocol::Tcp, at(40_003), vip::<F>(1))?;
    assert!(late.is_confirmed(&rig)?);
    Ok(())
}
