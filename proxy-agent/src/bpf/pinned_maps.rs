// SPDX-License-Identifier: Apache-2.0
//! Maps that an agent before has left: whether they fit, looked at before anything is changed.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use aya::{EbpfError, maps::MapInfo};
use aya_obj::maps::PinningType;
use proxy_common::map_names;
use tracing::warn;

use super::{
    Capacity, Error, FlowCapacity, Object,
    embedded::OBJECT,
    pins::{entries, remove_if_there},
};

/// Maps that are pinned although the object does not say so: the kernel's types of socket storage, for which aya knows
/// no other way.
pub(super) const PINNED_BY_HAND: [&str; 2] = [map_names::CONNECTED, map_names::SENT];

/// What of a map must be as the programs expect it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shape {
    kind: u32,
    key_size: u32,
    value_size: u32,
    flags: u32,
    entries: u32,
}

/// How much there is room for, if the maps that are pinned in a directory are adopted: as much as these have, which is
/// said if it is something else than what is wanted.
///
/// # Errors
///
/// [`Error::UnfitMap`] if one does not fit.
pub(super) fn adopt(directory: &Path, wanted: Capacity) -> Result<Capacity, Error> {
    let names = entries(directory);
    let names = names.map_err(|error| Error::PinDirectory(directory.to_owned(), error))?;
    if names.is_empty() {
        return Ok(wanted);
    }
    let object = aya_obj::Object::parse(OBJECT);
    let object = object.map_err(|error| Error::Load(EbpfError::ParseError(error)))?;
    let mut sizes = BTreeMap::new();
    let tables: BTreeMap<_, _> = wanted.tables().into_iter().collect();
    for (name, map) in &object.maps {
        let is_shared = map.pinning() == PinningType::ByName || PINNED_BY_HAND.contains(&&**name);
        if !is_shared || !names.iter().any(|pinned| *pinned == **name) {
            continue;
        }
        let path = directory.join(name);
        let found = found(&path).map_err(|error| Error::Map(name.clone(), error))?;
        let expected = Shape {
            kind: map.map_type(),
            key_size: map.key_size(),
            value_size: map.value_size(),
            flags: map.map_flags(),
            // Other sizes do for these.
            entries: if tables.contains_key(name) { found.entries } else { map.max_entries() },
        };
        if found != expected {
            return Err(unfit(path));
        }
        if tables.contains_key(name) {
            let _: Option<u32> = sizes.insert(name.clone(), found.entries);
        }
    }
    let adopted = capacity(&sizes, wanted);
    // Both families have the same.
    let adopted_tables: BTreeMap<_, _> = adopted.tables().into_iter().collect();
    if let Some((name, _)) =
        sizes.iter().find(|(name, size)| adopted_tables.get(*name) != Some(*size))
    {
        return Err(unfit(directory.join(name)));
    }
    let others = tables.iter().filter_map(|(name, wanted)| {
        let kept = sizes.get(name).filter(|kept| *kept != wanted)?;
        Some(format!("{name} {kept} (wanted: {wanted})"))
    });
    let others: Vec<_> = others.collect();
    if !others.is_empty() {
        let others = others.join(", ");
        warn!(
            others,
            "tables that are there have other sizes than wanted, and are kept: after `sixfour cleanup`, which forgets all flows, the next start makes them anew"
        );
    }
    Ok(adopted)
}

/// What the sizes of tables come to; the wanted ones where there is no table.
fn capacity(sizes: &BTreeMap<String, u32>, wanted: Capacity) -> Capacity {
    let size = |base: &str, wanted: u32| {
        let mut found = sizes.iter().filter(|(name, _)| name.starts_with(base));
        found.next().map_or(wanted, |(_, size)| *size)
    };
    let entries = size(map_names::FLOWS, wanted.flows.entries);
    Capacity {
        flows: if entries == wanted.flows.entries {
            wanted.flows
        } else {
            FlowCapacity::of_flows(entries / 2)
        },
        services: size(map_names::SERVICES, wanted.services),
        backends: size(map_names::BACKENDS, wanted.backends),
        slots: size(map_names::SLOTS, wanted.slots),
        frontends: size(map_names::FRONTENDS, wanted.frontends),
        affinities: size(map_names::AFFINITY, wanted.affinities),
        counted: size(map_names::TRAFFIC, wanted.counted),
    }
}

fn found(path: &Path) -> Result<Shape, aya::maps::MapError> {
    let info = MapInfo::from_pin(path)?;
    Ok(Shape {
        kind: info.map_type()? as u32,
        key_size: info.key_size(),
        value_size: info.value_size(),
        flags: info.map_flags(),
        entries: info.max_entries(),
    })
}

const fn unfit(path: PathBuf) -> Error {
    Error::UnfitMap(path)
}

impl Object {
    /// Has all that is pinned outlive this: to be said once its programs serve.
    ///
    /// # Errors
    ///
    /// If a table that is another's now cannot be removed.
    pub fn keep(&mut self) -> Result<(), Error> {
        self.pins.keep();
        if !self.serves_all_netns && self.shared.remove(map_names::LEFT_OUT) {
            // Programs of before used it, which are replaced.
            let table = self.maps.join(map_names::LEFT_OUT);
            let _: bool =
                remove_if_there(&table).map_err(|error| Error::PinDirectory(table, error))?;
        }
        Ok(())
    }

    /// Pins those maps again whose pins have gone; returns their names.
    ///
    /// # Errors
    ///
    /// If one cannot be pinned.
    pub fn repin_maps(&self) -> Result<Vec<&str>, Error> {
        let mut again = Vec::new();
        for name in &self.shared {
            let path = self.maps.join(name);
            if !path.exists()
                && let Some(map) = self.ebpf.map(name)
            {
                self.pins.make()?;
                map.pin(&path).map_err(|error| Error::PinMap(name.clone(), error))?;
                again.push(&**name);
            }
        }
        Ok(again)
    }
}

#[cfg(test)]
mod tests {
    use proxy_common::{V4, map_names::family_ending};

    use super::*;

    #[test]
    fn the_sizes_that_are_there_count() {
        let wanted = Capacity::default();
        assert_eq!(capacity(&BTreeMap::new(), wanted), wanted);
        let found = Capacity::new(FlowCapacity::of_flows(1000), 50, 60, 70, 80);
        let sizes: BTreeMap<_, _> = found.tables().into_iter().collect();
        assert_eq!(capacity(&sizes, wanted), found);
        let services = format!("{}{}", map_names::SERVICES, family_ending::<V4>());
        let alone = BTreeMap::from([(services, 50)]);
        assert_eq!(capacity(&alone, wanted), Capacity { services: 50, ..wanted });
    }
}
