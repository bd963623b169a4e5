// SPDX-License-Identifier: Apache-2.0
//! How much the tables have room for. Each family has as much.

use proxy_common::{
    V4, V6,
    affinity::MAX_AFFINITIES,
    backend::{BackendId, MAX_BACKENDS},
    flow::{ENDLESS_PLACES, MAX_FLOWS, PLACES, all_places},
    frontend::{MAX_FRONTENDS, ServiceIndex},
    map_names::{self, family_ending},
    service::{MAX_SERVICES, MAX_SLOTS},
    traffic::MAX_COUNTED,
};

/// How many entries the tables of a family have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Flows.
    pub flows: FlowCapacity,
    /// Rows of Service ports, reserved ones included.
    pub services: u32,
    /// Rows of backends, reserved ones included.
    pub backends: u32,
    /// Slots of backend sets.
    pub slots: u32,
    /// Frontends, with the entries of whole addresses and of endpoints.
    pub frontends: u32,
    /// Clients whose backend is remembered.
    pub affinities: u32,
    /// Rows of Service ports whose packets are counted, reserved ones included.
    pub counted: u32,
}

impl Default for Capacity {
    fn default() -> Self {
        Self {
            flows: FlowCapacity::default(),
            services: MAX_SERVICES,
            backends: MAX_BACKENDS,
            slots: MAX_SLOTS,
            frontends: MAX_FRONTENDS,
            affinities: MAX_AFFINITIES,
            counted: MAX_COUNTED,
        }
    }
}

impl Capacity {
    /// Room for so many Service ports, endpoints, frontends and clients that stay, and for flows. An endpoint counts
    /// once for each Service port that it is of, and takes a slot, and another one while its set is replaced.
    #[must_use]
    pub const fn new(
        flows: FlowCapacity,
        services: u32,
        endpoints: u32,
        frontends: u32,
        affinities: u32,
    ) -> Self {
        Self {
            flows,
            services: services + ServiceIndex::FIRST.0,
            backends: endpoints + BackendId::FIRST.0,
            slots: 2 * endpoints,
            frontends,
            affinities,
            counted: MAX_COUNTED,
        }
    }

    /// The same with counters for so many Service ports.
    #[must_use]
    pub const fn counting(self, counted: u32) -> Self {
        Self { counted: counted + ServiceIndex::FIRST.0, ..self }
    }

    /// The tables' names and entries.
    pub(super) fn tables(self) -> Vec<(String, u32)> {
        let rows = all_places(self.flows.places, self.flows.endless);
        let tables = [
            (map_names::FLOWS, self.flows.entries),
            (map_names::WAITING, rows),
            (map_names::SERVICES, self.services),
            (map_names::NAMES, self.services),
            (map_names::BACKENDS, self.backends),
            (map_names::SLOTS, self.slots),
            (map_names::FRONTENDS, self.frontends),
            (map_names::AFFINITY, self.affinities),
            (map_names::TRAFFIC, self.counted),
        ];
        [family_ending::<V4>(), family_ending::<V6>()]
            .iter()
            .flat_map(|ending| tables.map(|(base, entries)| (format!("{base}{ending}"), entries)))
            .collect()
    }
}

/// How many flows each family may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowCapacity {
    /// The most entries; a flow has two.
    pub entries: u32,
    /// The most half-open flows, and the most closed ones, a power of two: those that have been there for
    /// longest make room for new ones.
    pub places: u32,
    /// The places of confirmed flows without an end of their own, a power of two and four at least: there, those that
    /// are over make room.
    pub endless: u32,
}

impl Default for FlowCapacity {
    fn default() -> Self {
        Self { entries: MAX_FLOWS, places: PLACES, endless: ENDLESS_PLACES }
    }
}

impl FlowCapacity {
    /// Room for so many flows, at least eight: an eighth of them may be half-open, as many closed, and half of them
    /// have a place as those without an end. The places are rounded up to powers of two.
    #[must_use]
    pub const fn of_flows(flows: u32) -> Self {
        Self {
            entries: 2 * flows,
            places: (flows / 8).next_power_of_two(),
            endless: (flows / 2).next_power_of_two(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_programs_own_room_is_that_of_as_many_flows() {
        assert_eq!(FlowCapacity::of_flows(MAX_FLOWS / 2), FlowCapacity::default());
    }

    #[test]
    fn places_are_powers_of_two() {
        let odd = FlowCapacity::of_flows(1000);
        assert_eq!(odd, FlowCapacity { entries: 2000, places: 128, endless: 512 });
    }
}
