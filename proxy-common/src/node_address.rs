// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The addresses of the own Node object. Programs ask nobody for them: an agent leaves them to the next one, which has to
//! tell the node's devices from each other before it has read the Node.

use crate::pod;

/// The most addresses of one family.
pub const MAX_NODE_ADDRESSES: u32 = 1 << 8;

/// What an address is.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeAddress(pub u32);

impl NodeAddress {
    /// One of the own Node's.
    pub const YES: Self = Self(1);
}

pod!(NodeAddress);
