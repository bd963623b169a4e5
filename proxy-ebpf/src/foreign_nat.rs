// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Connections to frontends that another proxy has begun: the NAT of connection tracking goes on translating them
//! ([ADR 25](../../docs/adr/0025-foreign-nat.md)). Asked only where a packet would be refused or dropped for want of
//! a flow.

use proxy_common::{counter::Reason, foreign_nat::ForeignNat};

use crate::{counter::count, family::Datapath};

/// What is said.
#[inline(always)]
fn said<F: Datapath>() -> ForeignNat {
    let said = F::tables().foreign_nat.get_ptr(0);
    // SAFETY: a row of an array is never freed; its word is read whole.
    said.map_or(ForeignNat::NONE, |said| unsafe { said.read_volatile() })
}

/// Whether a packet to an endpoint that belongs to no flow may be of one that another version of this proxy knows.
#[inline(always)]
pub(crate) fn may_have_translated<F: Datapath>() -> bool {
    said::<F>() == ForeignNat::FORMER
}

/// Whether a packet to a frontend that is amid something, and belongs to no flow, is left to another proxy's NAT. If
/// so, that has been counted.
#[inline(always)]
pub(crate) fn may_own<F: Datapath>() -> bool {
    let is_left = said::<F>() != ForeignNat::NONE;
    if is_left {
        count::<F>(Reason::PassForeignNat);
    }
    is_left
}
