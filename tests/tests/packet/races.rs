// SPDX-License-Identifier: Apache-2.0

//! Packets of one flow on several processors at once.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use anyhow::{Context as _, Result, anyhow, ensure};
use proxy_common::counter::Reason;
use proxy_common::frontend::ServiceIndex;
use proxy_tests::both_families;
use proxy_tests::packet::TcpFlags;
use proxy_tests::protocol::Protocol;

use crate::connection::Connection;
use crate::frames::{backends, client, proof, tcp, vip};
use crate::processors;
use crate::programs::Verdict;
use crate::rig::{CAPACITY, PLACES, Rig, Tabled};

both_families!(
    a_flow_is_confirmed_once_whoever_else_sends,
    two_first_packets_are_one_flow,
    a_flow_that_both_sides_end_at_once_is_closed,
    a_flow_that_is_confirmed_as_it_makes_room_goes_on_or_begins_again,
);

/// Flows of each race.
pub(crate) const FLOWS: u16 = 200;

/// Where racers wait for each other, flow by flow.
struct Start {
    racers: usize,
    arrived: AtomicUsize,
    /// One has left the race, it may be by a failure: nobody waits any more.
    is_over: AtomicBool,
}

impl Start {
    /// Waits for the others before the flow of this number.
    fn wait(&self, flow: usize) {
        let _: usize = self.arrived.fetch_add(1, Ordering::AcqRel);
        let all = self.racers * (flow + 1);
        while self.arrived.load(Ordering::Acquire) < all && !self.is_over.load(Ordering::Acquire) {
            thread::yield_now();
        }
    }
}

/// Ends the waiting when a racer leaves.
struct Leaves<'a>(&'a Start);

impl Drop for Leaves<'_> {
    fn drop(&mut self) {
        self.0.is_over.store(true, Ordering::Release);
    }
}

/// Does two things at once to each flow, each on a processor of its own if there are two.
pub(crate) fn race<T: Send>(
    one: impl Fn(u16) -> Result<T> + Sync,
    other: impl Fn(u16) -> Result<T> + Sync,
) -> Result<[Vec<T>; 2]> {
    let processors = processors::allowed()?;
    let racers: [&(dyn Fn(u16) -> Result<T> + Sync); 2] = [&one, &other];
    let start = Start {
        racers: racers.len(),
        arrived: AtomicUsize::new(0),
        is_over: AtomicBool::new(false),
    };
    let run = |processor, racer: &(dyn Fn(u16) -> Result<T> + Sync)| {
        let _leaves = Leaves(&start);
        processors::stay_on(processor)?;
        (0..FLOWS)
            .map(|flow| {
                start.wait(flow.into());
                racer(flow)
            })
            .collect::<Result<Vec<T>>>()
    };
    let run = &run;
    thread::scope(|scope| {
        let mut lanes = racers.into_iter().zip(processors.iter().cycle());
        let [one, other] = std::array::from_fn(|_| {
            let (racer, processor) = lanes.next().expect("a processor for each");
            scope.spawn(move || run(*processor, racer))
        });
        let ended = [one.join(), other.join()];
        let [one, other] = ended.map(|result| result.map_err(|_| anyhow!("a racer panicked"))?);
        Ok([one?, other?])
    })
}

/// The client of a flow.
fn racing<F: Tabled>(flow: u16) -> SocketAddr {
    client::<F>(12, 20_000 + flow)
}

fn a_flow_is_confirmed_once_whoever_else_sends<F: Tabled>() -> Result<()> {
    let mut rig = Rig::<F>::new()?;
    for (round, protocol) in (1..).zip(Protocol::ALL) {
        let _: ServiceIndex = rig.service(vip::<F>(1), protocol, &backends::<F>(8))?;
        let programs = &rig.programs;
        let mut connections = Vec::new();
        for flow in 0..FLOWS {
            let connection = Connection::open(programs, protocol, racing::<F>(flow), vip::<F>(1))?;
            connection.answer(programs)?;
            connections.push(connection);
        }
        // Each packet of both must get through to where the flow began.
        let confirms = |flow: u16| {
            let connection = connections[usize::from(flow)];
            connection.prove(programs)?;
            connection.repeat(programs)?;
            connection.answer(programs)
        };
        let interferes = |flow: u16| {
            let connection = connections[usize::from(flow)];
            if protocol == Protocol::Tcp {
                // Would be refused if there were no flow.
                let amid = tcp(connection.client, connection.frontend, TcpFlags::ACK);
                connection.request(programs, &amid)?;
            }
            connection.prove(programs)?;
            connection.answer(programs)?;
            connection.repeat(programs)
        };
        let _: [Vec<()>; 2] = race(confirms, interferes)?;
        for connection in &connections {
            assert!(connection.is_confirmed(&rig)?, "{connection:?}");
        }
        let flows = round * u64::from(FLOWS);
        assert_eq!(rig.count(Reason::FlowCreated)?, flows);
        assert_eq!(rig.count(Reason::FlowConfirmed)?, flows);
        assert_eq!(rig.count(Reason::SourcePortTranslated)?, 0);
    }
    Ok(())
}

