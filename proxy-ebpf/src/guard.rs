// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What leaves the node for an address of a Service CIDR, and so has been translated by nobody. It
//! would wander about outside, and come back to a router that sends the range here.
//!
//! This stands at the egress of uplinks and tunnels: there, other proxies of the node have had
//! their chance, and pods whose device has no programs yet are covered, too. kube-proxy's nftables
//! mode asks connection tracking whether a connection is new. Here, what begins one is held back,
//! except towards whom has been heard of from outside: a cluster's range may be in use there.

use aya_ebpf::{maps::lpm_trie::Key, programs::TcContext};
use proxy_common::{
    counter::Reason,
    frontend::{FrontendKey, ServiceIndex},
    service_cidr::{Outsider, address_bits},
};

use crate::{
    blame::blame,
    family::Datapath,
    frame::{self, ETHERNET, pull, read},
    hairpin::Back,
    maps::DEVICES,
    open::{Opening, choose, look_up},
    packet::Parsed,
    passing, reject,
    verdict::Verdict,
    work::Work,
};

/// Handles a frame that comes from outside, with its network header at `network`: takes note of
/// who there has an address of a Service CIDR. A VIP is nobody's: what comes from there is an
/// answer of the node's own.
#[inline(never)]
pub(crate) fn notice<F: Datapath>(context: &TcContext, network: usize) {
    if let Some([source, _]) = addresses::<F>(context, network)
        && is_of_service_cidr::<F>(&source)
        && F::tables().outsiders.get_ptr(source).is_none()
        && F::tables().frontends.get_ptr(FrontendKey::<F>::whole(source)).is_none()
    {
        // If there is no room, which an LRU does not say, the next packet tries.
        let _: Result<(), i32> = F::tables().outsiders.insert(source, Outsider::YES, 0);
    }
}

/// Handles a frame that leaves the node, with its network header at `network`, and holds this.
#[inline(never)]
pub(crate) fn run<F: Datapath>(
    context: &TcContext,
    work: &mut Work<F>,
    network: usize,
    parsed: Parsed,
) -> Verdict {
    let addresses = addresses::<F>(context, network);
    if !addresses.is_some_and(|[_, destination]| is_of_service_cidr::<F>(&destination)) {
        if parsed == Parsed::Transport {
            passing::remember(work);
        }
        return Verdict::Pass;
    }
    if network >= ETHERNET && !is_of_node(context) {
        return Verdict::Pass;
    }
    decide(context, work, parsed)
}

/// The source and the destination of a frame's packet.
#[inline(always)]
fn addresses<F: Datapath>(context: &TcContext, network: usize) -> Option<[F::Addr; 2]> {
    pull(context, network + F::HEADER)?;
    read(context, network + F::ADDRESSES)
}

#[inline(always)]
fn is_of_service_cidr<F: Datapath>(address: &F::Addr) -> bool {
    F::tables().service_cidrs.get(Key::new(address_bits::<F>(), *address)).is_some()
}

/// Whether a frame is the node's own. Others may use its device, too: those of macvlan.
#[inline(always)]
fn is_of_node(context: &TcContext) -> bool {
    // SAFETY: a device's entry is replaced, not changed, and rarely.
    let own = unsafe { DEVICES.get(frame::device(context)) };
    let source: Option<[u8; 6]> = read(context, 6);
    own.is_none_or(|own| Some(own.mac) == source)
}

/// A VIP refuses what begins a connection, as it does at a client's device; but not what would be
/// served there: its sender tries again, and its device may have its programs by then. Other
/// addresses are nobody's, and kube-proxy's nftables mode drops what goes there.
#[inline(always)]
fn decide<F: Datapath>(context: &TcContext, work: &mut Work<F>, parsed: Parsed) -> Verdict {
    let destination = &work.packet.tuple.destination;
    if F::tables().frontends.get_ptr(FrontendKey::whole(*destination)).is_none() {
        let is_amid = parsed == Parsed::Transport && work.packet.is_amid_connection();
        if is_amid || F::tables().outsiders.get_ptr(destination).is_some() {
            return Verdict::Pass;
        }
    } else if is_refused(context, work, parsed) {
        // Its sender is on this side: the answer comes in as if from there where it went to.
        return reject::refuse(context, work, Reason::RejectServiceCidr, Back::In);
    }
    blame(work, Reason::DropServiceCidr);
    Verdict::Drop
}

#[inline(always)]
fn is_refused<F: Datapath>(context: &TcContext, work: &mut Work<F>, parsed: Parsed) -> bool {
    match parsed {
        Parsed::Transport if work.packet.opens_flow() => match choose(context, work) {
            Opening::NoEndpoints | Opening::NoPort => true,
            // Processes of the host have no device.
            Opening::Opened => frame::came_by(context) == 0,
            _ => false,
        },
        Parsed::Other => look_up(&work.packet) == Some(ServiceIndex::REFUSE.into()),
        _ => false,
    }
}
