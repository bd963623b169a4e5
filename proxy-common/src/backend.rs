// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Backends: the endpoints that slots point at.

use crate::{Family, Port, pod};

/// The most backends in one family.
pub const MAX_BACKENDS: u32 = 1 << 20;

/// A row of the backends table. It means one endpoint of one Service port for as long as anything
/// may refer to it.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackendId(pub u32);

impl BackendId {
    /// No backend: the flow is a direct connection.
    pub const NONE: Self = Self(0);
    /// The first id that a backend can have.
    pub const FIRST: Self = Self(1);
}

/// One endpoint of one Service port.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backend<F: Family> {
    /// The endpoint's address.
    pub address: F::Addr,
    /// The endpoint's port.
    pub port: Port,
    /// Always zero.
    reserved: u16,
    /// Raised when the endpoint stops serving and when the row gets another endpoint: whoever
    /// remembers another generation refers to a backend that is gone.
    pub generation: u32,
}

impl<F: Family> Backend<F> {
    /// A backend.
    #[inline(always)]
    pub const fn new(address: F::Addr, port: Port, generation: u32) -> Self {
        Self { address, port, reserved: 0, generation }
    }
}

pod!(BackendId);
pod!(generic Backend);

const _: () = assert!(size_of::<Backend<crate::V4>>() == 12);
const _: () = assert!(size_of::<Backend<crate::V6>>() == 24);
