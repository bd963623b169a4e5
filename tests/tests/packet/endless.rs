// SPDX-License-Identifier: Apache-2.0

//! Flows that nothing ends but silence, while there is no agent that would collect them: those that are over make
//! room, and those that go on are never ended.

use anyhow::{Context as _, Result, ensure};
use proxy_agent::bpf::FlowCapacity;
use proxy_common::counter::Reason;
use proxy_common::flow::{FlowKey, Queue};
use proxy_common::frontend::ServiceIndex;
use proxy_tests::both_families;
use proxy_tests::packet::TcpFlags;
use proxy_tests::protocol::Protocol;

use crate::connection::Connection;
use crate::frames::{backend, client, opening, syn, tcp, vip};
use crate::programs::Verdict;
use crate::rig::{CAPACITY, PLACES, Rig, Tabled};

both_families!(
    silent_flows_make_room_for_each_other,
    a_flow_that_goes_on_is_never_ended,
    who_found_no_place_tries_again,
    a_flow_that_is_confirmed_anew_has_one_place,
    a_lost_entry_costs_no_place_for_ever,
    where_there_is_no_room_those_that_are_over_make_room,
    where_there_is_no_room_the_closed_make_room,
    who_makes_room_gets_it,
);

/// The places of these tests.
const FEW: u32 = 16;
/// The protocols whose flows have such a place.
const ENDLESS: [Protocol; 2] = [Protocol::Udp, Protocol::Sctp];
/// Longer than such a flow lives in silence.
const LONG: u32 = 300;

fn rig<F: Tabled>(entries: u32) -> Result<Rig<F>> {
    let mut rig = Rig::with_capacity(FlowCapacity { entries, places: PLACES, endless: FEW })?;
    for protocol in Protocol::ALL {
        let _: ServiceIndex = rig.service(vip::<F>(1), protocol, &[backend::<F>(1)])?;
    }
    Ok(rig)
}

/// Establishes a connection from this port.
fn establish<F: Tabled>(rig: &Rig<F>, protocol: Protocol, port: u16) -> Result<Connection> {
    Connection::establish(&rig.programs, protocol, client::<F>(12, port), vip::<F>(1))
}

/// Establishes so many, one after the other.
fn establish_all<F: Tabled>(
    rig: &Rig<F>,
    protocol: Protocol,
    ports: impl IntoIterator<Item = u16>,
) -> Result<Vec<Connection>> {
    ports.into_iter().map(|port| establish(rig, protocol, port)).collect()
}

/// Makes both entries of a connection look as if it had been silent for so long.
fn silence<F: Tabled>(rig: &mut Rig<F>, connection: &Connection, seconds: u32) -> Result<()> {
    let keys: [FlowKey<F::Abi>; 2] = [connection.key::<F>(), connection.reply_key::<F>()];
    keys.iter().try_for_each(|key| rig.age(key, seconds))
}

/// Whether a connection has both of its entries, or none.
fn is_there<F: Tabled>(rig: &Rig<F>, connection: &Connection) -> Result<bool> {
    let forward = rig.tables.flow(&connection.key::<F>())?;
    let reply = rig.tables.flow(&connection.reply_key::<F>())?;
    ensure!(forward.is_some() == reply.is_some(), "half of a flow: {connection:?}");
    Ok(forward.is_some())
}

/// The place that a connection has among flows without an end.
fn place<F: Tabled>(rig: &Rig<F>, connection: &Connection) -> Result<Option<u32>> {
    let flow = rig.tables.flow(&connection.key::<F>())?.context("the flow is gone")?;
    let first = Queue::Endless as u32 * PLACES;
    Ok(flow.proof.checked_sub(first).filter(|place| *place < FEW))
}

fn silent_flows_make_room_for_each_other<F: Tabled>() -> Result<()> {
    for protocol in ENDLESS {
        let mut rig = rig::<F>(CAPACITY.entries)?;
        // Six times as many as there are places, and each silent before the next ones come.
        for port in 1..=6 * u16::try_from(FEW)? {
            let connection = establish(&rig, protocol, port)?;
            assert!(place(&rig, &connection)?.is_some());
            silence(&mut rig, &connection, LONG)?;
            // Not those of TCP.
            if port == 1 {
                let _: Connection = establish(&rig, Protocol::Tcp, port)?;
            }
        }
        let entries = rig.tables.flows().count();
        assert!(entries <= 2 * usize::try_from(FEW)? + 2, "{entries} entries");
        assert_eq!(rig.count(Reason::FlowUnplaced)?, 0);
        assert!(rig.count(Reason::FlowExpired)? >= u64::from(5 * FEW));
        assert!(establish(&rig, Protocol::Tcp, 2)?.is_confirmed(&rig)?);
    }
    Ok(())
}

