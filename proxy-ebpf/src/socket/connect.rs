// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Sockets that are about to connect, TCP and UDP.

use aya_ebpf::programs::SockAddrContext;
use proxy_common::{Protocol, backend::BackendId, counter::Reason, socket::Translation};

use super::{
    Netns,
    choose::{Choice, Use, choose},
    fail, given, memory, named, protocol, rename, send,
};
use crate::{family::Datapath, flow, verdict::CallVerdict};

/// Gives a socket a backend of the family `F`, at a hook of the family `H`.
#[inline(never)]
pub(crate) fn run<H: Datapath, F: Datapath>(context: &SockAddrContext) -> i32 {
    decide::<H, F>(context) as i32
}

#[inline(always)]
fn decide<H: Datapath, F: Datapath>(context: &SockAddrContext) -> CallVerdict {
    let protocol = protocol(context);
    let is_udp = protocol == Protocol::UDP;
    let netns = Netns::of(context);
    if !is_udp && protocol != Protocol::TCP || !netns.is_served() {
        return CallVerdict::Go;
    }
    let asked = named::<H>(context);
    let mut translation = Translation { asked, ..Translation::default() };
    // What the socket sends from a port that it is bound to is one flow, connected or not.
    let known = if is_udp { send::already::<F>(context, &asked, flow::now()) } else { None };
    let choice = if let Some(known) = known {
        translation = *known;
        Choice::Given
    } else {
        choose::<F>(&mut translation, protocol, Use::Connect, None, netns)
    };
    if let Some(reason) = choice.refusal() {
        return fail::<F>(context, &asked, reason);
    }
    if choice == Choice::Stays {
        if let Some(connected) = memory::last_connected(context) {
            connected.backend = BackendId::NONE;
        }
        if is_udp && let Some(sent) = memory::sent(context) {
            memory::forget_given(sent, &asked);
        }
        return CallVerdict::Go;
    }
    // Answers to a UDP socket must be seen to come from whom it has asked.
    if !memory::remember_connected(context, &mut translation) && is_udp {
        return fail::<F>(context, &asked, Reason::DropSocketMemory);
    }
    rename::<H>(context, &translation.given);
    given::<F>(&translation, protocol);
    CallVerdict::Go
}
