// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! UDP sockets that are about to send a datagram to an address that they name.
//!
//! What a socket sends to one frontend goes to one backend for as long as that serves and neither
//! falls silent, as from one source port through a NAT.

use aya_ebpf::programs::SockAddrContext;
use proxy_common::{
    Protocol,
    clock::{Tick, seconds},
    counter::Reason,
    flow::UDP_SECONDS,
    socket::{SocketAddress, Translation},
};

use super::{
    Netns,
    choose::{Choice, Use, choose},
    fail, given, memory, named, protocol, rename, serves,
};
use crate::{family::Datapath, flow::now, verdict::CallVerdict};

/// Gives a datagram a backend of the family `F`, at a hook of the family `H`.
#[inline(never)]
pub(crate) fn run<H: Datapath, F: Datapath>(context: &SockAddrContext) -> i32 {
    decide::<H, F>(context) as i32
}

#[inline(always)]
fn decide<H: Datapath, F: Datapath>(context: &SockAddrContext) -> CallVerdict {
    let netns = Netns::of(context);
    if protocol(context) != Protocol::UDP || !netns.is_served() {
        return CallVerdict::Go;
    }
    let asked = named::<H>(context);
    // What an IPv6 socket sends to its mapped peer without naming it comes here, too.
    if memory::connected(context).is_some_and(|known| known.given.is(&asked)) {
        return CallVerdict::Go;
    }
    let now = now();
    if let Some(known) = already::<F>(context, &asked, now)
        && known.given.address.is_mapped() == asked.address.is_mapped()
    {
        rename::<H>(context, &known.given);
        return CallVerdict::Go;
    }
    let mut translation = Translation { asked, ..Translation::default() };
    let sent = memory::sent(context).map(|sent| &*sent);
    let choice = choose::<F>(&mut translation, Protocol::UDP, Use::Send, sent, netns);
    if let Some(reason) = choice.refusal() {
        return fail::<F>(context, &asked, reason);
    }
    if choice == Choice::Stays {
        if let Some(sent) = memory::sent(context) {
            memory::forget_given(sent, &asked);
        }
        return CallVerdict::Go;
    }
    let Some(sent) = memory::sent_or_new(context) else {
        return fail::<F>(context, &asked, Reason::DropSocketMemory);
    };
    *memory::found(sent) = translation;
    let _: &mut Translation = memory::use_found(sent, now);
    rename::<H>(context, &translation.given);
    given::<F>(memory::found(sent), Protocol::UDP);
    CallVerdict::Go
}

/// What the socket was given for an address already, if that serves it still. To whom it is connected
/// comes first: it hears nobody else.
#[inline(always)]
pub(super) fn already<F: Datapath>(
    context: &SockAddrContext,
    asked: &SocketAddress,
    now: Tick,
) -> Option<&'static mut Translation> {
    if let Some(known) = memory::connected(context)
        && known.asked.is(asked)
        && serves::<F>(known)
    {
        return Some(known);
    }
    let sent = memory::sent(context)?;
    memory::find_asked(sent, asked);
    let known = memory::found(sent);
    let is_fresh = known.asked.is(asked) && now.since(known.used) < seconds(UDP_SECONDS);
    if is_fresh && serves::<F>(known) { Some(memory::use_found(sent, now)) } else { None }
}
