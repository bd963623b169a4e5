// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Packets that have something to tell of their folded flow: that it is alive, about once a second; that the backend
//! has answered, or that the client has seen that; that one side has sent its last. And the first packets after their
//! way was asked for last. What needs more goes up: see [`follow`](crate::follow), which says what is right.

use aya_ebpf::programs::XdpContext;
use proxy_common::{
    Protocol,
    counter::Reason,
    flow::{Flow, FlowKey, Hook, Kind, Seen},
};

use super::{known::is_on_way, send::GOES_ON, up};
use crate::{
    confirm::confirm_both,
    ending, endless,
    family::Datapath,
    flow::{self, Found, Side, find},
    folded,
    frame::read,
    handshake::take_answer,
    known,
    route::Route,
    tcp::{self, TcpHeader},
    work::Work,
};

/// What a packet tells.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tells {
    /// That its flow goes on.
    Life,
    /// That the backend has answered, and by which number the client proves that it has seen this.
    Answer(u32),
    /// That the client has seen it.
    Proof,
    /// That its sender sends no more.
    End,
}

/// Takes note of a packet, whose key is [`Work::key`].
#[inline(never)]
pub(super) fn go_on<F: Datapath>(context: &XdpContext, network: usize) -> u32 {
    let Some(work) = Work::<F>::get() else {
        return up::<F>(Reason::XdpUpFlow);
    };
    let Some(found) = find(&work.key) else {
        return up::<F>(Reason::XdpUpFlow);
    };
    let flow = found.flow();
    work.now = flow::now();
    (work.flow.to, work.flow.kind, work.flow.service) = (flow.to, flow.kind, flow.service);
    work.reply_key = FlowKey::new(flow.to.reversed(), work.key.protocol, Hook::INGRESS);
    let Some(tells) = tells(context, network, flow, &work.key, work.flags) else {
        return up::<F>(Reason::XdpUpFlow);
    };
    let is_known = is_on_way(context, flow, work.came_by, work.now);
    (work.flow.device, work.flow.mac) = (flow.device, flow.mac);
    let is_usable = work.flow.kind.is_folded()
        && !Seen(flow.client_seen.0 | flow.backend_seen.0).has(Seen::RST)
        && !flow.is_expired(work.key.protocol, work.now)
        && found.is(&work.key);
    if !is_usable {
        return up::<F>(Reason::XdpUpFlow);
    }
    if !is_known {
        match folded::find_way(context, work) {
            Route::Known if work.key.protocol == Protocol::UDP && folded::has_moved(work) => {
                return up::<F>(Reason::XdpUpFlow);
            }
            Route::Known => folded::keep_way(work, found.entry),
            Route::WithoutMac => return up::<F>(Reason::XdpUpNeighbour),
            Route::None => return up::<F>(Reason::XdpUpFlow),
        }
    }
    let Some(other) = find(&work.reply_key) else {
        return up::<F>(Reason::XdpUpFlow);
    };
    if !other.answers(&work.key.tuple) || !note(work, (found, other), tells) {
        return up::<F>(Reason::XdpUpFlow);
    }
    GOES_ON
}

/// What a packet with these flags tells of its flow, if the driver can take note of it.
#[inline(always)]
fn tells<F: Datapath>(
    context: &XdpContext,
    network: usize,
    flow: &Flow<F>,
    key: &FlowKey<F>,
    flags: u8,
) -> Option<Tells> {
    let is_reply = flow.kind.has(Kind::REPLY);
    if key.protocol == Protocol::UDP {
        return match (is_reply, flow.backend_seen.has(Seen::ANY)) {
            (false, _) if !known::stays(flow) => None,
            _ if flow.is_confirmed() => Some(Tells::Life),
            (true, _) => Some(Tells::Answer(flow.proof)),
            (false, true) => Some(Tells::Proof),
            (false, false) => Some(Tells::Life),
        };
    }
    if flow.is_confirmed() {
        return match flags {
            0 => Some(Tells::Life),
            flags if flags & (tcp::SYN | tcp::RST) == 0 => Some(Tells::End),
            _ => None,
        };
    }
    let header: TcpHeader = read(context, network + F::HEADER)?;
    if header.flags & tcp::ACK == 0 {
        return None;
    }
    match (is_reply, flags) {
        // A SYN counts in the sequence.
        (true, SYN_ACK) => Some(Tells::Answer(u32::from_be(header.sequence).wrapping_add(1))),
        (false, 0) => {
            let proves = flow.backend_seen.has(Seen::ANY)
                && u32::from_be(header.acknowledgement) == flow.proof;
            proves.then_some(Tells::Proof)
        }
        _ => None,
    }
}

const SYN_ACK: u8 = tcp::SYN | tcp::ACK;

/// Takes note of what a packet tells in its own entry, whose [`Work::flow`] is a part, and in the other one.
#[inline(always)]
fn note<F: Datapath>(work: &mut Work<F>, (own, other): (Found<F>, Found<F>), tells: Tells) -> bool {
    let mut is_new = false;
    match tells {
        Tells::End => return ending::note(&work.key, own, &work.flow.to),
        Tells::Answer(proof) if work.key.protocol == Protocol::TCP => {
            take_answer(other, own, proof);
        }
        Tells::Answer(_) => {
            for entry in [other, own] {
                let _: [Seen; 2] = entry.see(Side::Backend, Seen::ANY);
            }
        }
        Tells::Proof => is_new = confirm_both(own, other),
        Tells::Life => {}
    }
    for entry in [own.entry, other.entry] {
        // SAFETY: map memory, see `Found`.
        unsafe { (*entry).last_seen = work.now };
    }
    if is_new || endless::lacks_place(own.flow(), work.key.protocol) {
        endless::settle(work, own.entry, is_new);
    }
    true
}
