// SPDX-License-Identifier: Apache-2.0

//! The object with the drivers and the floors, loaded.

use std::path::Path;

use anyhow::{Context as _, Result};
use aya::maps::{Array, HashMap, MapData};
use aya::programs::{Program, ProgramFd, SchedClassifier};
use aya::{Ebpf, EbpfLoader};
use proxy_agent::bpf::FlowCapacity;
use proxy_common::backend::{Backend, BackendId};
use proxy_common::device::Device;
use proxy_common::flow::{Flow, FlowKey, all_places};
use proxy_common::frontend::{Frontend, FrontendKey, MAX_FRONTENDS};
use proxy_common::map_names::family_ending;
use proxy_common::service::{BackendSet, MAX_SERVICES, MAX_SLOTS, Service};
use proxy_common::{Family, backend::MAX_BACKENDS, map_names};

use crate::measure::{Driver, Packets, Run};
use crate::subject::LOOPBACK;

/// The loaded object, with the tables of a family's floors.
pub(crate) struct Gauge<F: Family> {
    ebpf: Ebpf,
    driver: Driver,
    pub(crate) flows: HashMap<MapData, FlowKey<F>, Flow<F>>,
    pub(crate) frontends: HashMap<MapData, FrontendKey<F>, Frontend>,
    services: Array<MapData, Service>,
    slots: Array<MapData, BackendId>,
    backends: Array<MapData, Backend<F>>,
    /// Open for the programs that are loaded later.
    _devices: HashMap<MapData, u32, Device>,
}

impl<F: Family> Gauge<F> {
    /// Loads the object with tables of the proxy's sizes.
    pub(crate) fn load(object: &Path, capacity: FlowCapacity) -> Result<Self> {
        let of_family = |base: &str| format!("{base}{}", family_ending::<F>());
        let sizes = [
            (map_names::FRONTENDS, MAX_FRONTENDS),
            (map_names::SERVICES, MAX_SERVICES),
            (map_names::SLOTS, MAX_SLOTS),
            (map_names::BACKENDS, MAX_BACKENDS),
            (map_names::FLOWS, capacity.entries),
            (map_names::WAITING, all_places(capacity.places, capacity.endless)),
        ]
        .map(|(base, size)| (of_family(base), size));
        let mut loader = EbpfLoader::new();
        for (name, size) in &sizes {
            let _ = loader.map_max_entries(name, *size);
        }
        let mut ebpf =
            loader.load_file(object).with_context(|| format!("loading {}", object.display()))?;
        let driver = Driver::new(&mut ebpf, [name::<F>("drive"), name::<F>("drive_xdp")])?;
        let devices = ebpf.take_map(map_names::DEVICES).context("there are no devices")?;
        let mut devices: HashMap<MapData, u32, Device> = devices.try_into()?;
        devices.insert(LOOPBACK, Device::routed(), 0)?;
        let mut take = |base| ebpf.take_map(&of_family(base)).with_context(|| of_family(base));
        Ok(Self {
            flows: take(map_names::FLOWS)?.try_into()?,
            frontends: take(map_names::FRONTENDS)?.try_into()?,
            services: take(map_names::SERVICES)?.try_into()?,
            slots: take(map_names::SLOTS)?.try_into()?,
            backends: take(map_names::BACKENDS)?.try_into()?,
            driver,
            ebpf,
            _devices: devices,
        })
    }

    /// Writes a Service port with these backends, from a slot on.
    pub(crate) fn put_service(
        &mut self,
        frontend: (FrontendKey<F>, Frontend),
        start: u32,
        backends: &[(BackendId, Backend<F>)],
    ) -> Result<()> {
        for (slot, (id, backend)) in (start..).zip(backends) {
            self.slots.set(slot, *id, 0)?;
            self.backends.set(id.0, *backend, 0)?;
        }
        let cluster = match backends.len() {
            0 => BackendSet::REJECT,
            count => BackendSet::new(start, u32::try_from(count)?),
        };
        let row = Service { cluster, ..Service::default() };
        self.services.set(frontend.1.service().0, row, 0)?;
        Ok(self.frontends.insert(frontend.0, frontend.1, 0)?)
    }

    /// A floor, loaded.
    pub(crate) fn floor(&mut self, floor: &str) -> Result<ProgramFd> {
        loaded(&mut self.ebpf, &name::<F>(floor))
    }

    /// A program that is the same for both families, loaded.
    pub(crate) fn program(&mut self, name: &str) -> Result<ProgramFd> {
        loaded(&mut self.ebpf, name)
    }

    /// The program that does nothing, in the stack or in a driver, loaded.
    pub(crate) fn nothing(&mut self, in_driver: bool) -> Result<ProgramFd> {
        self.program(if in_driver { "nothing_xdp" } else { "nothing" })
    }

    /// Runs a program on as many frames as `count`. The packets go on from where the run ends.
    pub(crate) fn run(
        &mut self,
        under_test: &ProgramFd,
        packets: &mut Packets,
        count: u32,
    ) -> Result<Run> {
        self.driver.run(&self.ebpf, under_test, packets, count)
    }

    /// Has a program of drivers really handle as many frames as `count`, which come by a device: see
    /// [`Driver::send`].
    pub(crate) fn send(
        &mut self,
        under_test: &ProgramFd,
        packets: &mut Packets,
        count: u32,
        device: u32,
    ) -> Result<Run> {
        self.driver.send(&self.ebpf, under_test, packets, count, device)
    }
}

/// The name of a family's program.
fn name<F: Family>(base: &str) -> String {
    format!("{base}{}", family_ending::<F>().to_lowercase())
}

pub(crate) fn loaded(ebpf: &mut Ebpf, name: &str) -> Result<ProgramFd> {
    let program = ebpf.program_mut(name).with_context(|| format!("there is no {name}"))?;
    if program.fd().is_err() {
        match program {
            Program::Xdp(program) => program.load(),
            program => <&mut SchedClassifier>::try_from(program)?.load(),
        }
        .with_context(|| format!("loading {name}"))?;
    }
    let program = ebpf.program(name).with_context(|| format!("there is no {name}"))?;
    Ok(program.fd()?.try_clone()?)
}
