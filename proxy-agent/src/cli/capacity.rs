// SPDX-License-Identifier: Apache-2.0
//! The flags that say how much the tables have room for, and what they are without them
//! ([sizing](../../../docs/sizing.md)).

use clap::{Args, value_parser};

use proxy_common::traffic::Traffic;

use crate::bpf::{Capacity, FlowCapacity, processors};

/// How much the tables of each family have room for.
#[derive(Args, Clone, Copy, Debug, Default)]
pub struct CapacityArgs {
    /// The most flows of each family: connections and the like, twice those that are masqueraded. Without this, by
    /// the machine's memory.
    #[arg(long, value_name = "COUNT", value_parser = value_parser!(u32).range(1 << 10..=1 << 23))]
    pub max_flows: Option<u32>,

    /// The most ports of Services of each family. Without this, by the machine's memory.
    #[arg(long, value_name = "COUNT", value_parser = value_parser!(u32).range(16..=1 << 20))]
    pub max_services: Option<u32>,

    /// The most endpoints of each family, each counted once for each Service port. Without this, by the machine's
    /// memory.
    #[arg(long, value_name = "COUNT", value_parser = value_parser!(u32).range(16..=1 << 22))]
    pub max_endpoints: Option<u32>,

    /// The most frontends of each family: addresses with ports that Services are served at, whole addresses, and
    /// endpoints. Without this, as many as endpoints, or four for each Service port if these are more.
    #[arg(long, value_name = "COUNT", value_parser = value_parser!(u32).range(16..=1 << 23))]
    pub max_frontends: Option<u32>,

    /// The most clients of each family of which it is remembered who has served them (`sessionAffinity`). Without
    /// this, by the machine's memory.
    #[arg(long, value_name = "COUNT", value_parser = value_parser!(u32).range(16..=1 << 22))]
    pub max_affinity: Option<u32>,

    /// The most ports of Services of each family whose packets, flows and refusals are counted. Without this, 16,384,
    /// or as many as 64 MiB hold, in which each processor has counters of its own.
    #[arg(long, value_name = "COUNT", value_parser = value_parser!(u32).range(0..=1 << 20))]
    pub max_counted: Option<u32>,
}

/// What counters may take by default, in bytes, and how many Service ports of a family are counted at the most.
const COUNTERS: usize = 64 << 20;
const COUNTED: usize = 1 << 14;

/// How many Service ports of each family are counted by default, by as many processors.
fn counted_by(processors: usize) -> u32 {
    let room = COUNTERS / (2 * size_of::<Traffic>() * processors.max(1));
    u32::try_from(room.min(COUNTED)).unwrap_or(u32::MAX)
}

/// What the flags are by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Defaults {
    flows: u32,
    services: u32,
    endpoints: u32,
    affinities: u32,
}

impl Defaults {
    /// Of a machine with this much memory, in bytes: a tenth of it at the most if that is a
    /// gibibyte or more and both families are full of flows, and room for a large cluster in any case.
    fn of(memory: u64) -> Self {
        let share = |each: u32, least: u32, most: u32| -> u32 {
            let count = memory.div_ceil(u64::from(each)).next_power_of_two();
            u32::try_from(count).unwrap_or(u32::MAX).clamp(least, most)
        };
        let endpoints = share(8 << 10, 1 << 18, 1 << 20);
        Self {
            flows: share(32 << 10, 1 << 16, 1 << 20),
            services: endpoints / 8,
            endpoints,
            affinities: share(64 << 10, 1 << 14, 1 << 17),
        }
    }
}

impl CapacityArgs {
    /// How much room there is to be on this machine.
    #[must_use]
    pub fn capacity(&self) -> Capacity {
        let info = rustix::system::sysinfo();
        let processors = processors().unwrap_or(1);
        self.on(info.totalram * u64::from(info.mem_unit), processors)
    }

    /// The same on a machine with this much memory, in bytes, and with so many processors.
    fn on(&self, memory: u64, processors: usize) -> Capacity {
        let defaults = Defaults::of(memory);
        let services = self.max_services.unwrap_or(defaults.services);
        let endpoints = self.max_endpoints.unwrap_or(defaults.endpoints);
        Capacity::new(
            FlowCapacity::of_flows(self.max_flows.unwrap_or(defaults.flows)),
            services,
            endpoints,
            self.max_frontends.unwrap_or(endpoints.max(4 * services)),
            self.max_affinity.unwrap_or(defaults.affinities),
        )
        .counting(self.max_counted.unwrap_or_else(|| counted_by(processors).min(services)))
    }
}

#[cfg(test)]
mod tests {
    use proxy_common::frontend::ServiceIndex;

    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn defaults_grow_with_the_memory() {
        let table = [
            (1, 1 << 16, 1 << 15, 1 << 18, 1 << 14),
            (4, 1 << 17, 1 << 16, 1 << 19, 1 << 16),
            (16, 1 << 19, 1 << 17, 1 << 20, 1 << 17),
            (64, 1 << 20, 1 << 17, 1 << 20, 1 << 17),
            (256, 1 << 20, 1 << 17, 1 << 20, 1 << 17),
        ];
        for (gib, flows, services, endpoints, affinities) in table {
            let expected = Defaults { flows, services, endpoints, affinities };
            assert_eq!(Defaults::of(gib * GIB), expected, "{gib} GiB");
            // The firmware keeps some of it.
            assert_eq!(Defaults::of(gib * GIB * 95 / 100), expected, "nearly {gib} GiB");
        }
    }

    #[test]
    fn counters_take_so_much_memory_at_most() {
        let table =
            [(1, 1 << 14), (2, 1 << 14), (32, 1 << 14), (64, 1 << 13), (96, 5461), (512, 1 << 10)];
        for (processors, counted) in table {
            assert_eq!(counted_by(processors), counted, "{processors}");
        }
    }

    #[test]
    fn what_is_asked_for_is_what_there_is() {
        let asked = CapacityArgs {
            max_flows: Some(3000),
            max_services: Some(100),
            max_endpoints: Some(50),
            max_frontends: None,
            max_affinity: Some(20),
            max_counted: None,
        };
        let capacity = asked.on(GIB, 2);
        assert_eq!(capacity.flows, FlowCapacity::of_flows(3000));
        assert_eq!((capacity.frontends, capacity.affinities), (400, 20));
        assert_eq!(capacity.counted, capacity.services);
        let none = CapacityArgs { max_counted: Some(0), ..asked }.on(GIB, 2);
        assert_eq!(none.counted, ServiceIndex::FIRST.0);
        assert!(capacity.services > 100 && capacity.backends > 50 && capacity.slots == 100);
    }
}
