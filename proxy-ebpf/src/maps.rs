// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! All maps. Each table that holds addresses exists once per family, under one name.

use core::cell::UnsafeCell;

use aya_ebpf::{
    Global,
    bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC},
    btf_maps::SkStorage,
    macros::{btf_map, map},
    maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, RingBuf},
};
use proxy_common::{
    Family, V4, V6,
    affinity::{Affinity, AffinityKey, MAX_AFFINITIES},
    backend::{Backend, BackendId, MAX_BACKENDS},
    counter,
    device::{Device, MAX_DEVICES, MAX_WIRES, Wire},
    event::{BUFFER, Listeners},
    flow::{self, Flow, FlowKey, MAX_FLOWS, Waiting},
    foreign_nat::ForeignNat,
    fragment::{FragmentKey, Fragmented, MAX_FRAGMENTED},
    frontend::{Frontend, FrontendKey, MAX_FRONTENDS, ServiceIndex},
    frontend_filter::{FILTER_ROWS, FilterRow},
    layout,
    locality::Locality,
    name::ServiceName,
    node_address::{MAX_NODE_ADDRESSES, NodeAddress},
    passing::{Epoch, PASSING_ROWS, Passing},
    reject::Budget,
    route_mtu::{MAX_ROUTE_MTUS, RouteMtu},
    service::{MAX_SERVICES, MAX_SLOTS, Service},
    service_cidr::{Guarded, MAX_OUTSIDERS, MAX_SERVICE_CIDRS, Outsider},
    shortfall::{MAX_SHORTFALLS, Shortfall},
    socket::{LeftOut, MAX_LEFT_OUT, Sent, Translation},
    source_range::{Admitted, MAX_SOURCE_RANGES, Ranged},
    traffic::{MAX_COUNTED, Traffic},
    ways::{HOP_ROWS, Hop, WaysEpoch},
};

use crate::{atomic, family::Datapath, work::Work};

/// The tables of one family.
pub(crate) struct Tables<F: Datapath> {
    pub(crate) frontends: &'static HashMap<FrontendKey<F>, Frontend>,
    pub(crate) filter: &'static Array<FilterRow>,
    pub(crate) services: &'static Array<Service>,
    pub(crate) slots: &'static Array<BackendId>,
    pub(crate) backends: &'static Array<Backend<F>>,
    pub(crate) flows: &'static HashMap<FlowKey<F>, Flow<F>>,
    pub(crate) waiting: &'static Array<Waiting<F>>,
    pub(crate) host_addresses: &'static HashMap<u32, <F as Family>::Addr>,
    pub(crate) fragments: &'static LruHashMap<FragmentKey<F>, Fragmented>,
    pub(crate) service_cidrs: &'static LpmTrie<<F as Family>::Addr, Guarded>,
    pub(crate) source_ranges: &'static LpmTrie<Ranged<F>, Admitted>,
    pub(crate) route_mtus: &'static LpmTrie<<F as Family>::Addr, RouteMtu>,
    pub(crate) affinities: &'static LruHashMap<AffinityKey<F>, Affinity>,
    pub(crate) locality: &'static Array<Locality<F>>,
    pub(crate) passing: &'static Array<Passing>,
    pub(crate) epoch: &'static Array<Epoch>,
    pub(crate) foreign_nat: &'static Array<ForeignNat>,
    pub(crate) outsiders: &'static LruHashMap<<F as Family>::Addr, Outsider>,
    pub(crate) traffic: &'static PerCpuArray<Traffic>,
    pub(crate) work: &'static PerCpuArray<Work<F>>,
}

