// SPDX-License-Identifier: Apache-2.0

//! What the reconciler writes is safe to act on at every moment, and rows that it gives to another
//! endpoint are not mistaken for what they were.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use fastrand::Rng;
use proxy_agent::bpf::Tables;
use proxy_agent::reconcile::Rows;
use proxy_agent::reconcile::allocator::REST;
use proxy_common::backend::BackendId;
use proxy_common::counter::Reason;
use proxy_tests::both_families;
use proxy_tests::packet::Packet;
use proxy_tests::protocol::Protocol;

use crate::cluster::Cluster;
use crate::connection::Connection;
use crate::frames::{backend, client, opening, vip};
use crate::loaded::Loaded;
use crate::programs::{Programs, Verdict};
use crate::rig::{Rig, Tabled, address};

both_families!(
    no_flow_gets_a_foreign_backend_while_services_change,
    rows_of_backends_rest_before_they_are_others,
    a_flow_does_not_follow_its_row_to_another_endpoint,
);

/// Services that change.
const SERVICES: u8 = 4;
/// Endpoints that each may have.
const ENDPOINTS: u8 = 12;
/// How much faster than the clock the reconciler's time passes: what is freed is used again in a
/// tenth of the time that it should rest, which is still long for a program.
const FASTER: u32 = 10;

/// An endpoint of a Service: its port says whose it is.
fn endpoint<F: Tabled>(service: u8, host: u8) -> SocketAddr {
    SocketAddr::new(F::pod(2, host), 8_000 + u16::from(service))
}

/// Changes Services as fast as it can: other endpoints, none, no Service at all.
fn change_services<F: Tabled>(tables: &mut Tables<F::Abi>, done: &AtomicBool) -> u64 {
    let rows = Rows { services: 64, slots: 1 << 12, backends: 1 << 10 };
    let mut cluster = Cluster::<F>::new(rows);
    let mut random = Rng::with_seed(1);
    let (begin, mut updates) = (Instant::now(), 0);
    while !done.load(Ordering::Relaxed) {
        let service = random.u8(1..=SERVICES);
        let change = random.u8(..8);
        for protocol in Protocol::ALL {
            let frontend = vip::<F>(service);
            match change {
                0 => cluster.remove(frontend, protocol),
                1 => cluster.put(frontend, protocol, &[]),
                _ => {
                    let hosts = (1..=ENDPOINTS).filter(|_| random.u8(..3) == 0);
                    let endpoints: Vec<_> =
                        hosts.map(|host| endpoint::<F>(service, host)).collect();
                    cluster.put(frontend, protocol, &endpoints);
                }
            }
        }
        cluster.now = begin.elapsed() * FASTER;
        if cluster.try_write(tables) {
            updates += 1;
        } else {
            // All that is free is resting.
            thread::sleep(Duration::from_millis(1));
        }
    }
    updates
}

/// What became of a first packet while its Service changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    Served,
    Refused,
    /// There was no such Service.
    Passed,
    Dropped,
}

/// Says what became of a first packet while its Service changed; fails if it is nothing that any
/// state of the Service calls for.
fn fate<F: Tabled>(programs: &Programs, service: u8, sent: &Packet) -> Result<Fate> {
    let outcome = programs.ingress(sent)?;
    match outcome.verdict {
        Verdict::Pass => {
            let packet = outcome.packet(Verdict::Pass)?;
            if packet == *sent {
                return Ok(Fate::Passed);
            }
            let to = packet.destination_socket().context("ports")?;
            let mut own = (1..=ENDPOINTS).map(|host| endpoint::<F>(service, host));
            ensure!(own.any(|endpoint| endpoint == to), "{to} is none of Service {service}");
            ensure!(packet == sent.clone().to(to), "more than the destination changed");
            Ok(Fate::Served)
        }
        Verdict::Redirect => {
            let answer = outcome.packet(Verdict::Redirect)?;
            ensure!(answer.source == sent.destination, "{} refuses", answer.source);
            Ok(Fate::Refused)
        }
        Verdict::Drop => Ok(Fate::Dropped),
    }
}

/// Sends first packets, each protocol's in its turn, until enough of each have met with each fate that
/// a state of their Service calls for. Returns how many were dropped.
fn send_while_services_change<F: Tabled>(programs: &Programs) -> Result<u64> {
    const PACKETS: u32 = 6_000;
    const OF_EACH: u64 = 60;
    const LONG: Duration = Duration::from_mins(1);
    let begin = Instant::now();
    let mut dropped = 0;
    let kinds = [Fate::Served, Fate::Refused, Fate::Passed];
    let each = Protocol::ALL.map(|protocol| kinds.map(|fate| ((protocol, fate), 0_u64)));
    let mut fates: BTreeMap<_, _> = each.into_iter().flatten().collect();
    for number in 0.. {
        // At least until what has been freed has been used again.
        let is_over = number >= PACKETS && begin.elapsed() >= REST / FASTER * 2;
        if is_over && fates.values().all(|count| *count >= OF_EACH) {
            break;
        }
        ensure!(begin.elapsed() < LONG, "too few: {fates:?}");
        let service = u8::try_from(number % u32::from(SERVICES))? + 1;
        // TCP, SCTP: always a new flow. UDP: a few flows that go on and on, from backend to
        // backend.
        let protocol = Protocol::ALL[number as usize % Protocol::ALL.len()];
        let port = if protocol == Protocol::Udp {
            40_000 + u16::try_from(number % 50)?
        } else {
            u16::try_from(number % 40_000)?
        };
        let sent = opening(protocol, client::<F>(12, 1 + port), vip::<F>(service));
        match fates.get_mut(&(protocol, fate::<F>(programs, service, &sent)?)) {
            Some(count) => *count += 1,
            None => dropped += 1,
        }
    }
    Ok(dropped)
}

