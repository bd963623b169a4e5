// SPDX-License-Identifier: Apache-2.0

//! The object, loaded: its programs, and the tables of a family.
//!
//! It is loaded as the agent loads it, with its pins in a BPF file system that nobody else sees.
//! That is unmounted at once: from then on everything is held by file descriptors, so that
//! nothing is left when the process ends, however it ends.

use std::net::SocketAddr;
use std::ops::RangeInclusive;

use anyhow::{Context as _, Result, ensure};
use aya::Pod;
use aya::maps::{Array, HashMap, LpmTrie, MapData, PerCpuArray, PerCpuValues, RingBuf};
use aya::util::nr_cpus;
use proxy_agent::bpf::object::pinned;
use proxy_agent::bpf::{
    Capacity, DeviceTables, FlowBatches, FlowCapacity, Object, RouteMtus, Settings, Tables,
    WaysTable,
};
use proxy_agent::collector::{Collected, collect};
use proxy_common::affinity::{Affinity, AffinityKey};
use proxy_common::backend::{Backend, BackendId};
use proxy_common::device::Device;
use proxy_common::event::Listeners;
use proxy_common::flow::{Flow, FlowKey};
use proxy_common::foreign_nat::ForeignNat;
use proxy_common::fragment::{FragmentKey, Fragmented};
use proxy_common::frontend::ServiceIndex;
use proxy_common::frontend_filter::FilterRow;
use proxy_common::locality::Locality;
use proxy_common::reject::Budget;
use proxy_common::service::Policy;
use proxy_common::service_cidr::{Outsider, Prefix as ServicePrefix};
use proxy_common::source_range::{Admitted, Ranged};
use proxy_common::traffic::Traffic;
use proxy_common::ways::{HOP_ROWS, Hop};
use proxy_common::{Family, Port, counter, map_names};
use proxy_tests::scratch::Scratch;

use crate::programs::Programs;
use crate::rig::{Tabled, address};

/// The ports that translated sources take.
pub(crate) const SOURCE_PORTS: RangeInclusive<u16> = 61_000..=65_535;

/// Rows of each array that scenarios use at the most.
pub(crate) const ROWS: u32 = 1 << 12;

/// The programs, and the tables of a family.
pub(crate) struct Loaded<F: Tabled> {
    pub(crate) programs: Programs,
    pub(crate) tables: Tables<F::Abi>,
    pub(crate) filter: Array<MapData, FilterRow>,
    pub(crate) flows: HashMap<MapData, FlowKey<F::Abi>, Flow<F::Abi>>,
    pub(crate) batches: FlowBatches<F::Abi>,
    pub(crate) devices: HashMap<MapData, u32, Device>,
    pub(crate) device_tables: DeviceTables,
    pub(crate) host_addresses: HashMap<MapData, u32, <F::Abi as Family>::Addr>,
    pub(crate) counters: PerCpuArray<MapData, u64>,
    pub(crate) fragments: HashMap<MapData, FragmentKey<F::Abi>, Fragmented>,
    pub(crate) affinities: HashMap<MapData, AffinityKey<F::Abi>, Affinity>,
    pub(crate) locality: Array<MapData, Locality<F::Abi>>,
    pub(crate) foreign_nat: Array<MapData, ForeignNat>,
    pub(crate) ranges: LpmTrie<MapData, Ranged<F::Abi>, Admitted>,
    outsiders: HashMap<MapData, <F::Abi as Family>::Addr, Outsider>,
    budgets: PerCpuArray<MapData, Budget>,
    pub(crate) hops: Array<MapData, Hop>,
    pub(crate) ways: WaysTable,
    pub(crate) route_mtus: RouteMtus,
    traffic: PerCpuArray<MapData, Traffic>,
    pub(crate) listeners: Array<MapData, Listeners>,
    /// What programs tell each listener.
    pub(crate) events: Vec<RingBuf<MapData>>,
    /// The first rows that are not used yet.
    pub(crate) next_service: u32,
    pub(crate) next_backend: u32,
    pub(crate) next_slot: u32,
    /// The guarded prefixes.
    pub(crate) service_cidrs: Vec<ServicePrefix<F::Abi>>,
}

