// SPDX-License-Identifier: Apache-2.0

//! The tables of a family, those of the proxy and those of the floors, and packets that go through the programs of
//! both.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use aya::programs::ProgramFd;
use proxy_agent::bpf::FlowCapacity;
use proxy_common::backend::{Backend, BackendId};
use proxy_common::counter::Reason;
use proxy_common::flow::{Flow, FlowKey, MAX_FLOWS};
use proxy_common::frontend::{Frontend, FrontendKey, FrontendKind, ServiceIndex};
use proxy_common::{Family, Protocol};

use crate::Args;
use crate::figures::Figure;
use crate::gauge::Gauge;
use crate::measure::Run;
use crate::opened;
use crate::peers::{address, destination, one_of_many, port};
use crate::scenario::{PASS, SENT_BACK, Scenario};
use crate::subject::Subject;
use crate::turns::Contest;

/// The tables of a family.
pub(crate) struct Stand<F: Family> {
    pub(crate) subject: Subject<F>,
    pub(crate) gauge: Gauge<F>,
    /// How many flows there are from the beginning.
    pub(crate) flows: u32,
    /// How many frontends clients ask, where that is what is measured.
    pub(crate) frontends: Option<u32>,
}

impl<F: Family> Stand<F> {
    /// Tables with room for so many flows, as large as the agent's at least, and nothing in them.
    pub(crate) fn new(args: &Args, flows: u32, frontends: Option<u32>) -> Result<Self> {
        let room = MAX_FLOWS.max(8 * flows.next_power_of_two());
        let capacity = FlowCapacity { entries: room, ..FlowCapacity::default() };
        let subject = Subject::load(capacity)?;
        Ok(Self { subject, gauge: Gauge::load(&args.gauge, capacity)?, flows, frontends })
    }

    /// Writes a Service port with these backends, from a slot on.
    pub(crate) fn put_service(
        &mut self,
        frontend: SocketAddr,
        service: ServiceIndex,
        start: u32,
        backends: &[(BackendId, Backend<F>)],
    ) -> Result<()> {
        let key = FrontendKey::new(address::<F>(frontend), port(frontend), Protocol::TCP);
        let frontend = (key, Frontend::new(service, FrontendKind::ClusterIp));
        self.subject.put_service(frontend, start, backends)?;
        self.gauge.put_service(frontend, start, backends)
    }

    /// Writes the entries of flows.
    pub(crate) fn put_flows(
        &mut self,
        entries: impl Iterator<Item = (FlowKey<F>, Flow<F>)>,
    ) -> Result<()> {
        for (key, flow) in entries {
            self.subject.flows.insert(key, flow, 0)?;
            self.gauge.flows.insert(key, flow, 0)?;
        }
        Ok(())
    }

    /// Has the programs of a scenario loaded.
    pub(crate) fn prepare(&mut self, args: &Args, scenario: Scenario) -> Result<Prepared<'_, F>> {
        let mut scenario = scenario;
        scenario.packets.in_driver = scenario.in_driver;
        let nothing = if scenario.in_driver { SENT_BACK } else { PASS };
        let mut programs = vec![("nothing", self.gauge.nothing(scenario.in_driver)?, nothing)];
        for (floor, code) in scenario.floors {
            programs.push((floor, self.gauge.floor(floor)?, *code));
        }
        let own = self.subject.program(scenario.program)?;
        programs.push((scenario.program, own, scenario.packets.code));
        let count = args.packets.max(self.flows).min(scenario.most);
        Ok(Prepared { stand: self, scenario, programs, count })
    }
}

/// The packets of a scenario, and programs that they go through: one that does nothing, the floors, the proxy's.
pub(crate) struct Prepared<'a, F: Family> {
    stand: &'a mut Stand<F>,
    scenario: Scenario,
    /// Their names and return codes.
    programs: Vec<(&'static str, ProgramFd, i32)>,
    /// How many packets a turn has.
    count: u32,
}

impl<F: Family> Contest for Prepared<'_, F> {
    fn programs(&self) -> usize {
        self.programs.len()
    }

    fn turn(&mut self, number: usize) -> Result<Run> {
        let Scenario { name, .. } = self.scenario;
        self.run(number)
            .with_context(|| format!("{} {name} at {} flows", F::NAME, self.stand.flows))
    }

    fn figure(&self, number: usize, nanoseconds: Vec<f64>) -> Figure {
        let program = self.programs[number].0;
        let floor = self.scenario.floors.first().map(|(floor, _)| *floor);
        Figure {
            family: F::NAME,
            scenario: self.scenario.name,
            flows: self.stand.flows,
            frontends: self.stand.frontends,
            program,
            floor: floor.filter(|_| program == self.scenario.program),
            nanoseconds,
        }
    }
}

impl<F: Family> Prepared<'_, F> {
    /// Has the packets go through a program, after it has seen each flow once, and looks at what came of it.
    fn run(&mut self, number: usize) -> Result<Run> {
        let Self { stand: Stand { subject, gauge, flows, .. }, scenario, programs, count } = self;
        let (name, program, code) = &programs[number];
        let is_own = number + 1 == programs.len();
        scenario.packets.code = *code;
        if scenario.most == u32::MAX {
            let _ = gauge.run(program, &mut scenario.packets, *flows)?;
        }
        subject.refill()?;
        let before = scenario.counted.map(|reason| subject.count(reason)).transpose()?;
        let first = scenario.packets.recipe.next;
        let run = gauge.run(program, &mut scenario.packets, *count)?;
        if number == 0 {
            return Ok(run);
        }
        if scenario.counted == Some(Reason::FlowCreated) {
            let recipe = &scenario.packets.recipe;
            let asked = |client| match recipe.frontends {
                0 => scenario.frontend,
                _ => one_of_many::<F>(recipe.asked(client)),
            };
            let flows = if is_own { &mut subject.flows } else { &mut gauge.flows };
            opened::forget(flows, recipe, asked, first..recipe.next)?;
            opened::vacate(&mut subject.places)?;
        }
        let to = destination::<F>(&run.frame)?;
        ensure!(to == scenario.to || scenario.to.port() == 0, "{name} sent a packet to {to}");
        if let (true, Some(reason), Some(before)) = (is_own, scenario.counted, before) {
            let counted = subject.count(reason)? - before;
            let reason = reason.name();
            ensure!(
                counted == u64::from(*count),
                "{reason} was counted {counted} times instead of {count}"
            );
        }
        Ok(run)
    }
}
