// SPDX-License-Identifier: Apache-2.0

//! The proxy's object, loaded, with the tables of a family.

use anyhow::{Context as _, Result, ensure};
use aya::maps::{Array, HashMap, MapData, PerCpuArray, PerCpuValues};
use aya::programs::ProgramFd;
use aya::util::nr_cpus;
use proxy_agent::bpf::object::{XDP, pinned};
use proxy_agent::bpf::{Capacity, FlowCapacity, Object, Settings, Tables};
use proxy_common::backend::{Backend, BackendId};
use proxy_common::counter::Reason;
use proxy_common::device::Device;
use proxy_common::flow::{Flow, FlowKey, Waiting};
use proxy_common::frontend::{Frontend, FrontendKey};
use proxy_common::map_names::{COUNTERS, DEVICES, FLOWS, HOST_ADDRESSES, WAITING, family_ending};
use proxy_common::reject::Budget;
use proxy_common::service::BackendSet;
use proxy_common::ways::Hop;
use proxy_common::{Family, reject};
use proxy_tests::scratch::Scratch;

/// The index of the loopback device, which test runs are said to come by.
pub(crate) const LOOPBACK: u32 = 1;

/// The loaded object. Nothing is left of it when it is dropped.
pub(crate) struct Subject<F: Family> {
    object: Object,
    tables: Tables<F>,
    pub(crate) devices: HashMap<MapData, u32, Device>,
    pub(crate) host_addresses: HashMap<MapData, u32, F::Addr>,
    pub(crate) hops: Array<MapData, Hop>,
    pub(crate) flows: HashMap<MapData, FlowKey<F>, Flow<F>>,
    pub(crate) places: Array<MapData, Waiting<F>>,
    counters: PerCpuArray<MapData, u64>,
    budgets: PerCpuArray<MapData, Budget>,
    _scratch: Scratch,
}

impl<F: Family> Subject<F> {
    /// Loads the object as the agent does.
    pub(crate) fn load(capacity: FlowCapacity) -> Result<Self> {
        let scratch = Scratch::new("bench")?;
        let root = scratch.mount_bpffs()?;
        // Enough for each flow that a run opens to find a free one at once.
        let capacity = Capacity { flows: capacity, ..Capacity::default() };
        let settings = Settings { capacity, source_ports: 10_240..=65_535, ..Settings::default() };
        let mut object = Object::load(&root, &settings)?;
        let hops = object.ebpf_mut().take_map("HOPS").context("there are no next hops")?;
        let budgets = object.ebpf_mut().take_map("BUDGETS").context("there are no budgets")?;
        let pins = object.pins();
        let [flows, places, host_addresses] =
            [FLOWS, WAITING, HOST_ADDRESSES].map(|base| format!("{base}{}", family_ending::<F>()));
        let mut devices: HashMap<MapData, u32, Device> = pinned(pins, DEVICES)?.try_into()?;
        // Its clients are pods of the node.
        devices.insert(LOOPBACK, Device::routed().with_local_clients(true), 0)?;
        Ok(Self {
            tables: Tables::open(pins)?,
            devices,
            host_addresses: pinned(pins, &host_addresses)?.try_into()?,
            hops: hops.try_into()?,
            flows: pinned(pins, &flows)?.try_into()?,
            places: pinned(pins, &places)?.try_into()?,
            counters: pinned(pins, COUNTERS)?.try_into()?,
            budgets: budgets.try_into()?,
            object,
            _scratch: scratch,
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
            self.tables.put_slots(slot, &[*id])?;
            self.tables.put_backend(*id, *backend)?;
        }
        let cluster = match backends.len() {
            0 => BackendSet::REJECT,
            count => BackendSet::new(start, u32::try_from(count)?),
        };
        self.tables.publish_cluster(frontend.1.service(), cluster)?;
        Ok(self.tables.put_frontend(frontend.0, frontend.1)?)
    }

    /// One of its programs, loaded.
    pub(crate) fn program(&mut self, name: &str) -> Result<ProgramFd> {
        let program = match name {
            XDP => self.object.driver_program(XDP)?.fd()?.try_clone()?,
            name => self.object.program(name)?.fd()?.try_clone()?,
        };
        Ok(program)
    }

    /// How often a reason has been counted.
    pub(crate) fn count(&self, reason: Reason) -> Result<u64> {
        Ok(self.counters.get(&reason.row::<F>(), 0)?.iter().sum())
    }

    /// Makes all processors able to refuse again as many packets as they can at once.
    pub(crate) fn refill(&mut self) -> Result<()> {
        let processors = nr_cpus().map_err(|(_, error)| error)?;
        ensure!(processors > 0, "there is no processor");
        let full = Budget { tokens: reject::BURST, ..Budget::default() };
        Ok(self.budgets.set(0, PerCpuValues::try_from(vec![full; processors])?, 0)?)
    }
}