impl<F: Tabled> Loaded<F> {
    /// Loads the object with room for so many flows.
    pub(crate) fn new(capacity: FlowCapacity) -> Result<Self> {
        Self::with_source_ports(capacity, SOURCE_PORTS)
    }

    /// The same with these ports for translated sources.
    pub(crate) fn with_source_ports(
        capacity: FlowCapacity,
        source_ports: RangeInclusive<u16>,
    ) -> Result<Self> {
        Self::with_tables(Capacity { flows: capacity, ..Capacity::default() }, source_ports)
    }

    /// The same with room for so much in each table.
    pub(crate) fn with_tables(
        capacity: Capacity,
        source_ports: RangeInclusive<u16>,
    ) -> Result<Self> {
        let scratch = Scratch::new("packet")?;
        let root = scratch.mount_bpffs()?;
        let settings = Settings { source_ports, capacity, ..Settings::default() };
        let mut object = Object::load(&root, &settings)?;
        let programs = Programs::new(&mut object, &root)?;
        let budgets = object.ebpf_mut().take_map("BUDGETS").context("there are no budgets")?;
        let fragments = format!("FRAGMENTS{}", map_names::family_ending::<F::Abi>());
        let fragments = object.ebpf_mut().take_map(&fragments).context("there are no fragments")?;
        let outsiders = format!("OUTSIDERS{}", map_names::family_ending::<F::Abi>());
        let outsiders = object.ebpf_mut().take_map(&outsiders).context("there are no outsiders")?;
        let hops = object.ebpf_mut().take_map("HOPS").context("there are no next hops")?;
        let pins = object.pins();
        let of_family = |base| format!("{base}{}", map_names::family_ending::<F::Abi>());
        Ok(Self {
            programs,
            tables: Tables::open(pins)?,
            filter: pinned(pins, &of_family(map_names::FILTER))?.try_into()?,
            flows: pinned(pins, &of_family(map_names::FLOWS))?.try_into()?,
            batches: FlowBatches::open(pins)?,
            devices: pinned(pins, map_names::DEVICES)?.try_into()?,
            device_tables: DeviceTables::open(pins)?,
            host_addresses: pinned(pins, &of_family(map_names::HOST_ADDRESSES))?.try_into()?,
            affinities: pinned(pins, &of_family(map_names::AFFINITY))?.try_into()?,
            locality: pinned(pins, &of_family(map_names::LOCALITY))?.try_into()?,
            foreign_nat: pinned(pins, &of_family(map_names::FOREIGN_NAT))?.try_into()?,
            ranges: pinned(pins, &of_family(map_names::SOURCE_RANGES))?.try_into()?,
            counters: pinned(pins, map_names::COUNTERS)?.try_into()?,
            fragments: fragments.try_into()?,
            outsiders: outsiders.try_into()?,
            budgets: budgets.try_into()?,
            hops: hops.try_into()?,
            ways: WaysTable::open(pins)?,
            route_mtus: RouteMtus::open(pins)?,
            traffic: pinned(pins, &of_family(map_names::TRAFFIC))?.try_into()?,
            listeners: pinned(pins, map_names::LISTENERS)?.try_into()?,
            events: map_names::EVENTS
                .iter()
                .map(|name| Ok(RingBuf::try_from(pinned(pins, name)?)?))
                .collect::<Result<_>>()?,
            next_service: ServiceIndex::FIRST.0,
            next_backend: BackendId::FIRST.0,
            next_slot: 0,
            service_cidrs: Vec::new(),
        })
    }

