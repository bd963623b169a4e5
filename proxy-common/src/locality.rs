// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which clients count as the node's own pods: they are served from all nodes whatever
//! `externalTrafficPolicy` says, and keep their address at cluster IPs (kube-proxy's
//! `detectLocalMode`).

use crate::{Address as _, Family, pod};

/// How clients of one family are told apart; one row.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Locality<F: Family> {
    /// Bits of the address that count; all zero if devices tell
    /// ([`LOCAL_CLIENTS`](crate::device::DeviceTraits::LOCAL_CLIENTS)).
    pub mask: F::Addr,
    /// What these are of a client that is local.
    pub prefix: F::Addr,
    /// Whether local clients, too, get the node's address at cluster IPs where their packets leave
    /// the node (not zero; kube-proxy's `--masquerade-all`).
    pub masquerades_all: u32,
}

impl<F: Family> Locality<F> {
    /// Devices tell.
    #[must_use]
    pub fn of_devices() -> Self {
        Self { mask: F::Addr::UNSPECIFIED, prefix: F::Addr::UNSPECIFIED, masquerades_all: 0 }
    }

    /// Whether the address tells, and if it does, whether this client is local.
    #[must_use]
    #[inline(always)]
    pub fn of_address(&self, client: &F::Addr) -> Option<bool> {
        let tells = self.mask.words()[0] != 0;
        tells.then(|| client.is_in(&self.prefix, &self.mask))
    }
}

pod!(generic Locality);

const _: () = assert!(size_of::<Locality<crate::V4>>() == 12);
const _: () = assert!(size_of::<Locality<crate::V6>>() == 36);
