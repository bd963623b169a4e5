// SPDX-License-Identifier: Apache-2.0
//! Works on several paths, compared, and each window looked at: was it the path that it is called?

use std::net::IpAddr;

use anyhow::{Context as _, Result, ensure};
use proxy_tests::family::IpFamily;

use super::{
    evidence::{Counted, Expected},
    network::{Client, Kind, Network, Proxy},
    report::{Chart, Figure, Wanted},
    rounds::{Case, Rounds},
    setup::Setup,
    work::{Amount, Asker, Quantity, Work},
};
use crate::progress::Part;

/// A way from a client to a server.
pub(crate) struct Path {
    /// Its name.
    pub(crate) name: &'static str,
    /// The node.
    pub(crate) kind: Kind,
    client: Client,
    is_direct: bool,
    /// The place on the chart's axis, if it has one.
    size: Option<u64>,
    beside: Vec<Beside>,
}

/// What was done in a window, at least.
#[derive(Clone, Copy)]
struct Done {
    flows: f64,
    packets: f64,
}

/// With what a path is compared.
struct Beside {
    /// The place of the other path among all.
    place: usize,
    to: &'static str,
    /// What the ratio of a work's first quantity is to be.
    wanted: Option<Wanted>,
}

impl Path {
    /// To the server's own address, on a node without a proxy.
    pub(crate) const fn direct(name: &'static str, client: Client) -> Self {
        let kind = Kind { proxy: Proxy::None, services: 0, flows: 0, room: None };
        Self { name, kind, client, is_direct: true, size: None, beside: Vec::new() }
    }

    /// Through the Service.
    pub(crate) const fn service(name: &'static str, kind: Kind, client: Client) -> Self {
        Self { name, kind, client, is_direct: false, size: None, beside: Vec::new() }
    }

    /// To a server on a node, past its Services.
    pub(crate) const fn to_node(name: &'static str, kind: Kind) -> Self {
        let mut path = Self::direct(name, Client::Outside);
        path.kind = kind;
        path
    }

    /// With a place on the chart's axis.
    pub(crate) const fn at(mut self, size: u64) -> Self {
        self.size = Some(size);
        self
    }

    /// Compared with the path at `place` among all, which is called `to`.
    pub(crate) fn beside(mut self, place: usize, to: &'static str, wanted: Option<Wanted>) -> Self {
        self.beside.push(Beside { place, to, wanted });
        self
    }

    fn target(&self, network: &Network<'_>, work: Work, family: IpFamily) -> Result<IpAddr> {
        if self.is_direct {
            Ok(network.node(self.kind)?.server(family))
        } else {
            Ok(work.service().cluster_ip(family))
        }
    }

    /// Its name, with a family.
    fn over(&self, family: IpFamily) -> String {
        format!("{} over {family}", self.name)
    }

    fn asker<'a>(&self, network: &Network<'a>, setup: &'a Setup) -> Result<Asker<'a>> {
        Asker::new(network.node(self.kind)?.client(self.client), &setup.processors)
    }

    /// What the agent of a node must have done if this path was taken, by so many flows and packets.
    fn expected(&self, node: Kind, done: Done) -> Expected {
        let Done { flows, packets } = done;
        match (self.client, node.proxy) {
            _ if node != self.kind => Expected::Nothing,
            (_, Proxy::XdpSixfour) if self.is_direct => Expected::ThroughDriver(packets),
            _ if self.is_direct => Expected::Nothing,
            (Client::Node, _) => Expected::Sockets(flows),
            (Client::Pod, Proxy::FastSixfour) => Expected::FastFlows(flows),
            (Client::Outside, Proxy::XdpSixfour) => Expected::FromDriver { flows, packets },
            (Client::Pod | Client::Outside, _) => Expected::Flows(flows),
        }
    }
}

/// The nodes that paths are on.
pub(crate) fn kinds(paths: &[Path]) -> Vec<Kind> {
    let mut kinds = Vec::new();
    for path in paths {
        if !kinds.contains(&path.kind) {
            kinds.push(path.kind);
        }
    }
    kinds
}

/// Measures a work on all paths, in both families; `axis` is what the paths' places on it count.
///
/// # Errors
///
/// If a client does not reach its server, or does so by another way than the path.
pub(crate) fn measure(
    setup: &Setup,
    network: &Network<'_>,
    work: Work,
    paths: &[Path],
    axis: Option<&str>,
) -> Result<Vec<Chart>> {
    let windows = paths.len() * setup.plan.rounds * IpFamily::ALL.len();
    let part = Part::new(work.title, windows);
    let awake = work.is_about_latency().then(|| setup.keep_awake()).transpose()?;
    let measure = |family| Ok((family, rounds(setup, network, work, paths, family, &part)?));
    let rounds = IpFamily::ALL.into_iter().map(measure).collect::<Result<Vec<_>>>()?;
    if let Some(awake) = awake {
        awake.stop()?;
    }
    let of = Measured { work, paths, rounds: &rounds, axis };
    let quantities = work.quantities.iter().enumerate().map(|(place, quantity)| {
        of.chart(quantity, |rounds, case| rounds.values(case, place), place == 0)
    });
    let efficiency = of.chart(&work.efficiency, Rounds::per_cpu_second, false);
    quantities.chain([efficiency]).collect()
}

