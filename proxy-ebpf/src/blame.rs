// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Why a packet was dropped or refused: counted, and told to those who listen or debug.

use aya_ebpf::programs::TcContext;
use aya_log_ebpf::{
    debug,
    macro_support::{Level, level_enabled},
};
use proxy_common::{Address, counter::Reason, event::Happening, frontend::ServiceIndex};

use crate::{
    counter::count, family::Datapath, frame::device, telling, traffic, verdict::Verdict, work::Work,
};

/// The longest name of a reason, in bytes.
const NAME: usize = 32;
/// The names of all reasons, filled up with spaces: a table without pointers, which an object
/// cannot have in its read-only data.
static NAMES: [[u8; NAME]; Reason::ALL.len()] = {
    let mut names = [[b' '; NAME]; Reason::ALL.len()];
    let mut row = 0;
    while row < names.len() {
        let name = Reason::ALL[row].name().as_bytes();
        let mut column = 0;
        while column < name.len() {
            names[row][column] = name[column];
            column += 1;
        }
        row += 1;
    }
    names
};

/// Counts why the packet at hand is dropped or refused.
#[inline(always)]
pub(crate) fn blame<F: Datapath>(work: &mut Work<F>, reason: Reason) {
    count::<F>(reason);
    work.blamed = reason as u8 + 1;
}

/// Decides about a frame, and tells what it was blamed for, if it was. That stands at the end,
/// once: the verifier follows it from each place that calls it. The agent sets the level of logs when it
/// loads the programs, and below it there are none.
#[inline(always)]
pub(crate) fn decide<F: Datapath>(
    context: &TcContext,
    decision: impl FnOnce(&TcContext, &mut Work<F>) -> Verdict,
) -> i32 {
    let Some(work) = Work::<F>::get() else {
        return Verdict::Pass.to_action();
    };
    work.blamed = 0;
    work.service = ServiceIndex::REFUSE;
    let verdict = decision(context, work);
    if work.blamed != 0 {
        tell(context, work);
        if level_enabled(Level::Debug) {
            log(context, work);
        }
    }
    verdict.to_action()
}

/// The name of a reason, from its number.
#[inline(always)]
pub(crate) fn name(reason: u8) -> Option<&'static str> {
    let name = NAMES.get(usize::from(reason))?;
    // SAFETY: names in ASCII, and spaces.
    Some(unsafe { core::str::from_utf8_unchecked(name) })
}

/// Counts it at the Service port, and tells who listens.
#[inline(never)]
fn tell<F: Datapath>(context: &TcContext, work: &Work<F>) {
    let happening = if Reason::is_number_of_reject(work.blamed.wrapping_sub(1)) {
        Happening::Reject
    } else {
        Happening::Drop
    };
    traffic::ended::<F>(work.service, happening);
    if telling::is_wanted::<F>(happening) {
        telling::blamed(work, device(context), happening);
    }
}

#[inline(never)]
fn log<F: Datapath>(context: &TcContext, work: &Work<F>) {
    let tuple = &work.packet.tuple;
    let Some(name) = name(work.blamed.wrapping_sub(1)) else {
        return;
    };
    debug!(
        context,
        "protocol {}, {:i} port {} to {:i} port {}: {}",
        work.packet.protocol.number(),
        tuple.source.octets(),
        tuple.source_port.number(),
        tuple.destination.octets(),
        tuple.destination_port.number(),
        name
    );
}