fn two_first_packets_are_one_flow<F: Tabled>() -> Result<()> {
    let mut rig = Rig::<F>::new()?;
    for protocol in Protocol::ALL {
        let _: ServiceIndex = rig.service(vip::<F>(1), protocol, &backends::<F>(8))?;
        let programs = &rig.programs;
        let open = |flow| Connection::open(programs, protocol, racing::<F>(flow), vip::<F>(1));
        let [one, other] = race(open, open)?;
        for (connection, other) in one.into_iter().zip(other) {
            assert_eq!(connection, other);
            assert_eq!(connection.source, connection.client);
            connection.answer(programs)?;
            connection.prove(programs)?;
            assert!(connection.is_confirmed(&rig)?);
        }
    }
    Ok(())
}

/// Whichever packet comes second finds the other one's mark, and gives the flow its place among the closed
/// ones.
fn a_flow_that_both_sides_end_at_once_is_closed<F: Tabled>() -> Result<()> {
    const CLOSED: std::ops::Range<u32> = PLACES..2 * PLACES;
    let mut rig = Rig::<F>::new()?;
    let _: ServiceIndex = rig.service(vip::<F>(1), Protocol::Tcp, &backends::<F>(8))?;
    let programs = &rig.programs;
    let establish =
        |flow| Connection::establish(programs, Protocol::Tcp, racing::<F>(flow), vip::<F>(1));
    let connections = (0..FLOWS).map(establish).collect::<Result<Vec<_>>>()?;
    let end = |from, to| tcp(from, to, TcpFlags::FIN | TcpFlags::ACK);
    let client_ends = |flow: u16| {
        let connection = connections[usize::from(flow)];
        connection.request(programs, &end(connection.client, connection.frontend))
    };
    let backend_ends = |flow: u16| {
        let connection = connections[usize::from(flow)];
        connection.reply(programs, &end(connection.backend, connection.client))
    };
    let _: [Vec<()>; 2] = race(client_ends, backend_ends)?;
    for connection in &connections {
        let flow = rig.tables.flow(&connection.key::<F>())?.context("the flow is gone")?;
        assert!(flow.is_finished() && CLOSED.contains(&flow.proof), "{connection:?} {flow:?}");
    }
    Ok(())
}

/// All places are taken, and each client that speaks now meets another one that takes its place.
fn a_flow_that_is_confirmed_as_it_makes_room_goes_on_or_begins_again<F: Tabled>() -> Result<()> {
    let mut rig = Rig::<F>::with_capacity(CAPACITY)?;
    let _: ServiceIndex = rig.service(vip::<F>(1), Protocol::Tcp, &backends::<F>(8))?;
    let programs = &rig.programs;
    let open = |from| Connection::open(programs, Protocol::Tcp, from, vip::<F>(1));
    let connections = (0..FLOWS).map(|flow| open(racing::<F>(flow))).collect::<Result<Vec<_>>>()?;
    let others = (FLOWS..u16::try_from(PLACES)?).map(|port| client::<F>(13, port));
    others.map(open).try_for_each(|opened| opened.map(drop))?;
    connections.iter().try_for_each(|connection| connection.answer(programs))?;
    let confirms = |flow: u16| {
        let connection = connections[usize::from(flow)];
        let proof = proof(Protocol::Tcp, connection.client, connection.frontend);
        Ok(programs.ingress(&proof)?.verdict == Verdict::Pass)
    };
    let takes_its_place = |flow| open(client::<F>(14, 1 + flow)).map(|_| true);
    let [confirmed, _] = race(confirms, takes_its_place)?;
    let mut going_on = 0;
    for (connection, confirmed) in connections.iter().zip(confirmed) {
        let flow = rig.tables.flow(&connection.key::<F>())?;
        if flow.is_some_and(|flow| flow.is_confirmed()) {
            ensure!(confirmed, "refused, and confirmed: {connection:?}");
            going_on += 1;
            let data = |from, to| tcp(from, to, TcpFlags::ACK).payload(b"data");
            connection.request(programs, &data(connection.client, connection.frontend))?;
            connection.reply(programs, &data(connection.backend, connection.client))?;
        } else {
            let again = open(connection.client)?;
            again.answer(programs)?;
            again.prove(programs)?;
            ensure!(again.is_confirmed(&rig)?, "{again:?}");
        }
    }
    let evicted = rig.count(Reason::FlowEvicted)?;
    ensure!(going_on + evicted >= u64::from(FLOWS), "{going_on} go on, {evicted} made room");
    Ok(())
}