/// Declares the tables of one family, and the way to them.
macro_rules! tables {
    ($family:ty, $accessor:ident: $frontends:ident, $filter:ident, $services:ident, $names:ident, $shortfalls:ident,
     $slots:ident, $backends:ident, $flows:ident, $waiting:ident, $host_addresses:ident, $node_addresses:ident,
     $fragments:ident, $service_cidrs:ident, $outsiders:ident, $source_ranges:ident, $route_mtus:ident,
     $affinities:ident, $locality:ident, $passing:ident, $epoch:ident, $foreign_nat:ident, $traffic:ident,
     $work:ident) => {
        #[map]
        static $frontends: HashMap<FrontendKey<$family>, Frontend> =
            HashMap::pinned(MAX_FRONTENDS, BPF_F_NO_PREALLOC);
        #[map]
        static $filter: Array<FilterRow> = Array::pinned(FILTER_ROWS, BPF_F_MMAPABLE);
        #[map]
        static $services: Array<Service> = Array::pinned(MAX_SERVICES, BPF_F_MMAPABLE);
        // Read by people only; here so that it is created and pinned with the others.
        #[map]
        static $names: HashMap<ServiceIndex, ServiceName> =
            HashMap::pinned(MAX_SERVICES, BPF_F_NO_PREALLOC);
        // So is this, with a row for what has none.
        #[map]
        static $shortfalls: HashMap<u32, Shortfall> =
            HashMap::pinned(MAX_SHORTFALLS + 1, BPF_F_NO_PREALLOC);
        #[map]
        static $slots: Array<BackendId> = Array::pinned(MAX_SLOTS, BPF_F_MMAPABLE);
        #[map]
        static $backends: Array<Backend<$family>> = Array::pinned(MAX_BACKENDS, BPF_F_MMAPABLE);
        #[map]
        static $flows: HashMap<FlowKey<$family>, Flow<$family>> =
            HashMap::pinned(MAX_FLOWS, BPF_F_NO_PREALLOC);
        #[map]
        static $waiting: Array<Waiting<$family>> =
            Array::pinned(flow::all_places(flow::PLACES, flow::ENDLESS_PLACES), 0);
        #[map]
        static $host_addresses: HashMap<u32, <$family as Family>::Addr> =
            HashMap::pinned(MAX_DEVICES, BPF_F_NO_PREALLOC);
        // Read by agents only.
        #[map]
        static $node_addresses: HashMap<<$family as Family>::Addr, NodeAddress> =
            HashMap::pinned(MAX_NODE_ADDRESSES, BPF_F_NO_PREALLOC);
        #[map]
        static $fragments: LruHashMap<FragmentKey<$family>, Fragmented> =
            LruHashMap::pinned(MAX_FRAGMENTED, 0);
        #[map]
        static $service_cidrs: LpmTrie<<$family as Family>::Addr, Guarded> =
            LpmTrie::pinned(MAX_SERVICE_CIDRS, 0);
        #[map]
        static $outsiders: LruHashMap<<$family as Family>::Addr, Outsider> =
            LruHashMap::pinned(MAX_OUTSIDERS, 0);
        #[map]
        static $source_ranges: LpmTrie<Ranged<$family>, Admitted> =
            LpmTrie::pinned(MAX_SOURCE_RANGES, 0);
        #[map]
        static $route_mtus: LpmTrie<<$family as Family>::Addr, RouteMtu> =
            LpmTrie::pinned(MAX_ROUTE_MTUS, 0);
        #[map]
        static $affinities: LruHashMap<AffinityKey<$family>, Affinity> =
            LruHashMap::pinned(MAX_AFFINITIES, 0);
        #[map]
        static $locality: Array<Locality<$family>> = Array::pinned(1, BPF_F_MMAPABLE);
        #[map]
        static $passing: Array<Passing> = Array::with_max_entries(PASSING_ROWS, 0);
        #[map]
        static $epoch: Array<Epoch> = Array::pinned(1, BPF_F_MMAPABLE);
        #[map]
        static $foreign_nat: Array<ForeignNat> = Array::pinned(1, BPF_F_MMAPABLE);
        #[map]
        static $traffic: PerCpuArray<Traffic> = PerCpuArray::pinned(MAX_COUNTED, 0);
        #[map]
        static $work: PerCpuArray<Work<$family>> = PerCpuArray::with_max_entries(1, 0);

        #[inline(always)]
        pub(crate) fn $accessor() -> Tables<$family> {
            Tables {
                frontends: &$frontends,
                filter: &$filter,
                services: &$services,
                slots: &$slots,
                backends: &$backends,
                flows: &$flows,
                waiting: &$waiting,
                host_addresses: &$host_addresses,
                fragments: &$fragments,
                service_cidrs: &$service_cidrs,
                outsiders: &$outsiders,
                source_ranges: &$source_ranges,
                route_mtus: &$route_mtus,
                affinities: &$affinities,
                locality: &$locality,
                passing: &$passing,
                epoch: &$epoch,
                foreign_nat: &$foreign_nat,
                traffic: &$traffic,
                work: &$work,
            }
        }
    };
}