fn rounds(
    setup: &Setup,
    network: &Network<'_>,
    work: Work,
    paths: &[Path],
    family: IpFamily,
    part: &Part,
) -> Result<Rounds> {
    let askers = paths.iter().map(|path| path.asker(network, setup)).collect::<Result<Vec<_>>>()?;
    let watches =
        paths.iter().map(|path| Watch { network, work, path, family, before: Vec::new() });
    let mut amount = None;
    for (watch, asker) in watches.clone().zip(&askers) {
        let name = watch.path.over(family);
        part.on(format_args!("{name}: is it that path?"));
        let first = try_out(setup, watch, asker).context(name)?;
        amount = amount.or(Some(first));
    }
    let amount = amount.context("there are no paths")?;
    let pairs = watches.clone().zip(&askers);
    let cases = pairs.map(|(watch, asker)| watch.case(asker, amount));
    let mut cases = cases.collect::<Result<Vec<_>>>()?;
    let rounds = setup.plan.run(&setup.meter, part, &mut cases)?;
    for watch in watches {
        watch.check_rules().with_context(|| watch.path.over(family))?;
    }
    Ok(rounds)
}

/// Does a little of a work, looks whether it went the path, and returns how much of it fills a
/// window.
fn try_out(setup: &Setup, mut watch: Watch<'_, '_>, asker: &Asker<'_>) -> Result<Amount> {
    let Watch { network, work, path, family, .. } = watch;
    let target = path.target(network, work, family)?;
    let some = || work.amount(asker, target, setup.window());
    // The first flow has the kernel ask for its neighbours. The fast path does not wait for them.
    let _ = some()?;
    watch.begin()?;
    let amount = some()?;
    watch.end(Done { flows: 1.0, packets: 1.0 })?;
    watch.check_rules()?;
    Ok(amount)
}

/// Looks by the counters of all agents whether what is done goes the path that it is called.
struct Watch<'a, 'n> {
    network: &'a Network<'n>,
    work: Work,
    path: &'a Path,
    family: IpFamily,
    before: Vec<(Kind, Counted)>,
}

impl<'a, 'n: 'a> Watch<'a, 'n> {
    /// The work on the path, looked at.
    fn case(mut self, asker: &'a Asker<'n>, amount: Amount) -> Result<Case<'a>> {
        let Self { network, work, path, family, .. } = self;
        let target = path.target(network, work, family)?;
        let case = Case::new(path.over(family), move || work.measure(asker, target, amount));
        Ok(case.watched(move |done| match done {
            None => self.begin(),
            Some(done) => self.end(Done { flows: work.opened(done), packets: work.packets(done) }),
        }))
    }

    fn begin(&mut self) -> Result<()> {
        self.before = self.network.counted(self.family)?;
        Ok(())
    }

    /// That since the beginning so much has gone the path, and nothing another one; and that no
    /// closed connections were in its way.
    fn end(&self, done: Done) -> Result<()> {
        let after = self.network.counted(self.family)?;
        for ((kind, before), (_, after)) in self.before.iter().zip(after) {
            self.path.expected(*kind, done).ensure(*before, after)?;
        }
        self.network.node(self.path.kind)?.ensure_no_time_wait()
    }

    /// That rules of netfilter have translated what was done by now, where there are any.
    fn check_rules(&self) -> Result<()> {
        let Self { network, work, path, family, .. } = self;
        if let Proxy::Rules(_) = path.kind.proxy {
            ensure!(!path.is_direct, "what netfilter does to a direct path is not looked at");
            network.node(path.kind)?.check_rules(*family, work.protocol(), work.port())?;
        }
        Ok(())
    }
}

/// A work that was measured on all paths.
struct Measured<'a> {
    work: Work,
    paths: &'a [Path],
    rounds: &'a [(IpFamily, Rounds)],
    axis: Option<&'a str>,
}

impl Measured<'_> {
    fn chart(
        &self,
        quantity: &Quantity,
        values: impl Fn(&Rounds, usize) -> Vec<f64>,
        has_goals: bool,
    ) -> Result<Chart> {
        let mut figures = Vec::new();
        for (case, path) in self.paths.iter().enumerate() {
            for (family, rounds) in self.rounds {
                let mut figure = Figure::new(path.name, *family, values(rounds, case))?;
                if let Some(size) = path.size {
                    figure = figure.at(size);
                }
                for Beside { place, to, wanted } in &path.beside {
                    let wanted = wanted.filter(|_| has_goals);
                    figure = figure.beside(to, &values(rounds, *place), wanted);
                }
                figures.push(figure);
            }
        }
        Ok(Chart {
            title: format!("{}: {}", self.work.title, quantity.title),
            unit: quantity.unit.to_owned(),
            digits: quantity.digits,
            axis: self.axis.map(str::to_owned),
            in_summary: quantity.in_summary,
            rounds: self.rounds.iter().map(|(_, rounds)| rounds.count()).min().unwrap_or_default(),
            dropped: self.rounds.iter().map(|(_, rounds)| rounds.dropped).sum(),
            figures,
        })
    }
}
