// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Telling those who listen what happens, as it happens. While nobody does, that is a look at four words where a
//! flow is created, and none where a packet goes on.

use aya_ebpf::{helpers::bpf_ktime_get_ns, maps::RingBuf};
use proxy_common::{
    Protocol,
    counter::Reason,
    event::{self, Event, Happening, Listeners},
    flow::Tuple,
    frontend::ServiceIndex,
    socket::SocketAddress,
};

use crate::{
    atomic,
    family::Datapath,
    maps::{self, EVENTS_0, EVENTS_1, EVENTS_2, EVENTS_3},
    work::Work,
};

/// Whether somebody may want to hear of what happens.
#[inline(always)]
pub(crate) fn is_wanted<F: Datapath>(happening: Happening) -> bool {
    let Some(row) = maps::LISTENERS.get_ptr(0) else {
        return false;
    };
    let mut wanted = 0;
    for listener in 0..event::LISTENERS {
        wanted |= load(row, |row| &raw const row.wanted[listener]);
    }
    wanted & happening.bit::<F>() != 0
}

#[inline(always)]
fn load(row: *const Listeners, word: impl FnOnce(&Listeners) -> *const u64) -> u64 {
    // SAFETY: a row of an array is never freed; its words are read whole.
    unsafe { word(&*row).read_volatile() }
}

/// Tells of a flow that was created: [`Work::flow`] is its forward entry, [`Work::key`] the key of that.
#[inline(always)]
pub(crate) fn created<F: Datapath>(device: u32) {
    if is_wanted::<F>(Happening::Flow) {
        tell_created::<F>(device);
    }
}

#[inline(never)]
fn tell_created<F: Datapath>(device: u32) {
    let Some(work) = Work::<F>::get() else {
        return;
    };
    tell::<F>(Happening::Flow, |event| {
        let to = &work.flow.to;
        event.backend = Event::address::<F>(to.destination, to.destination_port);
        event.service = work.flow.service;
        event.protocol = work.key.protocol;
        event.reason = Reason::FlowCreated as u8;
        event.device = device;
        name(event, &work.key.tuple);
    });
}

/// Tells why the packet at hand was dropped or refused.
#[inline(always)]
pub(crate) fn blamed<F: Datapath>(work: &Work<F>, device: u32, happening: Happening) {
    tell::<F>(happening, |event| {
        event.service = work.service;
        event.protocol = work.packet.protocol;
        event.reason = work.blamed.wrapping_sub(1);
        event.device = device;
        name(event, &work.packet.tuple);
    });
}

#[inline(always)]
fn name<F: Datapath>(event: &mut Event, tuple: &Tuple<F>) {
    event.source = Event::address::<F>(tuple.source, tuple.source_port);
    event.destination = Event::address::<F>(tuple.destination, tuple.destination_port);
}

/// Tells each who listens and wants to hear it; what the function leaves as it is, is nothing.
///
/// One event for all: an event for each that listens, written where it lies in the buffer, takes more of the stack than
/// Linux 6.1 has left where a driver opens a flow.
#[inline(always)]
pub(crate) fn tell<F: Datapath>(happening: Happening, fill: impl FnOnce(&mut Event)) {
    let Some(row) = maps::LISTENERS.get_ptr_mut(0) else {
        return;
    };
    let mut event = Event {
        // SAFETY: the helper takes nothing.
        at: unsafe { bpf_ktime_get_ns() },
        source: SocketAddress::default(),
        destination: SocketAddress::default(),
        backend: SocketAddress::default(),
        service: ServiceIndex::REFUSE,
        device: 0,
        family: F::INDEX as u8,
        protocol: Protocol::new(0),
        reason: 0,
        reserved: 0,
    };
    fill(&mut event);
    // Not a table of the buffers: an object cannot have pointers in its read-only data.
    let bit = happening.bit::<F>();
    tell_one(row, 0, &EVENTS_0, bit, &event);
    tell_one(row, 1, &EVENTS_1, bit, &event);
    tell_one(row, 2, &EVENTS_2, bit, &event);
    tell_one(row, 3, &EVENTS_3, bit, &event);
}

#[inline(always)]
fn tell_one(row: *mut Listeners, listener: usize, buffer: &RingBuf, bit: u64, event: &Event) {
    if load(row, |row| &raw const row.wanted[listener]) & bit == 0 {
        return;
    }
    if load(row, |row| &raw const row.until[listener]) < event.at {
        // Who has gone without saying so costs no more. Who has just come says it again.
        // SAFETY: as above; the word is stored whole.
        unsafe { (&raw mut (*row).wanted[listener]).write_volatile(0) };
        return;
    }
    if buffer.output::<Event>(event, 0).is_err() {
        // SAFETY: as above, and aligned.
        let _: u64 = unsafe { atomic::add(&raw mut (*row).lost[listener], 1) };
    }
}
