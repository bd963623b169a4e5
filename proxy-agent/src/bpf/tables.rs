// SPDX-License-Identifier: Apache-2.0
//! The tables of one family, opened from their pins.

mod contents;
mod prefixes;
mod shortfalls;

use std::path::Path;

use aya::{
    Pod,
    maps::{LpmTrie, Map, MapData},
};
use proxy_common::{
    Family,
    backend::{Backend, BackendId, Standing},
    flow::{Flow, FlowKey},
    frontend::{Frontend, FrontendKey, ServiceIndex},
    map_names::{self, family_ending},
    name::ServiceName,
    passing::Epoch,
    service::{BackendSet, Policy, Service},
    service_cidr::Guarded,
    shortfall::Shortfall,
    source_range::{Admitted, Ranged},
    traffic::Traffic,
};

use super::{
    Error,
    frontends::{Frontends, Kernel},
    mapped::MappedArray,
    object::pinned,
    table::Table,
    traffic::TrafficTable,
};

/// The tables of one family.
#[derive(Debug)]
pub struct Tables<F: Family> {
    frontends: Frontends<Kernel<F>>,
    names: Table<ServiceIndex, ServiceName>,
    shortfalls: Table<u32, Shortfall>,
    flows: Table<FlowKey<F>, Flow<F>>,
    service_cidrs: LpmTrie<MapData, F::Addr, Guarded>,
    source_ranges: LpmTrie<MapData, Ranged<F>, Admitted>,
    services: MappedArray<Service>,
    slots: MappedArray<BackendId>,
    backends: MappedArray<Backend<F>>,
    epoch: MappedArray<Epoch>,
    traffic: TrafficTable,
}

/// The name of a family's map.
pub(super) fn of_family<F: Family>(base: &str) -> String {
    format!("{base}{}", family_ending::<F>())
}

/// Opens a family's array.
pub(super) fn mapped<F: Family, T: Pod>(pins: &Path, base: &str) -> Result<MappedArray<T>, Error> {
    let name = of_family::<F>(base);
    match pinned(pins, &name)? {
        Map::Array(data) => MappedArray::new(&name, data),
        _ => Err(Error::NoMap(name)),
    }
}

impl<F: Family> Tables<F> {
    /// Opens the tables that are pinned in a directory.
    ///
    /// # Errors
    ///
    /// If one is not there or cannot be opened.
    pub fn open(pins: &Path) -> Result<Self, Error> {
        Ok(Self {
            frontends: Frontends::open(pins)?,
            names: Table::open(pins, &of_family::<F>(map_names::NAMES))?,
            shortfalls: Table::open(pins, &of_family::<F>(map_names::SHORTFALLS))?,
            flows: Table::open(pins, &of_family::<F>(map_names::FLOWS))?,
            service_cidrs: pinned(pins, &of_family::<F>(map_names::SERVICE_CIDRS))?
                .try_into()
                .map_err(prefixes::cidr_error::<F>)?,
            source_ranges: pinned(pins, &of_family::<F>(map_names::SOURCE_RANGES))?
                .try_into()
                .map_err(prefixes::range_error::<F>)?,
            services: mapped::<F, _>(pins, map_names::SERVICES)?,
            slots: mapped::<F, _>(pins, map_names::SLOTS)?,
            backends: mapped::<F, _>(pins, map_names::BACKENDS)?,
            epoch: mapped::<F, _>(pins, map_names::EPOCH)?,
            traffic: TrafficTable::open::<F>(pins)?,
        })
    }

    /// Points a frontend at a Service port. What is there already must not be another's. Programs
    /// forget which connections were for no frontend.
    ///
    /// # Errors
    ///
    /// If the map cannot be written.
    pub fn put_frontend(
        &mut self,
        key: FrontendKey<F>,
        frontend: impl Into<Frontend>,
    ) -> Result<(), Error> {
        let frontend = frontend.into();
        self.frontends.put(key, frontend)?;
        // Programs look at direct connections where they begin only.
        if frontend.service() == ServiceIndex::DIRECT {
            return Ok(());
        }
        self.end_epoch()
    }

    /// Gives memory back after much work.
    pub(super) fn rest(&mut self) {
        self.frontends.rest();
        self.services.rest();
        self.slots.rest();
        self.backends.rest();
    }

    /// Makes programs forget which connections were nothing of theirs.
    fn end_epoch(&mut self) -> Result<(), Error> {
        let Epoch(past) = self.epoch.get(0)?;
        self.epoch.publish(0, 0, past.wrapping_add(1))
    }

    /// Removes a frontend.
    ///
    /// # Errors
    ///
    /// If the map cannot be written.
    pub fn remove_frontend(&mut self, key: &FrontendKey<F>) -> Result<(), Error> {
        self.frontends.remove(key)
    }

    /// Names a Service port, and has it counted from now on.
    ///
    /// # Errors
    ///
    /// If a map cannot be written.
    pub fn put_name(&mut self, index: ServiceIndex, name: ServiceName) -> Result<(), Error> {
        self.traffic.begin(index)?;
        self.names.put(index, name)
    }

