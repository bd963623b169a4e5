// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Choosing: from what a client names to a backend. The same for packets and for sockets.

use core::ptr;

use aya_ebpf::{helpers::bpf_get_prandom_u32, maps::lpm_trie::Key};
use proxy_common::{
    Address as _, Family, Port, Protocol,
    backend::{Backend, BackendId, Standing},
    device::DeviceTraits,
    frontend::{Frontend, FrontendKey, FrontendKind, ServiceIndex},
    frontend_filter::FilterBit,
    service::{BackendSet, Policy, Service},
    source_range::Ranged,
};

use crate::{family::Datapath, maps::DEVICES};

/// The entry of a destination: of its port, or of the whole address. At the node's own addresses
/// node ports are served beside these.
#[inline(always)]
pub(crate) fn look_up<F: Datapath>(
    address: <F as Family>::Addr,
    port: Port,
    protocol: Protocol,
) -> Option<Frontend> {
    // Node ports are kept there, and are nobody's to dial by it.
    if address == <F as Family>::Addr::UNSPECIFIED || !may_be_frontend::<F>(&address) {
        return None;
    }
    let frontends = F::tables().frontends;
    let own = FrontendKey::new(address, port, protocol);
    // SAFETY: an entry is written once; the caller compares after what it has read since.
    let found =
        unsafe { frontends.get(own).or_else(|| frontends.get(FrontendKey::whole(address))) };
    match found.copied() {
        Some(mark) if mark.service() == ServiceIndex::NODE => node_port::<F>(port, protocol),
        found => found,
    }
}

/// Whether an address may be a frontend's: what is for none is spared two look-ups, each of which would have
/// to wait for memory.
#[inline(always)]
pub(crate) fn may_be_frontend<F: Datapath>(address: &<F as Family>::Addr) -> bool {
    let bit = FilterBit::of(address);
    F::tables().filter.get_ptr(bit.row()).is_some_and(|row| {
        // SAFETY: a row of an array is never freed; its word is read whole.
        unsafe { row.read_volatile() }.has(bit)
    })
}

/// The entry of a node port.
#[inline(always)]
pub(crate) fn node_port<F: Datapath>(port: Port, protocol: Protocol) -> Option<Frontend> {
    // SAFETY: as above.
    unsafe { F::tables().frontends.get(FrontendKey::node_port(port, protocol)) }.copied()
}

/// The row of a Service port.
#[inline(always)]
pub(crate) fn service<F: Datapath>(service: ServiceIndex) -> Option<*const Service> {
    F::tables().services.get_ptr(service.0)
}

/// What becomes of new flows to a Service port.
#[inline(always)]
pub(crate) fn policy(row: *const Service) -> Policy {
    // SAFETY: a row of an array is never freed; its words are read whole.
    Policy::from_word(unsafe { ptr::read_volatile((&raw const (*row).policy).cast()) })
}

/// The backends that a client chooses from at a frontend of this kind, and how they stand.
#[inline(always)]
pub(crate) fn backend_set(
    row: *const Service,
    policy: Policy,
    kind: FrontendKind,
    is_local: bool,
) -> (BackendSet, Standing) {
    let is_narrowed = match kind {
        FrontendKind::ClusterIp => policy.has(Policy::INTERNAL_LOCAL),
        // kube-proxy takes its own node's clients round the policy ("short-circuit").
        _ => policy.has(Policy::EXTERNAL_LOCAL) && !is_local,
    };
    // SAFETY: as above.
    let set = unsafe {
        let set = if is_narrowed { &raw const (*row).local } else { &raw const (*row).cluster };
        ptr::read_volatile(set.cast())
    };
    let standing = if is_narrowed { Standing::IN_LOCAL } else { Standing::IN_CLUSTER };
    (BackendSet::from_word(set), standing)
}

/// Whether a client of packets is in one of a Service port's source ranges.
#[inline(always)]
pub(crate) fn is_admitted<F: Datapath>(
    service: ServiceIndex,
    client: &<F as Family>::Addr,
) -> bool {
    let bits = Ranged::<F>::bits(8 * size_of::<<F as Family>::Addr>() as u32);
    F::tables().source_ranges.get(Key::new(bits, Ranged { service, client: *client })).is_some()
}

/// Whether a client of packets that come by a device counts as one of the node's own pods.
#[inline(always)]
pub(crate) fn is_local<F: Datapath>(device: u32, client: &<F as Family>::Addr) -> bool {
    is_local_by::<F>(client, || {
        // SAFETY: a device's entry is replaced, not changed, and rarely.
        let device = unsafe { DEVICES.get(device) };
        device.is_some_and(|device| device.traits.has(DeviceTraits::LOCAL_CLIENTS))
    })
}

/// The same, where `device` says it of clients whose address does not tell.
#[inline(always)]
pub(crate) fn is_local_by<F: Datapath>(
    client: &<F as Family>::Addr,
    device: impl FnOnce() -> bool,
) -> bool {
    let by_address = F::tables().locality.get(0).and_then(|locality| locality.of_address(client));
    by_address.unwrap_or_else(device)
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
    share(unsafe { bpf_get_prandom_u32() }, bound)
}

/// The number below `bound` that a random one stands for.
#[inline(always)]
pub(crate) fn share(random: u32, bound: u32) -> u32 {
    ((u64::from(random) * u64::from(bound)) >> 32) as u32
}