tables!(V4, v4: FRONTENDS_V4, FILTER_V4, SERVICES_V4, NAMES_V4, SHORTFALLS_V4, SLOTS_V4, BACKENDS_V4,
    FLOWS_V4, WAITING_V4, HOST_ADDRS_V4, NODE_ADDRS_V4, FRAGMENTS_V4, CIDRS_V4, OUTSIDERS_V4,
    RANGES_V4, MTUS_V4, AFFINITY_V4, LOCALITY_V4, PASSING_V4, EPOCH_V4, FOREIGN_NAT_V4, TRAFFIC_V4,
    WORK_V4);
tables!(V6, v6: FRONTENDS_V6, FILTER_V6, SERVICES_V6, NAMES_V6, SHORTFALLS_V6, SLOTS_V6, BACKENDS_V6,
    FLOWS_V6, WAITING_V6, HOST_ADDRS_V6, NODE_ADDRS_V6, FRAGMENTS_V6, CIDRS_V6, OUTSIDERS_V6,
    RANGES_V6, MTUS_V6, AFFINITY_V6, LOCALITY_V6, PASSING_V6, EPOCH_V6, FOREIGN_NAT_V6, TRAFFIC_V6,
    WORK_V6);

/// Devices with programs, by interface index.
#[map]
pub(crate) static DEVICES: HashMap<u32, Device> = HashMap::pinned(MAX_DEVICES, BPF_F_NO_PREALLOC);

/// Devices of the stack whose frames come by a driver under another index, or with a VLAN's tag: their interface
/// indexes, by wire.
#[map]
pub(crate) static WIRES: HashMap<Wire, u32> = HashMap::pinned(MAX_WIRES, BPF_F_NO_PREALLOC);

/// How often the node's ways have changed.
#[map]
pub(crate) static WAYS: Array<WaysEpoch> = Array::pinned(1, BPF_F_MMAPABLE);

/// Next hops that the host's stack has used, or that the agent vouches for, by [`Hop::row`].
#[map]
pub(crate) static HOPS: Array<Hop> = Array::pinned(HOP_ROWS, BPF_F_MMAPABLE);

/// Counters of both families, by [`counter::Reason::row`].
#[map]
pub(crate) static COUNTERS: PerCpuArray<u64> = PerCpuArray::pinned(counter::ROWS, 0);

/// Who listens to what happens.
#[map]
pub(crate) static LISTENERS: Array<Listeners> = Array::pinned(1, BPF_F_MMAPABLE);

/// What happens, for each listener.
#[map]
pub(crate) static EVENTS_0: RingBuf = RingBuf::pinned(BUFFER, 0);
#[map]
pub(crate) static EVENTS_1: RingBuf = RingBuf::pinned(BUFFER, 0);
#[map]
pub(crate) static EVENTS_2: RingBuf = RingBuf::pinned(BUFFER, 0);
#[map]
pub(crate) static EVENTS_3: RingBuf = RingBuf::pinned(BUFFER, 0);

/// Each processor's budget of refusals.
#[map]
pub(crate) static BUDGETS: PerCpuArray<Budget> = PerCpuArray::with_max_entries(1, 0);

