// SPDX-License-Identifier: Apache-2.0
//! The section on paths: what a client gets directly, and through its Service, by each proxy.

use std::net::IpAddr;

use anyhow::{Context as _, Result};
use proxy_tests::{family::IpFamily, manifests::Manifests};

use super::{
    evidence::Counted,
    network::{self, Client, Network, Proxy},
    report::{Chart, Figure, Section, Wanted},
    rounds::{Case, Rounds},
    setup::Setup,
    work::{Asker, Quantity, Work},
};
use crate::progress::Part;

/// A way from a client to a server on its node.
struct Path {
    name: &'static str,
    proxy: Proxy,
    client: Client,
    is_direct: bool,
    /// The direct path of such clients, where there is no proxy.
    reference: &'static str,
}

const DIRECT: &str = "direct";
const FROM_NODE: &str = "direct, from the node";
const TC: &str = "ClusterIP by tc";
const SOCKET: &str = "ClusterIP at the socket, from the node";

const fn direct(name: &'static str, client: Client) -> Path {
    Path { name, proxy: Proxy::None, client, is_direct: true, reference: name }
}

const fn service(name: &'static str, proxy: Proxy, client: Client) -> Path {
    let reference = match client {
        Client::Pod => DIRECT,
        Client::Node => FROM_NODE,
    };
    Path { name, proxy, client, is_direct: false, reference }
}

const PATHS: [Path; 4] = [
    direct(DIRECT, Client::Pod),
    service(TC, Proxy::Sixfour, Client::Pod),
    direct(FROM_NODE, Client::Node),
    service(SOCKET, Proxy::Sixfour, Client::Node),
];

const WORKS: [Work; 6] =
    [Work::STREAM, Work::STREAMS, Work::DATAGRAMS, Work::CONNECTIONS, Work::PINNED, Work::REQUESTS];

impl Path {
    fn target(&self, network: &Network<'_>, family: IpFamily) -> IpAddr {
        if self.is_direct {
            network.server(self.proxy, family)
        } else {
            Network::cluster_ip(family)
        }
    }
}

/// What it is to be: the first rows of the goals.
fn wanted(work: &Work, path: &Path) -> Option<Wanted> {
    match (work.title, path.name) {
        (title, TC) if title == Work::STREAM.title => Some(Wanted::AtLeastFrom(0.97, 0.95)),
        (title, SOCKET) if title == Work::STREAM.title => Some(Wanted::Reaches(1.0)),
        (title, TC) if title == Work::CONNECTIONS.title => Some(Wanted::AtLeast(0.94)),
        _ => None,
    }
}

/// Measures all works on all paths.
///
/// # Errors
///
/// If something does not start, or a client does not reach its server, or does so by another way
/// than is said.
pub(super) fn run(setup: &Setup) -> Result<Section> {
    let topology = network::topology()?;
    let manifests = Manifests::new()?;
    let network = Network::start(&topology, &manifests, setup)?;
    let mut charts = Vec::new();
    for work in WORKS {
        let part = Part::new(work.title, PATHS.len() * setup.plan.rounds * IpFamily::ALL.len());
        let awake = work.is_about_latency().then(|| setup.keep_awake()).transpose()?;
        let measure = |family| measure(setup, &network, work, family, &part);
        let rounds = IpFamily::ALL.map(measure);
        if let Some(awake) = awake {
            awake.stop()?;
        }
        let [v4, v6] = rounds;
        let rounds = [(IpFamily::ALL[0], v4?), (IpFamily::ALL[1], v6?)];
        charts.extend(self::charts(&work, &rounds)?);
        network.ensure_no_time_wait()?;
    }
    network.stop()?;
    Ok(Section { title: "Paths to a backend".to_owned(), notes: notes(), charts })
}

fn notes() -> Vec<String> {
    vec![
        "Client and server are on one node, each in a network namespace that is routed to through a \
         veth pair. Each proxy has such a node of its own; the direct paths are on a node without a \
         proxy and without rules of netfilter. Clients run on one half of the processors and servers \
         on the other, but for connections on one processor. Processors are kept awake while latency \
         and connections are measured."
            .to_owned(),
    ]
}

/// Measures a work on all paths, after each of them was shown to be the one that it is called.
fn measure(
    setup: &Setup,
    network: &Network<'_>,
    work: Work,
    family: IpFamily,
    part: &Part,
) -> Result<Rounds> {
    let askers: Vec<_> = PATHS
        .iter()
        .map(|path| Asker::new(network.client(path.proxy, path.client), &setup.processors))
        .collect::<Result<_>>()?;
    let mut amount = None;
    for (path, asker) in PATHS.iter().zip(&askers) {
        part.on(format_args!("{} over {family}, looking whether it is it", path.name));
        let before = Counted::read(network.agent(), family)?;
        let target = path.target(network, family);
        let first = work.amount(asker, target, setup.window())?;
        let after = Counted::read(network.agent(), family)?;
        let ours = (path.proxy == Proxy::Sixfour).then_some(path.client);
        after.ensure(before, ours).with_context(|| path.name)?;
        amount = amount.or(Some(first));
    }
    let amount = amount.context("there are no paths")?;
    let mut cases: Vec<_> = PATHS
        .iter()
        .zip(&askers)
        .map(|(path, asker)| {
            let target = path.target(network, family);
            let name = format!("{} over {family}", path.name);
            Case::new(name, move || work.measure(asker, target, amount))
        })
        .collect();
    setup.plan.run(&setup.meter, part, &mut cases)
}

/// A chart for each quantity of a work.
fn charts(work: &Work, rounds: &[(IpFamily, Rounds)]) -> Result<Vec<Chart>> {
    let quantities = work.quantities.iter().enumerate().map(|(place, quantity)| {
        let wanted = |path: &Path| if place == 0 { wanted(work, path) } else { None };
        chart(work, quantity, rounds, |rounds, case| rounds.values(case, place), wanted)
    });
    let efficiency = chart(work, &work.efficiency, rounds, Rounds::per_cpu_second, |_| None);
    quantities.chain([efficiency]).collect()
}

fn chart(
    work: &Work,
    quantity: &Quantity,
    rounds: &[(IpFamily, Rounds)],
    values: impl Fn(&Rounds, usize) -> Vec<f64>,
    wanted: impl Fn(&Path) -> Option<Wanted>,
) -> Result<Chart> {
    let mut figures = Vec::new();
    for (case, path) in PATHS.iter().enumerate() {
        for (family, rounds) in rounds {
            let mut figure = Figure::new(path.name, *family, values(rounds, case))?;
            let reference = PATHS.iter().position(|other| other.name == path.reference);
            if let Some(reference) = reference.filter(|reference| *reference != case) {
                let beside = values(rounds, reference);
                figure = figure.beside(path.reference, &beside, wanted(path));
            }
            figures.push(figure);
        }
    }
    Ok(Chart {
        title: format!("{}: {}", work.title, quantity.title),
        unit: quantity.unit.to_owned(),
        digits: quantity.digits,
        axis: None,
        in_summary: quantity.in_summary,
        dropped: rounds.iter().map(|(_, rounds)| rounds.dropped).sum(),
        figures,
    })
}
