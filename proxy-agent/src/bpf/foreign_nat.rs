// SPDX-License-Identifier: Apache-2.0
//! The table by which programs are told whether another proxy's NAT may own connections, and which connections
//! that is about.

use std::path::Path;

use proxy_common::{
    Family, Port, Protocol,
    foreign_nat::ForeignNat,
    frontend::{Frontend, FrontendKey, FrontendKind, ServiceIndex},
    map_names,
};

use super::{
    Error,
    mapped::MappedArray,
    table::Table,
    tables::{mapped, of_family},
};

/// One row for a family, and the family's frontends.
#[derive(Debug)]
pub struct ForeignNatTable<F: Family> {
    said: MappedArray<ForeignNat>,
    frontends: Table<FrontendKey<F>, Frontend>,
}

impl<F: Family> ForeignNatTable<F> {
    /// Opens the tables that are pinned in a directory.
    ///
    /// # Errors
    ///
    /// If one is not there or cannot be opened.
    pub fn open(pins: &Path) -> Result<Self, Error> {
        Ok(Self {
            said: mapped::<F, _>(pins, map_names::FOREIGN_NAT)?,
            frontends: Table::open(pins, &of_family::<F>(map_names::FRONTENDS))?,
        })
    }

    /// Says what holds from now on.
    ///
    /// # Errors
    ///
    /// If the table has no row.
    pub fn put(&mut self, said: ForeignNat) -> Result<(), Error> {
        self.said.put(0, said)
    }

    /// Whether programs refuse packets amid connections to this destination that they do not know. At node ports the
    /// node itself answers.
    ///
    /// # Errors
    ///
    /// If the frontends cannot be read.
    pub fn refuses(&self, address: F::Addr, port: Port, protocol: Protocol) -> Result<bool, Error> {
        let frontend = match self.frontends.get(&FrontendKey::new(address, port, protocol))? {
            Some(frontend) => Some(frontend),
            None => self.frontends.get(&FrontendKey::whole(address))?,
        };
        Ok(frontend.is_some_and(|frontend| {
            let service = frontend.service();
            let is_port = service.0 >= ServiceIndex::FIRST.0;
            service == ServiceIndex::REFUSE || is_port && frontend.kind() != FrontendKind::NodePort
        }))
    }
}
