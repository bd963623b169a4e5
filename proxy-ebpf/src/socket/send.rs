// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! UDP sockets that are about to send a datagram to an address that they name.
//!
//! What a socket sends to one frontend goes to one backend for as long as that serves and the socket
//! does not fall silent, as from one source port through a NAT.

use aya_ebpf::programs::SockAddrContext;
use proxy_common::{
    Protocol,
    backend::BackendId,
    clock::{Tick, seconds},
    counter::Reason,
    flow::UDP_SECONDS,
    socket::{Sent, SocketAddress, Translation},
};

use super::{
    choose::{Choice, Use, choose},
    fail, is_served, named, protocol, rename, sent, serves,
};
use crate::{
    counter::count_in_process,
    family::Datapath,
    flow::now,
    maps::{CONNECTED, SENT},
    verdict::CallVerdict,
};

/// How often a backend is chosen that answers the socket under another frontend already.
const CHOICES: usize = 4;

/// Gives a datagram a backend of the family `F`, at a hook of the family `H`.
#[inline(never)]
pub(crate) fn run<H: Datapath, F: Datapath>(context: &SockAddrContext) -> i32 {
    decide::<H, F>(context) as i32
}

#[inline(always)]
fn decide<H: Datapath, F: Datapath>(context: &SockAddrContext) -> CallVerdict {
    if protocol(context) != Protocol::UDP || !is_served(context) {
        return CallVerdict::Go;
    }
    let asked = named::<H>(context);
    let now = now();
    if let Some(known) = already::<F>(context, &asked, now)
        && known.given.address.is_mapped() == asked.address.is_mapped()
    {
        known.used = now;
        rename::<H>(context, &known.given);
        return CallVerdict::Go;
    }
    let mut translation = Translation { asked, ..Translation::default() };
    let mut choice = Choice::Stays;
    // Only by its source port, which is the socket's, could a NAT tell apart what one backend
    // answers under two frontends. So each gets another backend if there is one.
    for _ in 0..CHOICES {
        choice = choose::<F>(&mut translation, Protocol::UDP, Use::Send);
        // SAFETY: as above.
        let sent = unsafe { SENT.get_ptr_mut(context).as_ref() };
        if choice != Choice::Given || !sent.is_some_and(|sent| is_given(sent, &translation)) {
            break;
        }
    }
    if let Some(reason) = choice.refusal() {
        return fail::<F>(context, &asked, reason);
    }
    if choice == Choice::Stays {
        // SAFETY: as above.
        if let Some(sent) = unsafe { SENT.get_ptr_mut(context).as_mut() } {
            forget_given(sent, &asked);
        }
        return CallVerdict::Go;
    }
    // SAFETY: as above.
    let Some(place) = (unsafe { SENT.get_or_insert_ptr_mut(context, None).as_mut() }) else {
        return fail::<F>(context, &asked, Reason::DropSocketMemory);
    };
    // Or else the answers are to what was asked last.
    forget_given(place, &translation.given);
    *sent::found(place) = translation;
    rename::<H>(context, &translation.given);
    count_in_process::<F>(Reason::SocketTranslated);
    CallVerdict::Go
}

/// What the socket was given for an address already, if that serves it still. To whom it is connected
/// comes first: it hears nobody else.
#[inline(always)]
pub(super) fn already<'a, F: Datapath>(
    context: &'a SockAddrContext,
    asked: &SocketAddress,
    now: Tick,
) -> Option<&'a mut Translation> {
    // SAFETY: the storage is this socket's, which is locked.
    let connected = unsafe { CONNECTED.get_ptr_mut(context).as_mut() };
    if let Some(known) = connected
        && known.asked.is(asked)
        && serves::<F>(known)
    {
        return Some(known);
    }
    // SAFETY: as above.
    let sent = unsafe { SENT.get_ptr_mut(context).as_mut() }?;
    find(sent, asked, now);
    let known = sent::found(sent);
    let is_fresh = known.asked.is(asked) && now.since(known.used) < seconds(UDP_SECONDS);
    (is_fresh && serves::<F>(known)).then_some(known)
}

/// Finds where what becomes of an address is noted: where it was noted before, else an unused place,
/// else that which was used least recently.
#[inline(never)]
fn find(sent: &mut Sent, asked: &SocketAddress, now: Tick) {
    let _: bool = sent::find(sent, |known| {
        if known.asked.is(asked) {
            u32::MAX
        } else if known.backend == BackendId::NONE {
            u32::MAX - 1
        } else {
            now.since(known.used) + 1
        }
    });
}

/// Whether the socket was given a backend for another address, too.
#[inline(never)]
fn is_given(sent: &Sent, new: &Translation) -> bool {
    sent.translations.iter().any(|known| known.given.is(&new.given) && !known.asked.is(&new.asked))
}

/// Forgets why the socket was given an address: it now names that itself, or for another reason.
#[inline(never)]
fn forget_given(sent: &mut Sent, given: &SocketAddress) {
    for known in &mut sent.translations {
        if known.given.is(given) {
            known.backend = BackendId::NONE;
        }
    }
}
