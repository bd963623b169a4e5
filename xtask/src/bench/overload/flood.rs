// SPDX-License-Identifier: Apache-2.0
//! New connections beside a flood of SYNs.

use std::{
    cell::RefCell,
    net::{IpAddr, SocketAddr},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use proxy_tests::{family::IpFamily, flood::SynFlood};

use super::SERVICES;
use crate::{
    bench::{
        evidence::Counted,
        network::{Client, Ground, Kind, Layout, Network, Node, Proxy},
        processors::Place,
        report::{Chart, Figure},
        rounds::{Case, Rounds, Sample},
        setup::Setup,
        work::{Amount, Asker, Work},
    },
    progress::Part,
    statistics::real,
};

/// How many flows there is room for.
const ROOM: u32 = 8192;
/// How many SYNs there are to be a second, and before each window: twice the room.
const RATE: u32 = 20_000;
const BEFORE: u64 = 2 * ROOM as u64;
/// How long these may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// Of the rate the least part that must have been sent in a window: the client has the same processors.
const SENT: f64 = 0.1;
/// Of the SYNs in a window the least part that must have opened flows by its end: some are on their way.
const OPENED: f64 = 0.9;

const SIXFOUR: Kind =
    Kind { proxy: Proxy::Sixfour, services: SERVICES, flows: 0, room: Some(ROOM) };
const DIRECT: Kind = Kind { proxy: Proxy::None, services: 0, flows: 0, room: None };
const WORK: Work = Work::CONNECTIONS;

/// Something that is measured: the node, whether there is a flood, and the places of those that it is compared with.
struct Path {
    name: &'static str,
    kind: Kind,
    is_flooded: bool,
    beside: &'static [usize],
}

const PATHS: [Path; 4] = [
    Path { name: "direct", kind: DIRECT, is_flooded: false, beside: &[] },
    Path { name: "direct, beside a flood", kind: DIRECT, is_flooded: true, beside: &[0] },
    Path { name: "Sixfour, by tc", kind: SIXFOUR, is_flooded: false, beside: &[0] },
    Path { name: "Sixfour, beside a flood", kind: SIXFOUR, is_flooded: true, beside: &[2, 1] },
];

/// A quantity of a sample, by its place there.
struct Quantity {
    place: usize,
    title: &'static str,
    unit: &'static str,
    digits: usize,
    in_summary: bool,
}

/// The place of what the flood has sent, behind what is measured of the work.
const SYNS: usize = 4;

const QUANTITIES: [Quantity; 4] = [
    Quantity { place: 0, title: "rate", unit: "1/s", digits: 0, in_summary: true },
    Quantity { place: 1, title: "latency, median", unit: "µs", digits: 1, in_summary: false },
    Quantity { place: 3, title: "latency, 99 %", unit: "µs", digits: 1, in_summary: false },
    Quantity { place: SYNS, title: "SYNs of the flood", unit: "1/s", digits: 0, in_summary: false },
];

/// Measures in both families.
///
/// # Errors
///
/// If a connection does not get through, or a flood is not what it is called.
pub(super) fn measure(setup: &Setup) -> Result<Vec<Chart>> {
    let ground = Ground::new(Layout::OnNode, vec![DIRECT, SIXFOUR])?;
    let network = Network::start(&ground, setup)?;
    for kind in [DIRECT, SIXFOUR] {
        network.node(kind)?.return_floods()?;
    }
    let windows = PATHS.len() * setup.plan.rounds * IpFamily::ALL.len();
    let part = Part::new("connections beside floods of SYNs", windows);
    let awake = setup.keep_awake()?;
    let measure = |family| Ok((family, rounds(setup, &network, family, &part)?));
    let rounds = IpFamily::ALL.into_iter().map(measure).collect::<Result<Vec<_>>>()?;
    awake.stop()?;
    network.stop()?;
    QUANTITIES.iter().map(|quantity| chart(quantity, &rounds)).collect()
}

fn rounds(setup: &Setup, network: &Network<'_>, family: IpFamily, part: &Part) -> Result<Rounds> {
    let mut paths = Vec::new();
    for path in &PATHS {
        let node = network.node(path.kind)?;
        let target = match path.kind.proxy {
            Proxy::None => node.server(family),
            _ => WORK.service().cluster_ip(family),
        };
        let asker = Asker::new(node.client(Client::Pod), &setup.processors)?;
        // The first flow has the kernel ask for its neighbours.
        let _ = WORK.amount(&asker, target, setup.window())?;
        let flood = RefCell::default();
        paths.push(Beside { setup, node, family, path, target, asker, flood });
    }
    let cases = paths.iter().map(|beside| {
        let name = format!("{} over {family}", beside.path.name);
        let case = Case::new(name, || beside.measure());
        case.watched(move |done| if done.is_none() { beside.begin() } else { beside.end() })
    });
    let mut cases: Vec<_> = cases.collect();
    setup.plan.run(&setup.meter, part, &mut cases)
}

/// A path, and what goes on beside its windows.
struct Beside<'a, 'n> {
    setup: &'a Setup,
    node: &'a Node<'n>,
    family: IpFamily,
    path: &'static Path,
    target: IpAddr,
    asker: Asker<'n>,
    flood: RefCell<Option<SynFlood>>,
}

impl Beside<'_, '_> {
    /// Begins the flood, if there is to be one, and waits until it has taken the table twice.
    fn begin(&self) -> Result<()> {
        if !self.path.is_flooded {
            return Ok(());
        }
        let to = SocketAddr::new(self.target, WORK.port());
        let from = self.node.client(Client::Pod);
        let start = || SynFlood::start(from, to, RATE);
        let flood = self.setup.processors.run(Place::Client, start)?;
        let begun = Instant::now();
        while flood.sent() < BEFORE {
            ensure!(begun.elapsed() < PATIENCE, "only {} SYNs in {PATIENCE:?}", flood.sent());
            thread::sleep(Duration::from_millis(5));
        }
        let _: Option<SynFlood> = self.flood.replace(Some(flood));
        Ok(())
    }

    /// How many flows packets have opened on the node.
    fn opened(&self) -> Result<usize> {
        let Some(agent) = self.node.agent() else { return Ok(0) };
        Ok(Counted::read(agent, self.family)?.flows())
    }

    /// Measures, and adds how many SYNs a second were sent meanwhile.
    fn measure(&self) -> Result<Sample> {
        let sent = || self.flood.borrow().as_ref().map_or(0, SynFlood::sent);
        let (opened, before, begun) = (self.opened()?, sent(), Instant::now());
        let time = Amount::Time(self.setup.window());
        let mut sample = WORK.measure(&self.asker, self.target, time)?;
        let elapsed = begun.elapsed().as_secs_f64();
        let spoofed = real(usize::try_from(sent() - before)?);
        let opened = real(self.opened()? - opened);
        ensure!(
            !self.path.is_flooded || spoofed >= SENT * elapsed * f64::from(RATE),
            "only {spoofed} SYNs in {elapsed:.2} s"
        );
        ensure!(
            self.node.agent().is_none() || opened >= sample.work + OPENED * spoofed,
            "{opened} flows were opened by {} connections and {spoofed} SYNs",
            sample.work
        );
        sample.values.push(spoofed / elapsed);
        Ok(sample)
    }

    fn end(&self) -> Result<()> {
        match self.flood.take() {
            Some(flood) => flood.stop().map(drop),
            None => Ok(()),
        }
    }
}

fn chart(quantity: &Quantity, rounds: &[(IpFamily, Rounds)]) -> Result<Chart> {
    let Quantity { place, title, unit, digits, in_summary } = *quantity;
    let mut figures = Vec::new();
    for (case, path) in PATHS.iter().enumerate() {
        for (family, rounds) in rounds {
            let values = |case| rounds.values(case, place);
            let figure = Figure::new(path.name, *family, values(case))?;
            // Without a flood there are no SYNs of one.
            let others = path.beside.iter().filter(|_| place != SYNS);
            figures.push(others.fold(figure, |figure, other| {
                figure.beside(PATHS[*other].name, &values(*other), None)
            }));
        }
    }
    Ok(Chart {
        title: format!("{} beside floods: {title}", WORK.title),
        unit: unit.to_owned(),
        digits,
        axis: None,
        in_summary,
        rounds: rounds.iter().map(|(_, rounds)| rounds.count()).min().unwrap_or_default(),
        dropped: rounds.iter().map(|(_, rounds)| rounds.dropped).sum(),
        figures,
    })
}

pub(super) fn note() -> String {
    format!(
        "Floods: a pod opens connections with a request each, while another program of the same pod sends {RATE} SYNs a \
         second, as far as it gets to, from addresses that nobody has, to the same server: through the Service, by an \
         agent with room for {ROOM} flows of a family; and directly, on a node without a proxy. The flood has sent twice \
         as many SYNs as there is room for flows before each window, in which it goes on. A connection that fails ends \
         the benchmark. What it takes from client and server to send the flood and to answer it, on the same processors, \
         it takes on both paths."
    )
}
