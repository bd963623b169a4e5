// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The ABI that Sixfour's agent and its BPF programs share: the keys and values of every map.
//!
//! The contract:
//! - **Byte order.** [`Address`] and [`Port`] hold network order, always, and only their
//!   constructors and getters convert. Every other integer is in the machine's order.
//! - **Layout.** Everything is `repr(C)` without implicit padding (a verifier rejects keys with
//!   uninitialised bytes, and a hash compares them); sizes are asserted at compile time for both
//!   families. No data-carrying enums: BTF has none.
//! - **Family.** What holds an address is generic over [`Family`]; nothing here is written twice.
//! - **Version.** A change of any layout or meaning in this crate raises [`ABI_VERSION`], which
//!   is part of the path under which the maps are pinned.
#![no_std]

pub mod affinity;
pub mod backend;
pub mod clock;
pub mod counter;
pub mod device;
pub mod event;
pub mod family;
pub mod flow;
pub mod foreign_nat;
pub mod fragment;
pub mod frontend;
pub mod frontend_filter;
pub mod gauge;
pub mod layout;
pub mod locality;
pub mod map_names;
pub mod name;
pub mod node_address;
pub mod passing;
pub mod port;
pub mod protocol;
pub mod reject;
pub mod route_mtu;
pub mod service;
pub mod service_cidr;
pub mod shortfall;
pub mod socket;
pub mod source_range;
pub mod traffic;
pub mod ways;

pub use family::{Address, Family, V4, V6};
pub use port::Port;
pub use protocol::Protocol;

/// The version of the layouts and meanings in this crate.
pub const ABI_VERSION: u32 = if cfg!(feature = "other-abi") { 1_011 } else { 11 };

/// Implements `aya::Pod` for a type of this ABI (the agent copies it to and from map memory).
///
/// The types given hold no padding and no pointers, and every bit pattern of them is valid.
macro_rules! pod {
    ($($type:ty),+ $(,)?) => { $(
        #[cfg(feature = "user")]
        // SAFETY: `repr(C)` integers only, without padding: any bytes are a valid value.
        unsafe impl aya::Pod for $type {}
    )+ };
    (generic $($type:ident),+ $(,)?) => { $(
        #[cfg(feature = "user")]
        // SAFETY: `repr(C)` integers only, without padding: any bytes are a valid value.
        unsafe impl<F: $crate::Family> aya::Pod for $type<F> {}
    )+ };
}
pub(crate) use pod;