fn a_flow_that_goes_on_is_never_ended<F: Tabled>() -> Result<()> {
    for protocol in ENDLESS {
        let mut rig = rig::<F>(CAPACITY.entries)?;
        let few = u16::try_from(FEW)?;
        // So many that each place is taken: a flow looks at four.
        let early = establish_all(&rig, protocol, 1..=4 * few)?;
        let found = early.iter().filter_map(|one| place(&rig, one).transpose());
        let mut places = found.collect::<Result<Vec<_>>>()?;
        places.sort_unstable();
        assert_eq!(places, (0..FEW).collect::<Vec<_>>());
        assert_eq!(rig.count(Reason::FlowUnplaced)?, u64::from(3 * FEW));
        // Of some, one side alone has been heard of late.
        for (number, connection) in early.iter().enumerate() {
            if number % 2 == 0 {
                rig.age(&connection.key::<F>(), LONG)?;
            }
        }
        let late = establish_all(&rig, protocol, 1000..1000 + few)?;
        for connection in early.iter().chain(&late) {
            assert!(is_there(&rig, connection)? && connection.is_confirmed(&rig)?);
        }
        assert_eq!(rig.count(Reason::FlowExpired)?, 0);
    }
    Ok(())
}

fn who_found_no_place_tries_again<F: Tabled>() -> Result<()> {
    for protocol in ENDLESS {
        let mut rig = rig::<F>(CAPACITY.entries)?;
        let early = establish_all(&rig, protocol, 1..=u16::try_from(4 * FEW)?)?;
        let last = early.last().context("there are some")?;
        assert_eq!(place(&rig, last)?, None);
        for connection in &early[..usize::try_from(FEW)?] {
            silence(&mut rig, connection, LONG)?;
        }
        // Not with each packet.
        last.prove(&rig.programs)?;
        assert_eq!(place(&rig, last)?, None);
        silence(&mut rig, last, 2)?;
        last.prove(&rig.programs)?;
        assert!(place(&rig, last)?.is_some());
        assert_eq!(rig.count(Reason::FlowExpired)?, 1);
        assert!(last.is_confirmed(&rig)?);
    }
    Ok(())
}

/// A client that uses its port again after a silence holds one place, not one more each time.
fn a_flow_that_is_confirmed_anew_has_one_place<F: Tabled>() -> Result<()> {
    for protocol in ENDLESS {
        let mut rig = rig::<F>(CAPACITY.entries)?;
        for _ in 0..3 * FEW {
            let connection = establish(&rig, protocol, 1)?;
            silence(&mut rig, &connection, LONG)?;
        }
        let _: Connection = establish(&rig, protocol, 1)?;
        // All other places are free.
        let others = establish_all(&rig, protocol, 2..=u16::try_from(FEW)?)?;
        for connection in &others {
            assert!(place(&rig, connection)?.is_some(), "{connection:?}");
        }
        assert_eq!(rig.count(Reason::FlowUnplaced)?, 0);
    }
    Ok(())
}

fn a_lost_entry_costs_no_place_for_ever<F: Tabled>() -> Result<()> {
    for protocol in ENDLESS {
        let mut rig = rig::<F>(CAPACITY.entries)?;
        let connection = establish(&rig, protocol, 1)?;
        rig.tables.remove_flow(&connection.key::<F>())?;
        rig.age(&connection.reply_key::<F>(), 2)?;
        connection.answer(&rig.programs)?;
        assert_eq!(place(&rig, &connection)?, None);
        silence(&mut rig, &connection, 2)?;
        connection.prove(&rig.programs)?;
        assert!(place(&rig, &connection)?.is_some());
    }
    Ok(())
}

