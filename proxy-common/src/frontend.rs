// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Frontends: what clients dial, each pointing at the Service port behind it.
//!
//! An entry is written once and never changed in place: a value of a BPF hash that is updated or
//! recycled can be read torn, or be another key's. What changes lives in
//! [`Service`](crate::service::Service), in words that are read and written whole; and a new flow
//! looks its frontend up again after it has read the Service, and compares.

use crate::{Family, Port, Protocol, pod};

/// The most frontends of one family, with the entries of whole VIPs and of endpoints.
pub const MAX_FRONTENDS: u32 = 1 << 20;

/// What a client dials: an address, a port and a protocol.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FrontendKey<F: Family> {
    /// The VIP.
    pub address: F::Addr,
    /// The Service port, or [`Port::ANY`].
    pub port: Port,
    /// The protocol, or [`Protocol::ANY`].
    pub protocol: Protocol,
    /// Always zero.
    reserved: u8,
}

impl<F: Family> FrontendKey<F> {
    /// One port of a VIP.
    #[inline(always)]
    pub const fn new(address: F::Addr, port: Port, protocol: Protocol) -> Self {
        Self { address, port, protocol, reserved: 0 }
    }

    /// The whole VIP: what answers for the ports that no Service port has taken.
    #[inline(always)]
    pub const fn whole(address: F::Addr) -> Self {
        Self::new(address, Port::ANY, Protocol::ANY)
    }
}

/// What a frontend points at: a row of the services table, or one of the two marks below.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceIndex(pub u32);

impl ServiceIndex {
    /// The mark of a whole VIP: new connections to it are refused (kube-proxy's nftables mode
    /// rejects what is addressed to a cluster IP and belongs to no port).
    pub const REFUSE: Self = Self(0);
    /// The mark of an endpoint's own address and port. Direct connections to it are tracked,
    /// untranslated, so that a translated flow with the same addresses and ports takes another
    /// source port instead of their replies.
    pub const DIRECT: Self = Self(1);
    /// The first index that a Service port can have.
    pub const FIRST: Self = Self(2);
}

pod!(ServiceIndex);
pod!(generic FrontendKey);

const _: () = assert!(size_of::<FrontendKey<crate::V4>>() == 8);
const _: () = assert!(size_of::<FrontendKey<crate::V6>>() == 20);