    /// Makes the tables as good as new.
    pub(crate) fn clear(&mut self) -> Result<()> {
        let processors = nr_cpus().map_err(|(_, error)| error)?;
        for row in 0..self.next_service {
            let none = PerCpuValues::try_from(vec![Traffic::default(); processors])?;
            self.traffic.set(row, none, 0)?;
        }
        ensure!(self.next_service.max(self.next_backend).max(self.next_slot) <= ROWS, "more rows");
        let nobody = address::<F>(SocketAddr::new(F::FAMILY.unspecified(), 0));
        let frontends =
            self.tables.frontends().map(|entry| Ok(entry?.0)).collect::<Result<Vec<_>>>()?;
        for key in frontends {
            self.tables.remove_frontend(&key)?;
        }
        let names = self.tables.names().map(|entry| Ok(entry?.0)).collect::<Result<Vec<_>>>()?;
        for index in names {
            self.tables.remove_name(index)?;
        }
        for row in 0..ROWS {
            self.tables.clear_service(ServiceIndex(row))?;
            self.tables.publish_policy(ServiceIndex(row), Policy::default())?;
            self.tables.put_slots(row, &[BackendId::NONE])?;
            self.tables
                .put_backend(BackendId(row), Backend::new(nobody, Port::ANY, 0, ServiceIndex(0)))?;
        }
        (self.next_service, self.next_backend, self.next_slot) =
            (ServiceIndex::FIRST.0, BackendId::FIRST.0, 0);
        for prefix in std::mem::take(&mut self.service_cidrs) {
            self.tables.remove_service_cidr(prefix)?;
        }
        self.listeners.set(0, Listeners::default(), 0)?;
        for events in &mut self.events {
            while events.next().is_some() {}
        }
        clear(&mut self.flows)?;
        clear(&mut self.fragments)?;
        clear(&mut self.outsiders)?;
        self.device_tables.retain(|_| false, |_, _| false)?;
        clear(&mut self.affinities)?;
        self.locality.set(0, Locality::of_devices(), 0)?;
        self.foreign_nat.set(0, ForeignNat::NONE, 0)?;
        for range in self.ranges.keys().collect::<Result<Vec<_>, _>>()? {
            self.ranges.remove(&range)?;
        }
        // What one scenario has spent on refusals, another would miss.
        self.refill()?;
        for row in 0..counter::ROWS {
            let zeros = PerCpuValues::try_from(vec![0; processors])?;
            self.counters.set(row, zeros, 0)?;
        }
        Ok(())
    }

    /// What has been counted of all Service ports together.
    pub(crate) fn traffic(&self) -> Result<Traffic> {
        let mut sum = Traffic::default();
        for index in (ServiceIndex::FIRST.0..self.next_service).map(ServiceIndex) {
            sum = sum.and(&self.tables.traffic(index)?.context("it is not counted")?);
        }
        Ok(sum)
    }

    /// Collects silent flows, as the agent does now and then.
    pub(crate) fn collect(&mut self) -> Result<Collected> {
        Ok(collect(&mut self.tables, &self.batches)?)
    }

    /// Forgets all flows.
    pub(crate) fn forget_flows(&mut self) -> Result<()> {
        clear(&mut self.flows)
    }

    /// Makes all next hops ones that the stack has not used.
    pub(crate) fn forget_hops(&mut self) -> Result<()> {
        (0..HOP_ROWS).try_for_each(|row| Ok(self.hops.set(row, Hop::default(), 0)?))
    }

    /// Makes all processors able to refuse again as many packets as they can at once.
    pub(crate) fn refill(&mut self) -> Result<()> {
        let processors = nr_cpus().map_err(|(_, error)| error)?;
        let full = PerCpuValues::try_from(vec![Budget::default(); processors])?;
        Ok(self.budgets.set(0, full, 0)?)
    }
}

fn clear<K: Pod, V: Pod>(table: &mut HashMap<MapData, K, V>) -> Result<()> {
    let keys = table.keys().collect::<Result<Vec<_>, _>>()?;
    keys.iter().try_for_each(|key| Ok(table.remove(key)?))
}
