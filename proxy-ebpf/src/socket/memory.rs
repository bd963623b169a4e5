// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What a socket was given: in its own storage, which it has locked whenever a program runs.
//!
//! It outlives the programs that run: hence the lifetimes here.
//!
//! What a search has found lies in memory, read anew each time: so the verifier, for which it can be
//! any, does not follow the rest of a program once for each place that it might be.

use core::ptr;

use aya_ebpf::programs::SockAddrContext;
use proxy_common::{
    backend::BackendId,
    clock::Tick,
    socket::{MAX_SENT, Sent, SocketAddress, Translation},
};

use crate::maps::{CONNECTED, SENT};

/// `TCP_ESTABLISHED` of `net/tcp_states.h`: of a UDP socket, that it is connected.
const ESTABLISHED: u32 = 1;

/// What the socket was given when it was connected last, however that ended.
#[inline(always)]
pub(super) fn last_connected(context: &SockAddrContext) -> Option<&'static mut Translation> {
    // SAFETY: the storage is this socket's, which is locked.
    unsafe { CONNECTED.get_ptr_mut(context).as_mut() }
}

/// What a UDP socket was given for whom it is connected to. That a socket is connected no more (by
/// `AF_UNSPEC`, or by `SOCK_DESTROY`), no program is told.
#[inline(always)]
pub(super) fn connected(context: &SockAddrContext) -> Option<&'static mut Translation> {
    let known = last_connected(context)?;
    // SAFETY: the kernel gives programs a valid context, and its socket.
    let state = unsafe { (*(*context.sock_addr).__bindgen_anon_1.sk).state };
    (state == ESTABLISHED && known.backend != BackendId::NONE).then_some(known)
}

/// Remembers what a socket is given that is about to be connected; says whether there was room.
#[inline(always)]
pub(super) fn remember_connected(context: &SockAddrContext, new: &mut Translation) -> bool {
    let Some(known) = last_connected(context) else {
        // SAFETY: the storage is this socket's, which is locked.
        return unsafe { !CONNECTED.get_or_insert_ptr_mut(context, Some(new)).is_null() };
    };
    let backend = &raw mut known.backend;
    // SAFETY: a field of a valid reference. Whoever lists sockets may read this meanwhile, and takes
    // nothing of it that has no backend.
    unsafe {
        backend.write_volatile(BackendId::NONE);
        known.asked = new.asked;
        known.given = new.given;
        known.generation = new.generation;
        known.family = new.family;
        known.used = new.used;
        backend.write_volatile(new.backend);
    }
    true
}

/// What a socket was given that sends to addresses which it names.
#[inline(always)]
pub(super) fn sent(context: &SockAddrContext) -> Option<&'static mut Sent> {
    // SAFETY: the storage is this socket's, which is locked.
    unsafe { SENT.get_ptr_mut(context).as_mut() }
}

/// The same, made if need be and if there is room.
#[inline(always)]
pub(super) fn sent_or_new(context: &SockAddrContext) -> Option<&'static mut Sent> {
    // SAFETY: the storage is this socket's, which is locked.
    unsafe { SENT.get_or_insert_ptr_mut(context, None).as_mut() }
}

/// Finds where what becomes of an address is noted: where it was noted before, else an unused place,
/// else that which was used least recently.
#[inline(never)]
pub(super) fn find_asked(sent: &mut Sent, asked: &SocketAddress) {
    let datagrams = sent.datagrams;
    let _: bool = find(sent, |known, order| {
        if known.asked.is(asked) {
            u32::MAX
        } else if known.backend == BackendId::NONE {
            u32::MAX - 1
        } else {
            age(datagrams, order) + 1
        }
    });
}

/// Finds what the socket has asked last that it was given an address for; says whether anything.
#[inline(always)]
pub(super) fn find_given(sent: &mut Sent, given: &SocketAddress) -> bool {
    let datagrams = sent.datagrams;
    find(sent, |known, order| {
        let is_it = known.backend != BackendId::NONE && known.given.is(given);
        if is_it { u32::MAX - age(datagrams, order) } else { 0 }
    })
}

/// How many datagrams ago one was. Half of the numbers are enough to tell.
#[inline(always)]
fn age(datagrams: u32, order: u32) -> u32 {
    datagrams.wrapping_sub(order) & (u32::MAX >> 1)
}

/// Finds the place that fits best; says whether any does more than nothing.
#[inline(always)]
fn find(sent: &mut Sent, fitness: impl Fn(&Translation, u32) -> u32) -> bool {
    let best = &raw mut sent.fitness;
    // SAFETY: a field of a valid reference.
    unsafe {
        best.write_volatile(0);
        for at in 0..MAX_SENT {
            let fitness = fitness(&sent.translations[at], sent.order[at]);
            if fitness > best.read_volatile() {
                best.write_volatile(fitness);
                sent.place = at as u32;
            }
        }
        best.read_volatile() > 0
    }
}

/// The translation that was found last.
#[inline(always)]
pub(super) fn found(sent: &mut Sent) -> &mut Translation {
    let place = place(sent);
    &mut sent.translations[place]
}

#[inline(always)]
fn place(sent: &Sent) -> usize {
    // SAFETY: a field of a valid reference.
    let place = unsafe { ptr::read_volatile(&raw const sent.place) };
    place as usize & (MAX_SENT - 1)
}

/// Makes the translation that was found last the one that was used last.
#[inline(always)]
pub(super) fn use_found(sent: &mut Sent, now: Tick) -> &mut Translation {
    sent.datagrams = sent.datagrams.wrapping_add(1);
    let (place, datagrams) = (place(sent), sent.datagrams);
    sent.order[place] = datagrams;
    let known = &mut sent.translations[place];
    known.used = now;
    known
}

/// Whether the socket was given a backend for another address, too.
#[inline(never)]
pub(super) fn is_given(sent: &Sent, new: &Translation) -> bool {
    sent.translations.iter().any(|known| {
        known.backend != BackendId::NONE
            && known.given.is(&new.given)
            && !known.asked.is(&new.asked)
    })
}

/// Forgets why the socket was given an address: it now names that itself.
#[inline(never)]
pub(super) fn forget_given(sent: &mut Sent, given: &SocketAddress) {
    for known in &mut sent.translations {
        if known.given.is(given) {
            known.backend = BackendId::NONE;
        }
    }
}
