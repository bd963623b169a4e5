// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Fragments (RFC 791 section 3.2, RFC 8200 section 4.5): the first has the ports, and is
//! remembered for those that follow.

use proxy_common::{
    flow::Hook,
    fragment::{FragmentKey, Fragmented},
};

use crate::{family::Datapath, work::Work};

/// Remembers the ports of the first fragment at hand, as it arrived with them.
#[inline(never)]
pub(crate) fn remember<F: Datapath>(work: &Work<F>, hook: Hook) {
    let packet = &work.packet;
    let fragmented = Fragmented::new(
        packet.protocol,
        packet.tuple.source_port,
        packet.tuple.destination_port,
        work.now,
    );
    // If there is no room, which an LRU does not say, the rest of the packet is lost, as it may be.
    let _: Result<(), i32> = F::tables().fragments.insert(key(work, hook), fragmented, 0);
}

/// Forgets a packet that had the identification of the first fragment at hand: they come round
/// again.
#[inline(never)]
pub(crate) fn forget<F: Datapath>(work: &Work<F>, hook: Hook) {
    let _: Result<(), i32> = F::tables().fragments.remove(key(work, hook));
}

/// Gives the fragment at hand the protocol and the ports of its first one; says whether that has
/// been here.
#[inline(never)]
pub(crate) fn recall<F: Datapath>(work: &mut Work<F>, hook: Hook) -> bool {
    let key = key(work, hook);
    let Some(fragmented) = F::tables().fragments.get_ptr(key) else {
        return false;
    };
    // SAFETY: map memory, one aligned word. It may have become another packet's: then these are
    // wrong ports, and no flow is found, or one between the same two that does no harm.
    let fragmented = unsafe { fragmented.read_volatile() };
    if !fragmented.is_current(work.now) {
        return false;
    }
    let packet = &mut work.packet;
    packet.protocol = fragmented.protocol();
    packet.tuple.source_port = fragmented.source_port();
    packet.tuple.destination_port = fragmented.destination_port();
    true
}

#[inline(always)]
fn key<F: Datapath>(work: &Work<F>, hook: Hook) -> FragmentKey<F> {
    let packet = &work.packet;
    FragmentKey::new(
        packet.tuple.source,
        packet.tuple.destination,
        packet.identification,
        F::fragment_protocol(packet.protocol),
        hook,
    )
}
