// SPDX-License-Identifier: Apache-2.0
//! The tables in which an agent leaves the own Node's addresses to the next one.

use std::{collections::BTreeSet, net::IpAddr, path::Path};

use proxy_common::{Address as _, Family, V4, V6, map_names, node_address::NodeAddress};

use super::{Error, table::Table, tables::of_family};

/// One table in each family.
#[derive(Debug)]
pub struct NodeAddressTables {
    v4: Table<<V4 as Family>::Addr, NodeAddress>,
    v6: Table<<V6 as Family>::Addr, NodeAddress>,
}

impl NodeAddressTables {
    /// Opens the tables that are pinned in a directory.
    ///
    /// # Errors
    ///
    /// If one is not there or cannot be opened.
    pub fn open(pins: &Path) -> Result<Self, Error> {
        Ok(Self { v4: open::<V4>(pins)?, v6: open::<V6>(pins)? })
    }

    /// The addresses, as they were left last; none if there was no Node.
    ///
    /// # Errors
    ///
    /// If a table cannot be read.
    pub fn read(&self) -> Result<BTreeSet<IpAddr>, Error> {
        let mut addresses = read::<V4>(&self.v4)?;
        addresses.append(&mut read::<V6>(&self.v6)?);
        Ok(addresses)
    }

    /// Leaves these, and no others.
    ///
    /// # Errors
    ///
    /// If a table cannot be read or written.
    pub fn put(&mut self, addresses: &BTreeSet<IpAddr>) -> Result<(), Error> {
        put::<V4>(&mut self.v4, addresses)?;
        put::<V6>(&mut self.v6, addresses)
    }
}

fn open<F: Family>(pins: &Path) -> Result<Table<F::Addr, NodeAddress>, Error> {
    Table::open(pins, &of_family::<F>(map_names::NODE_ADDRESSES))
}

fn read<F: Family>(table: &Table<F::Addr, NodeAddress>) -> Result<BTreeSet<IpAddr>, Error> {
    table.entries().map(|entry| Ok(entry?.0.into())).collect()
}

/// New ones first: whoever reads it meanwhile finds each address that stays. But where there is no room for these, those
/// that go make some.
fn put<F: Family>(
    table: &mut Table<F::Addr, NodeAddress>,
    addresses: &BTreeSet<IpAddr>,
) -> Result<(), Error> {
    let own = addresses.iter().filter_map(|address| F::Addr::from_ip(*address));
    let own: BTreeSet<_> = own.collect();
    let put_all = |table: &mut Table<F::Addr, NodeAddress>| {
        own.iter().try_for_each(|address| table.put(*address, NodeAddress::YES))
    };
    let written = put_all(table);
    table.retain(|address, _| own.contains(address))?;
    if matches!(written, Err(Error::Full { .. })) { put_all(table) } else { written }
}