fn no_flow_gets_a_foreign_backend_while_services_change<F: Tabled>() -> Result<()> {
    let mut rig = Rig::<F>::new()?;
    let Loaded { programs, tables, .. } = &mut *rig;
    let done = AtomicBool::new(false);
    let (dropped, updates) = thread::scope(|scope| {
        let writer = scope.spawn(|| change_services::<F>(tables, &done));
        let dropped = send_while_services_change::<F>(programs);
        done.store(true, Ordering::Relaxed);
        (dropped, writer.join())
    });
    let updates = updates.ok().context("the writer panicked")?;
    // Two changes under one look-up, or a refusal too many.
    let counted = rig.count(Reason::DropUpdateRace)? + rig.count(Reason::DropRejectLimit)?;
    assert_eq!(dropped?, counted);
    assert!(updates > 100, "too few updates to show anything: {updates}");
    Ok(())
}

/// The row of a backend, by its address.
fn row<F: Tabled>(rig: &Rig<F>, rows: u32, socket: SocketAddr) -> Result<Option<BackendId>> {
    for id in (BackendId::FIRST.0..).take(rows as usize).map(BackendId) {
        let backend = rig.tables.backend(id)?;
        if backend.address == address::<F>(socket) && backend.port.number() == socket.port() {
            return Ok(Some(id));
        }
    }
    Ok(None)
}

fn rows_of_backends_rest_before_they_are_others<F: Tabled>() -> Result<()> {
    const ROWS: u32 = 3;
    let mut rig = Rig::<F>::new()?;
    let mut cluster = Cluster::<F>::new(Rows { services: 4, slots: 64, backends: ROWS });
    let service = vip::<F>(1);
    for host in 1..=3 {
        cluster.put(service, Protocol::Tcp, &[backend::<F>(host)]);
        cluster.write(&mut rig.tables)?;
    }
    // Whoever holds the id of one that is gone still finds that one there.
    for host in 1..=3 {
        assert!(row(&rig, ROWS, backend::<F>(host))?.is_some(), "{host}");
    }
    // One more, but no more rows: rather less than is wanted than a row that may be in use.
    cluster.put(service, Protocol::Tcp, &[backend::<F>(3), backend::<F>(4)]);
    assert!(!cluster.try_write(&mut rig.tables));
    assert_eq!(row(&rig, ROWS, backend::<F>(4))?, None);
    let at = client::<F>(12, 40_000);
    let connection = Connection::open(&rig.programs, Protocol::Tcp, at, service)?;
    assert_eq!(connection.backend, backend::<F>(3));
    // The one that was there goes: nobody is sent to it.
    cluster.put(service, Protocol::Tcp, &[backend::<F>(4)]);
    assert!(!cluster.try_write(&mut rig.tables));
    assert_eq!(row(&rig, ROWS, backend::<F>(4))?, None);
    let refused = opening(Protocol::Tcp, client::<F>(12, 40_002), service);
    assert_eq!(rig.programs.ingress(&refused)?.verdict, Verdict::Redirect);
    cluster.now += 2 * REST;
    cluster.write(&mut rig.tables)?;
    assert!(row(&rig, ROWS, backend::<F>(4))?.is_some());
    let at = client::<F>(12, 40_001);
    let connection = Connection::open(&rig.programs, Protocol::Tcp, at, service)?;
    assert_eq!(connection.backend, backend::<F>(4));
    Ok(())
}

fn a_flow_does_not_follow_its_row_to_another_endpoint<F: Tabled>() -> Result<()> {
    const ROWS: u32 = 2;
    let mut rig = Rig::<F>::new()?;
    let mut cluster = Cluster::<F>::new(Rows { services: 8, slots: 64, backends: ROWS });
    let (service, other) = (vip::<F>(1), vip::<F>(2));
    let at = client::<F>(12, 40_000);
    for protocol in Protocol::ALL {
        cluster.put(service, protocol, &[backend::<F>(1)]);
        cluster.write(&mut rig.tables)?;
        let before = Connection::establish(&rig.programs, protocol, at, service)?;
        let first = row(&rig, ROWS, backend::<F>(1))?.context("a row")?;
        // Another Service's endpoint gets the row, while the flow is silent.
        cluster.put(service, protocol, &[]);
        cluster.write(&mut rig.tables)?;
        cluster.now += 2 * REST;
        cluster.put(other, protocol, &[backend::<F>(8), backend::<F>(9)]);
        cluster.write(&mut rig.tables)?;
        assert_ne!(row(&rig, ROWS, backend::<F>(1))?, Some(first), "the row is not used again");
        match protocol {
            Protocol::Tcp | Protocol::Sctp => {
                before.prove(&rig.programs)?;
                before.answer(&rig.programs)?;
            }
            Protocol::Udp => {
                let next = opening(protocol, at, service);
                let outcome = rig.programs.ingress(&next)?;
                assert_eq!(outcome.verdict, Verdict::Redirect, "not refused: {outcome:?}");
            }
        }
        cluster.remove(service, protocol);
        cluster.remove(other, protocol);
        cluster.write(&mut rig.tables)?;
        cluster.now += 2 * REST;
    }
    assert_eq!(rig.count(Reason::RejectNoEndpoints)?, 1);
    Ok(())
}
