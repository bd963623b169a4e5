// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Choosing: from what a client names to a backend. The same for packets and for sockets.

use core::ptr;

use aya_ebpf::helpers::bpf_get_prandom_u32;
use proxy_common::{
    Family, Port, Protocol,
    backend::{Backend, BackendId},
    frontend::{FrontendKey, ServiceIndex},
    service::{BackendSet, Policy, Service},
};

use crate::family::Datapath;

/// The entry of a destination: of its port, or of the whole address.
#[inline(always)]
pub(crate) fn look_up<F: Datapath>(
    address: <F as Family>::Addr,
    port: Port,
    protocol: Protocol,
) -> Option<ServiceIndex> {
    let frontends = F::tables().frontends;
    let port = FrontendKey::new(address, port, protocol);
    // SAFETY: an entry is written once; the caller compares after what it has read since.
    unsafe { frontends.get(port).or_else(|| frontends.get(FrontendKey::whole(address))) }.copied()
}

/// The set of backends that serves the ClusterIP of a Service.
#[inline(always)]
pub(crate) fn backend_set(row: *const Service) -> BackendSet {
    // SAFETY: a row of an array is never freed; its words are read whole.
    unsafe {
        let policy = Policy::from_word(ptr::read_volatile((&raw const (*row).policy).cast()));
        let set = if policy.has(Policy::INTERNAL_LOCAL) {
            &raw const (*row).local
        } else {
            &raw const (*row).cluster
        };
        BackendSet::from_word(ptr::read_volatile(set.cast()))
    }
}

/// The backend at a place of a set.
#[inline(always)]
pub(crate) fn backend<F: Datapath>(
    set: BackendSet,
    place: u32,
) -> Option<(BackendId, &'static Backend<F>)> {
    let tables = F::tables();
    let id = *tables.slots.get(set.start() + place)?;
    Some((id, tables.backends.get(id.0)?))
}

/// A random number below `bound`, with a bias of less than one in 2^32 / `bound`.
#[inline(always)]
pub(crate) fn random(bound: u32) -> u32 {
    // SAFETY: the helper takes nothing.
    let random = unsafe { bpf_get_prandom_u32() };
    ((u64::from(random) * u64::from(bound)) >> 32) as u32
}
