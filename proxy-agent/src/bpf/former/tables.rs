// SPDX-License-Identifier: Apache-2.0
//! The tables of a family from which something goes over, and those to which it does.

use std::path::Path;

use proxy_common::{
    Family,
    affinity::{Affinity, AffinityKey},
    backend::Backend,
    flow::{Flow, FlowKey},
    foreign_nat::ForeignNat,
    frontend::FrontendKey,
    map_names,
};

use super::{
    super::{
        Error, ForeignNatTable, clock,
        layouts::{Conversion, Layouts},
        mapped::MappedArray,
        raw_map::RawMap,
        table::Table,
        tables::{mapped, of_family},
    },
    flows::{Over, Pass, gives_way, gone_over},
};

/// How much has gone over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CarriedOver {
    /// Entries of flows: two for each, and four where a flow is translated twice.
    pub flows: usize,
    /// Clients with session affinity.
    pub clients: usize,
    /// Entries for which there is no room.
    pub refused: usize,
}

/// Clients with session affinity: the former table, how its keys and values are read, and the own table.
type Clients<F> =
    (RawMap, Conversion<AffinityKey<F>>, Conversion<Affinity>, Table<AffinityKey<F>, Affinity>);

/// What of another version's tables of a family goes over to this agent's.
#[derive(Debug)]
pub struct FormerTables<F: Family> {
    flows: RawMap,
    flow_keys: Conversion<FlowKey<F>>,
    flow_values: Conversion<Flow<F>>,
    clients: Option<Clients<F>>,
    frontends: RawMap,
    frontend_keys: Option<Conversion<FrontendKey<F>>>,
    service_cidrs: RawMap,
    said: ForeignNatTable<F>,
    own_flows: Table<FlowKey<F>, Flow<F>>,
    own_backends: MappedArray<Backend<F>>,
}

impl<F: Family> FormerTables<F> {
    /// Opens those whose layouts are these, and the own ones, which are pinned in a directory; nothing if keys or values
    /// of flows cannot be told.
    pub(super) fn open(maps: &Path, layouts: &Layouts, pins: &Path) -> Result<Option<Self>, Error> {
        let name = of_family::<F>;
        let (flows, affinity) = (name(map_names::FLOWS), name(map_names::AFFINITY));
        let (Some(flow_keys), Some(flow_values)) = (layouts.keys(&flows), layouts.values(&flows))
        else {
            return Ok(None);
        };
        let clients = match (layouts.keys(&affinity), layouts.values(&affinity)) {
            (Some(keys), Some(values)) => {
                Some((RawMap::open(maps, &affinity)?, keys, values, Table::open(pins, &affinity)?))
            }
            _ => None,
        };
        let mut tables = Self {
            flows: RawMap::open(maps, &flows)?,
            flow_keys,
            flow_values,
            clients,
            frontends: RawMap::open(maps, &name(map_names::FRONTENDS))?,
            frontend_keys: layouts.keys(&name(map_names::FRONTENDS)),
            service_cidrs: RawMap::open(maps, &name(map_names::SERVICE_CIDRS))?,
            said: ForeignNatTable::open(pins)?,
            own_flows: Table::open(pins, &flows)?,
            own_backends: mapped::<F, _>(pins, map_names::BACKENDS)?,
        };
        tables.said.put(ForeignNat::FORMER)?;
        Ok(Some(tables))
    }

    /// Has flows and session affinity go over, once more if they have before.
    ///
    /// # Errors
    ///
    /// If a table cannot be read or written. That there is no room for an entry is counted instead.
    pub fn carry_over(&mut self, pass: Pass) -> Result<CarriedOver, Error> {
        let mut carried = CarriedOver::default();
        let Self { flows, flow_keys, flow_values, own_flows, own_backends, clients, .. } = self;
        let mut flow_goes_over = |key: &[u8], value: &[u8]| {
            let (Some(key), Some(flow)) = (flow_keys.convert(key), flow_values.convert(value))
            else {
                return Ok(());
            };
            let own = own_flows.get(&key)?;
            let row = own_backends.get(flow.backend.0.min(own_backends.rows() - 1))?;
            let over = gone_over(pass, &key, flow, (own.as_ref(), &row), clock::now());
            let entered = match over {
                Over::Stays => return Ok(()),
                Over::New(flow) => own_flows.enter(key, flow).map(drop),
                Over::Instead(flow) => own_flows.replace(key, flow),
            };
            carried.note(entered, |carried| &mut carried.flows)
        };
        match pass {
            Pass::Beside | Pass::After => flows.for_each(&mut flow_goes_over)?,
            Pass::Last => {
                let gives_way = |_: &[u8], value: &[u8]| {
                    flow_values.convert(value).is_some_and(|flow| gives_way(&flow))
                };
                flows.take_each(gives_way, &mut flow_goes_over)?;
            }
        }
        if let Some((former, keys, values, own)) = clients {
            former.for_each(|key, value| {
                let (Some(key), Some(client)) = (keys.convert(key), values.convert(value)) else {
                    return Ok(());
                };
                let is_newer = |own: Affinity| client.used.since(own.used) > 0;
                if own.get(&key)?.is_none_or(is_newer) {
                    carried.note(own.put(key, client), |carried| &mut carried.clients)?;
                }
                Ok(())
            })?;
        }
        Ok(carried)
    }

    /// Says that the former programs are gone. Another proxy may still own connections: that is looked at then.
    ///
    /// # Errors
    ///
    /// If that cannot be written.
    pub fn end(mut self) -> Result<(), Error> {
        self.said.put(ForeignNat::POSSIBLE)
    }

    /// Has the former programs know no frontend any more: what begins, they leave to others. What answers for all ports
    /// of an address goes before these ports do.
    ///
    /// # Errors
    ///
    /// If a table cannot be read or written.
    pub fn withdraw_frontends(&self) -> Result<(), Error> {
        self.service_cidrs.remove(|_, _| true)?;
        let is_whole = |key: &[u8], _: &[u8]| {
            let key = self.frontend_keys.as_ref().and_then(|keys| keys.convert(key));
            key.is_none_or(|key| key == FrontendKey::whole(key.address))
        };
        self.frontends.remove(is_whole)?;
        self.frontends.remove(|_, _| true)
    }
}

impl CarriedOver {
    /// Counts what was written, or refused for want of room.
    fn note(
        &mut self,
        written: Result<(), Error>,
        count: impl Fn(&mut Self) -> &mut usize,
    ) -> Result<(), Error> {
        match written {
            Ok(()) => *count(self) += 1,
            Err(Error::Full { .. }) => self.refused += 1,
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Both together.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self {
            flows: self.flows + other.flows,
            clients: self.clients + other.clients,
            refused: self.refused + other.refused,
        }
    }
}