/// What a connected socket was given for what its process named. The agent pins it, and the next: their definition
/// cannot say so.
#[btf_map]
pub(crate) static CONNECTED: SkStorage<Translation> = SkStorage::new();

/// The same, of a socket that sends single datagrams.
#[btf_map]
pub(crate) static SENT: SkStorage<Sent> = SkStorage::new();

/// Network namespaces, by cookie, whose processes are not served at their sockets.
#[map]
pub(crate) static LEFT_OUT: LruHashMap<u64, LeftOut> = LruHashMap::pinned(MAX_LEFT_OUT, 0);

/// Where the fields of keys and values lie, for agents of other versions: see [`layout`].
#[map]
pub(crate) static LAYOUTS: Array<[u8; layout::DESCRIPTION]> = Array::pinned(1, 0);

/// When the clock was last read: the kernel's ticks (upper half), and what it said (lower half).
#[unsafe(no_mangle)]
pub(crate) static CLOCK: Word = Word(UnsafeCell::new(0));

/// The numbers of the next places in each family's queues, and in all of them where there is no room for a flow.
#[unsafe(no_mangle)]
pub(crate) static NEXT_PLACES: Apart<[Word; 8]> =
    Apart { _before: [0; 8], value: [const { Word(UnsafeCell::new(0)) }; 8], _after: [0; 8] };

/// What many processors write, a line of the cache away from what all packets read.
#[repr(C)]
pub(crate) struct Apart<T> {
    _before: [u64; 8],
    pub(crate) value: T,
    _after: [u64; 8],
}

/// A word that all processors read and write. Atomic loads are nothing that the target knows.
#[repr(transparent)]
pub(crate) struct Word(UnsafeCell<u64>);

// SAFETY: it is read and written whole.
unsafe impl Sync for Word {}

impl Word {
    #[inline(always)]
    pub(crate) fn load(&self) -> u64 {
        // SAFETY: its own memory, which is aligned.
        unsafe { self.0.get().read_volatile() }
    }

    #[inline(always)]
    pub(crate) fn store(&self, value: u64) {
        // SAFETY: as above.
        unsafe { self.0.get().write_volatile(value) };
    }

    /// Adds to it, and says what it was before.
    #[inline(always)]
    pub(crate) fn add(&self, value: u64) -> u64 {
        // SAFETY: as above.
        unsafe { atomic::add(self.0.get(), value) }
    }
}

/// How many places there are for half-open flows, and for closed ones, a power of two; set by the agent.
#[unsafe(no_mangle)]
pub(crate) static PLACES: Global<u32> = Global::new(flow::PLACES);

/// How many there are for flows without an end, a power of two; set by the agent.
#[unsafe(no_mangle)]
pub(crate) static ENDLESS_PLACES: Global<u32> = Global::new(flow::ENDLESS_PLACES);

/// The cookie of the host's network namespace; set by the agent.
#[unsafe(no_mangle)]
pub(crate) static HOST_NETNS: Global<u64> = Global::new(0);

/// Whether sockets of other network namespaces are served, too (not zero); set by the agent.
#[unsafe(no_mangle)]
pub(crate) static ALL_NETNS: Global<u32> = Global::new(0);

/// The families whose node ports processes of the host find at loopback addresses, too, as bits of
/// [`Family::INDEX`]; set by the agent.
#[unsafe(no_mangle)]
pub(crate) static LOOPBACK_NODE_PORTS: Global<u32> = Global::new(0);

/// Whether flows may go past the host's stack (not zero); set by the agent.
#[unsafe(no_mangle)]
pub(crate) static FAST_PATH: Global<u32> = Global::new(0);

/// The ports that translated sources take, first (upper half) and last (lower half), as numbers;
/// set by the agent.
#[unsafe(no_mangle)]
pub(crate) static SOURCE_PORTS: Global<u32> = Global::new(61_000 << 16 | 65_535);
