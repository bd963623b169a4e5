// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Whether another proxy's NAT may own connections to frontends, as on a node where kube-proxy ran before: the
//! kernel's connection tracking goes on translating these, so that their packets must come to it as they are.

use crate::pod;

/// What is said of one family; one row, read and written whole.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ForeignNat(pub u64);

impl ForeignNat {
    /// Nobody else translates: a packet amid a connection to a frontend that is not known is of none.
    pub const NONE: Self = Self(0);
    /// Somebody else may: such a packet goes on untouched.
    pub const POSSIBLE: Self = Self(1);
    /// The programs of another version of this proxy do, which come first: the same, and a packet to an endpoint may be
    /// one that they have translated.
    pub const FORMER: Self = Self(2);
}

pod!(ForeignNat);

const _: () = assert!(size_of::<ForeignNat>() == 8);
