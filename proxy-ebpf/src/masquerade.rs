// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Masquerading: a client's packets leave the node with the node's address, or the answers of a
//! backend elsewhere would not come back through here.
//!
//! Which device they leave by, and so which address they get, is for the node's routes to say. So
//! this happens at the egress of that device, to packets that have been translated before at their
//! client's device. Nothing marks them; they are found by their flow: the replies' entry of a
//! client from outside has the packet's tuple, reversed.

use aya_ebpf::programs::TcContext;
use proxy_common::{
    Family,
    counter::Reason,
    device::DeviceTraits,
    flow::{FlowKey, Hook, Kind},
    frontend::FrontendKind,
    service::Policy,
};

use crate::{
    blame::blame,
    choice,
    claim::{Entered, enter_at_place},
    counter::count,
    family::Datapath,
    flow::{Found, find, forget},
    frame,
    hairpin::Back,
    maps::DEVICES,
    reject,
    rewrite::failure,
    verdict::Verdict,
    work::Work,
};

/// Whether a new flow of a client is to be masqueraded where it leaves: at cluster IPs those of
/// others than the node's own pods, elsewhere those of whoever does not get a backend of the node
/// anyway. The node's pods keep their addresses: they are translated back at their own devices.
#[inline(always)]
pub(crate) fn is_wanted<F: Datapath>(kind: FrontendKind, policy: Policy, is_local: bool) -> bool {
    match kind {
        FrontendKind::ClusterIp => !is_local || masquerades_all::<F>(),
        _ => !is_local && !policy.has(Policy::EXTERNAL_LOCAL),
    }
}

#[inline(always)]
fn masquerades_all<F: Datapath>() -> bool {
    F::tables().locality.get(0).is_some_and(|locality| locality.masquerades_all != 0)
}

/// Whether the packet at hand is a client's and is to be masqueraded here. Leaves the entry of its
/// flow's replies in [`Work::flow`].
#[inline(never)]
pub(crate) fn is_due<F: Datapath>(context: &TcContext, work: &mut Work<F>) -> bool {
    let from = frame::came_by(context);
    // A process's packets have the node's address.
    if from == 0 {
        return false;
    }
    // SAFETY: a device's entry is replaced, not changed, and rarely.
    let device = unsafe { DEVICES.get(from) };
    if device.is_some_and(|device| !device.traits.has(DeviceTraits::OUTSIDE))
        && choice::is_local::<F>(from, &work.packet.tuple.source)
        && !masquerades_all::<F>()
    {
        return false;
    }
    let protocol = work.packet.protocol;
    work.reply_key = FlowKey::new(work.packet.tuple.reversed(), protocol, Hook::EGRESS);
    let Some(found) = find(&work.reply_key) else {
        return false;
    };
    // SAFETY: map memory, see `Found`.
    work.flow = unsafe { *found.entry };
    let kind = work.flow.kind;
    kind.has(Kind::REPLY)
        && kind.has(Kind::MASQUERADE)
        && !found.is_expired(protocol, work.now)
        && found.is(&work.reply_key)
}

/// Whether a flow that is masqueraded has another address than it would get here now: the node's has
/// changed, or its routes have. A connection cannot follow; datagrams, and a new SYN, can.
#[inline(never)]
pub(crate) fn has_moved<F: Datapath>(context: &TcContext, work: &Work<F>, found: Found<F>) -> bool {
    let flow = found.flow();
    if !work.packet.opens_flow() || !flow.kind.has(Kind::MASQUERADED) {
        return false;
    }
    is_other_address::<F>(frame::device(context), &flow.to.source)
}

/// Whether what leaves by a device gets another address than this.
#[inline(always)]
pub(crate) fn is_other_address<F: Datapath>(device: u32, address: &<F as Family>::Addr) -> bool {
    // SAFETY: written once per device; a torn read would need two changes at once.
    let host = unsafe { F::tables().host_addresses.get(device) };
    host.is_some_and(|host| host != address)
}

/// What became of a flow that is to be masqueraded.
#[repr(u32)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Masquerading {
    /// There are entries for it now.
    Entered,
    /// There is no room for them.
    NoRoom,
    /// The node has no address that it could get at this device.
    NoAddress,
    /// There is no free port at that address.
    NoPort,
}

/// Enters a flow that masquerades packets like the one at hand, which is due.
#[inline(never)]
pub(crate) fn open<F: Datapath>(context: &TcContext, work: &mut Work<F>) -> Masquerading {
    // SAFETY: written once per device; a torn read would need two changes at once.
    let Some(host) = (unsafe { F::tables().host_addresses.get(frame::device(context)) }) else {
        return Masquerading::NoAddress;
    };
    work.flow.to = work.packet.tuple;
    work.flow.to.source = *host;
    work.flow.kind.0 = Kind::MASQUERADED;
    match enter_at_place(context, work) {
        Entered::AsIs | Entered::WithAnotherPort => {
            count::<F>(Reason::FlowMasqueraded);
            Masquerading::Entered
        }
        Entered::NoRoom => Masquerading::NoRoom,
        Entered::NoPort => Masquerading::NoPort,
    }
}

/// Refuses a packet for which there is no free port, in the name of the frontend that its client has
/// dialled.
#[inline(always)]
pub(crate) fn refuse<F: Datapath>(context: &TcContext, work: &mut Work<F>) -> Verdict {
    let replies = FlowKey::new(work.packet.tuple.reversed(), work.packet.protocol, Hook::EGRESS);
    let Some(found) = find(&replies) else {
        blame(work, Reason::DropSourcePorts);
        return Verdict::Drop;
    };
    // As the client has sent it. The flow goes: its client may try again, with another backend.
    work.flow.to = found.flow().to.reversed();
    if !F::rewrite(context, work) {
        blame(work, failure(&work.packet));
        return Verdict::Drop;
    }
    work.key = FlowKey::new(work.flow.to, work.packet.protocol, Hook::INGRESS);
    work.packet.tuple = work.flow.to;
    if let Some(found) = find(&work.key) {
        forget(&work.key, found.entry);
    }
    let back = Back::Route(frame::came_by(context));
    reject::refuse(context, work, Reason::RejectSourcePorts, back)
}
