// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The tables of the gauge. Those of the floors are of the kinds and sizes of the proxy's.

use aya_ebpf::{
    bindings::BPF_F_NO_PREALLOC,
    macros::map,
    maps::{Array, HashMap, PerCpuArray, ProgramArray},
};
use proxy_common::{
    V4, V6,
    backend::{Backend, BackendId},
    device::{Device, MAX_DEVICES},
    flow::{Flow, FlowKey, Waiting},
    frontend::{Frontend, FrontendKey},
    gauge::Recipe,
    service::Service,
};

use crate::frame::Layout;

/// The program under test.
#[map]
pub(crate) static PROGRAM: ProgramArray = ProgramArray::with_max_entries(1, 0);

/// The same, in drivers.
#[map]
pub(crate) static DRIVERS_PROGRAM: ProgramArray = ProgramArray::with_max_entries(1, 0);

/// What floors count.
#[map]
pub(crate) static COUNTS: PerCpuArray<u64> = PerCpuArray::with_max_entries(2, 0);

/// The frames of the run.
#[map]
pub(crate) static RECIPE: Array<Recipe> = Array::with_max_entries(1, 0);

/// Devices.
#[map]
pub(crate) static DEVICES: HashMap<u32, Device> =
    HashMap::with_max_entries(MAX_DEVICES, BPF_F_NO_PREALLOC);

/// The tables of a family.
pub(crate) struct Tables<F: Layout> {
    pub(crate) frontends: &'static HashMap<FrontendKey<F>, Frontend>,
    pub(crate) services: &'static Array<Service>,
    pub(crate) slots: &'static Array<BackendId>,
    pub(crate) backends: &'static Array<Backend<F>>,
    pub(crate) flows: &'static HashMap<FlowKey<F>, Flow<F>>,
    pub(crate) waiting: &'static Array<Waiting<F>>,
}

/// A family that has tables.
pub(crate) trait Tabled: Layout {
    fn tables() -> Tables<Self>;
}

macro_rules! tables {
    ($($family:ty: $frontends:ident, $services:ident, $slots:ident, $backends:ident, $flows:ident,
       $waiting:ident;)+) => { $(
        // The sizes are set when the object is loaded.
        #[map]
        static $frontends: HashMap<FrontendKey<$family>, Frontend> =
            HashMap::with_max_entries(1, BPF_F_NO_PREALLOC);
        #[map]
        static $services: Array<Service> = Array::with_max_entries(1, 0);
        #[map]
        static $slots: Array<BackendId> = Array::with_max_entries(1, 0);
        #[map]
        static $backends: Array<Backend<$family>> = Array::with_max_entries(1, 0);
        #[map]
        static $flows: HashMap<FlowKey<$family>, Flow<$family>> =
            HashMap::with_max_entries(1, BPF_F_NO_PREALLOC);
        #[map]
        static $waiting: Array<Waiting<$family>> = Array::with_max_entries(1, 0);

        impl Tabled for $family {
            #[inline(always)]
            fn tables() -> Tables<Self> {
                Tables {
                    frontends: &$frontends,
                    services: &$services,
                    slots: &$slots,
                    backends: &$backends,
                    flows: &$flows,
                    waiting: &$waiting,
                }
            }
        }
    )+ };
}

tables! {
    V4: FRONTENDS_V4, SERVICES_V4, SLOTS_V4, BACKENDS_V4, FLOWS_V4, WAITING_V4;
    V6: FRONTENDS_V6, SERVICES_V6, SLOTS_V6, BACKENDS_V6, FLOWS_V6, WAITING_V6;
}