    /// What has been counted of a Service port; nothing if it is beyond those that are counted.
    ///
    /// # Errors
    ///
    /// If the map cannot be read.
    pub fn traffic(&self, index: ServiceIndex) -> Result<Option<Traffic>, Error> {
        self.traffic.of(index)
    }

    /// The name of a Service port, if the row has one.
    ///
    /// # Errors
    ///
    /// If the map cannot be read.
    pub fn name(&self, index: ServiceIndex) -> Result<Option<ServiceName>, Error> {
        self.names.get(&index)
    }

    /// Removes the name of a Service port.
    ///
    /// # Errors
    ///
    /// If the map cannot be written.
    pub fn remove_name(&mut self, index: ServiceIndex) -> Result<(), Error> {
        self.names.remove(&index)
    }

    /// Writes a backend: one that no program can refer to yet, or the same with another
    /// generation.
    ///
    /// # Errors
    ///
    /// If the id is outside the table.
    pub fn put_backend(&mut self, id: BackendId, backend: Backend<F>) -> Result<(), Error> {
        self.backends.put(id.0, backend)
    }

    /// Stores a backend's standing in place, whole, and nothing else of its row.
    ///
    /// # Errors
    ///
    /// If the id is outside the table.
    pub fn put_standing(&mut self, id: BackendId, standing: Standing) -> Result<(), Error> {
        self.backends.store(id.0, Backend::<F>::STANDING, standing)
    }

    /// Writes a range of slots that no set publishes.
    ///
    /// # Errors
    ///
    /// If the range is outside the table.
    pub fn put_slots(&mut self, start: u32, ids: &[BackendId]) -> Result<(), Error> {
        for (slot, id) in (start..).zip(ids) {
            self.slots.put(slot, *id)?;
        }
        Ok(())
    }

    /// Publishes the cluster-wide set of a Service port.
    ///
    /// # Errors
    ///
    /// If the index is outside the table.
    pub fn publish_cluster(&mut self, index: ServiceIndex, set: BackendSet) -> Result<(), Error> {
        self.services.publish(index.0, 0, set.to_word())
    }

    /// Publishes the node-local set of a Service port.
    ///
    /// # Errors
    ///
    /// If the index is outside the table.
    pub fn publish_local(&mut self, index: ServiceIndex, set: BackendSet) -> Result<(), Error> {
        self.services.publish(index.0, 1, set.to_word())
    }

    /// Publishes which set serves whom.
    ///
    /// # Errors
    ///
    /// If the index is outside the table.
    pub fn publish_policy(&mut self, index: ServiceIndex, policy: Policy) -> Result<(), Error> {
        self.services.publish(index.0, 2, policy.to_word())
    }

    /// Clears a Service port's row ([`Service::GONE`]). No frontend may point at it.
    ///
    /// # Errors
    ///
    /// If the index is outside the table.
    pub fn clear_service(&mut self, index: ServiceIndex) -> Result<(), Error> {
        self.services.put(index.0, Service::GONE)
    }

    /// A Service port's row.
    ///
    /// # Errors
    ///
    /// If the index is outside the table.
    pub fn service(&self, index: ServiceIndex) -> Result<Service, Error> {
        self.services.get(index.0)
    }

    /// How many rows there are for Service ports, reserved ones included.
    #[must_use]
    pub fn service_rows(&self) -> u32 {
        self.services.rows()
    }

    /// A slot's backend.
    ///
    /// # Errors
    ///
    /// If the slot is outside the table.
    pub fn slot(&self, slot: u32) -> Result<BackendId, Error> {
        self.slots.get(slot)
    }

    /// A backend.
    ///
    /// # Errors
    ///
    /// If the id is outside the table.
    pub fn backend(&self, id: BackendId) -> Result<Backend<F>, Error> {
        self.backends.get(id.0)
    }

    /// All frontends, in no order.
    pub fn frontends(
        &self,
    ) -> impl Iterator<Item = Result<(FrontendKey<F>, Frontend), Error>> + '_ {
        self.frontends.entries()
    }

    /// The names of Service ports, in no order.
    pub fn names(&self) -> impl Iterator<Item = Result<(ServiceIndex, ServiceName), Error>> + '_ {
        self.names.entries()
    }

    /// All entries of flows, in no order.
    pub fn flows(&self) -> impl Iterator<Item = Result<(FlowKey<F>, Flow<F>), Error>> + '_ {
        self.flows.entries()
    }

    /// An entry of a flow.
    ///
    /// # Errors
    ///
    /// If the map cannot be read.
    pub fn flow(&self, key: &FlowKey<F>) -> Result<Option<Flow<F>>, Error> {
        self.flows.get(key)
    }

    /// Removes an entry of a flow.
    ///
    /// # Errors
    ///
    /// If the map cannot be written.
    pub fn remove_flow(&mut self, key: &FlowKey<F>) -> Result<(), Error> {
        self.flows.remove(key)
    }
}