fn where_there_is_no_room_those_that_are_over_make_room<F: Tabled>() -> Result<()> {
    // Room for eight flows.
    let mut rig = rig::<F>(16)?;
    let living = establish(&rig, Protocol::Udp, 1)?;
    let silent = establish_all(&rig, Protocol::Udp, 2..=8)?;
    let refused = rig.programs.ingress(&syn(client::<F>(12, 9), vip::<F>(1)))?;
    assert_eq!(refused.verdict, Verdict::Drop);
    for connection in &silent {
        silence(&mut rig, connection, LONG)?;
    }
    // A few places are looked at by each that comes; in the end all are.
    let all = 2 * PLACES + FEW;
    let arrives = |port| -> Result<bool> {
        let packet = syn(client::<F>(12, port), vip::<F>(1));
        Ok(rig.programs.ingress(&packet)?.verdict == Verdict::Pass)
    };
    let mut served = 0;
    for _ in 0..=all / 16 + 2 * FEW {
        if served < 7 && arrives(10 + served)? {
            served += 1;
        }
    }
    assert_eq!(served, 7);
    assert!(is_there(&rig, &living)? && living.is_confirmed(&rig)?);
    assert_eq!(rig.count(Reason::FlowExpired)?, 7);
    assert!(!arrives(100)?, "there is no room any more");
    Ok(())
}

fn where_there_is_no_room_the_closed_make_room<F: Tabled>() -> Result<()> {
    let rig = rig::<F>(16)?;
    let living = establish_all(&rig, Protocol::Tcp, 1..=4)?;
    let closed = establish_all(&rig, Protocol::Tcp, 5..=8)?;
    for connection in &closed {
        close(&rig, connection)?;
    }
    let mut served = 0;
    for _ in 0..=(2 * PLACES + FEW) / 16 {
        let packet = syn(client::<F>(12, 100 + served), vip::<F>(1));
        if served < 4 && rig.programs.ingress(&packet)?.verdict == Verdict::Pass {
            served += 1;
        }
    }
    assert_eq!(served, 4);
    for connection in &living {
        assert!(connection.is_confirmed(&rig)?);
    }
    Ok(())
}

/// There are so few places that whoever comes looks at all of them: who finds a flow that is over is served at once, and
/// not only who comes after.
fn who_makes_room_gets_it<F: Tabled>() -> Result<()> {
    let capacity = FlowCapacity { entries: 16, places: 4, endless: 8 };
    let mut rig = Rig::<F>::with_capacity(capacity)?;
    for protocol in Protocol::ALL {
        let _: ServiceIndex = rig.service(vip::<F>(1), protocol, &[backend::<F>(1)])?;
    }
    let streams = establish_all(&rig, Protocol::Tcp, 1..=4)?;
    let datagrams = establish_all(&rig, Protocol::Udp, 1..=4)?;
    let mut ports = 10..;
    let mut arrives = |rig: &Rig<F>, protocol| -> Result<bool> {
        let port = ports.next().context("a port")?;
        let packet = opening(protocol, client::<F>(12, port), vip::<F>(1));
        Ok(rig.programs.ingress(&packet)?.verdict == Verdict::Pass)
    };
    for protocol in Protocol::ALL {
        assert!(!arrives(&rig, protocol)?, "there is room for {protocol}");
    }
    assert_eq!(rig.count(Reason::DropFlowInsert)?, 3);
    close(&rig, &streams[0])?;
    assert!(arrives(&rig, Protocol::Udp)?, "a closed connection has made no room");
    silence(&mut rig, &datagrams[0], LONG)?;
    assert!(arrives(&rig, Protocol::Sctp)?, "a silent flow has made no room");
    close(&rig, &streams[1])?;
    assert!(arrives(&rig, Protocol::Tcp)?, "a closed connection has made no room");
    assert_eq!(rig.count(Reason::DropFlowInsert)?, 3);
    for connection in streams[2..].iter().chain(&datagrams[1..]) {
        assert!(connection.is_confirmed(&rig)?);
    }
    Ok(())
}

/// Has both sides end a TCP connection.
fn close<F: Tabled>(rig: &Rig<F>, connection: &Connection) -> Result<()> {
    let end = |from, to| tcp(from, to, TcpFlags::FIN | TcpFlags::ACK);
    connection.request(&rig.programs, &end(connection.client, connection.frontend))?;
    connection.reply(&rig.programs, &end(connection.backend, connection.client))
}
