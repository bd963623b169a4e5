// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The flow tables: finding, keeping alive and forgetting flows.

use core::arch::asm;

use aya_ebpf::{
    bindings::BPF_NOEXIST,
    helpers::{bpf_jiffies64, bpf_ktime_get_coarse_ns},
};
use proxy_common::{
    Protocol,
    clock::{PER_SECOND, Tick},
    flow::{Flow, FlowKey, Kind, Seen, Tuple},
};

use crate::{family::Datapath, maps::CLOCK, passing, tcp, work::Work};

/// Insert only what is not there.
pub(crate) const NEW: u64 = BPF_NOEXIST as u64;

/// An entry in one of the two tables.
///
/// The pointer stays readable while the program runs, but the entry may be deleted and recycled
/// meanwhile: what is read is to be believed only if [`Found::is`] says so afterwards, and what is
/// written may at worst keep another flow alive, shorten its time-out, or lead it past the stack by
/// another's way for a second, which its next packets mend.
#[derive(Clone, Copy)]
pub(crate) struct Found<F: Datapath> {
    pub(crate) entry: *mut Flow<F>,
    pub(crate) confirmed: bool,
}

/// Which side of a flow a packet comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Backend,
}

/// The present, as of the kernel's last tick. The clock is read once a tick; to know which tick it is
/// costs no call.
#[inline(always)]
pub(crate) fn now() -> Tick {
    // SAFETY: the helper takes nothing.
    #[expect(clippy::cast_possible_truncation, reason = "the count wraps, after 49 days or later")]
    let jiffies = unsafe { bpf_jiffies64() } as u32;
    let read = CLOCK.load();
    if (read >> 32) as u32 == jiffies {
        return Tick(read as u32);
    }
    // SAFETY: as above.
    let now = Tick::from_nanoseconds(unsafe { bpf_ktime_get_coarse_ns() });
    CLOCK.store(u64::from(jiffies) << 32 | u64::from(now.0));
    now
}

/// Keeps the compiler from moving reads and writes of memory across. It is an empty piece of assembly,
/// since some versions of LLVM 22 cannot compile a fence for BPF.
#[inline(always)]
fn barrier() {
    // SAFETY: there is no instruction in it.
    unsafe { asm!("", options(nostack, preserves_flags)) };
}

/// Looks a flow up. Its promotion, which takes it out of the half-open ones, may fall between two looks:
/// hence the third.
#[inline(always)]
pub(crate) fn find<F: Datapath>(key: &FlowKey<F>) -> Option<Found<F>> {
    let tables = F::tables();
    let confirmed = |entry| Found { entry, confirmed: true };
    if let Some(entry) = tables.flows.get_ptr_mut(key) {
        return Some(confirmed(entry));
    }
    if let Some(entry) = tables.half_open.get_ptr_mut(key) {
        return Some(Found { entry, confirmed: false });
    }
    tables.flows.get_ptr_mut(key).map(confirmed)
}

impl<F: Datapath> Found<F> {
    /// Whether the entry is still that of a key. Read after everything else of it.
    #[inline(always)]
    pub(crate) fn is(&self, key: &FlowKey<F>) -> bool {
        barrier();
        // SAFETY: map memory, see the type.
        let (tag, seal) = unsafe {
            (
                (&raw const (*self.entry).tag).read_volatile(),
                (&raw const (*self.entry).seal).read_volatile(),
            )
        };
        tag == seal && tag == key.tag()
    }

    /// Whether this, found under the key of the other direction, belongs to the flow of packets
    /// with this tuple: another flow may have taken the key.
    #[inline(always)]
    pub(crate) fn answers(&self, tuple: &Tuple<F>) -> bool {
        self.flow().to == tuple.reversed()
    }

    /// The entry as a reference, for reading parts of it.
    #[inline(always)]
    pub(crate) fn flow(&self) -> &Flow<F> {
        // SAFETY: map memory, see the type.
        unsafe { &*self.entry }
    }

    /// Whether the flow has been silent too long.
    #[inline(always)]
    pub(crate) fn is_expired(&self, protocol: Protocol, now: Tick) -> bool {
        self.flow().is_expired(protocol, self.confirmed, now)
    }

    /// Takes note of the packet at hand, in this entry and where it matters in the other one:
    /// what its sender has done, and that the flow is alive (at most once a second).
    /// [`Work::flow`] has where the entry leads to, and what kind it is of.
    #[inline(always)]
    pub(crate) fn observe(&self, work: &mut Work<F>, side: Side) {
        let flow = self.flow();
        let (seen, other) = match side {
            Side::Client => (flow.client_seen, flow.backend_seen),
            Side::Backend => (flow.backend_seen, flow.client_seen),
        };
        let flags = work.packet.segment.flags;
        let bits = seen.0 & !Seen::RST | Seen::of_segment(flags);
        // A RST may have been forged: whatever comes after it from either side revives the flow.
        let revives = other.has(Seen::RST) && bits & Seen::RST == 0;
        let stale = work.now.since(flow.last_seen) >= PER_SECOND;
        // The backend's SYN has the number that proves the client; a repeated one of the client's
        // brings back a lost reply entry.
        if stale || seen.0 != bits || flags & tcp::SYN != 0 || revives {
            self.update(work, side, bits);
        }
    }

    /// Brings both entries of the flow up to date, and the other one back if it is gone.
    #[inline(always)]
    fn update(&self, work: &mut Work<F>, side: Side, bits: u8) {
        let hook = match side {
            Side::Client => work.flow.kind.reply_hook(),
            Side::Backend => work.flow.kind.forward_hook(),
        };
        work.reply_key = FlowKey::new(work.flow.to.reversed(), work.packet.protocol, hook);
        note(work, self.entry, side == Side::Client, bits);
        let tables = F::tables();
        let other = if self.confirmed {
            tables.flows.get_ptr_mut(&work.reply_key)
        } else {
            tables.half_open.get_ptr_mut(&work.reply_key)
        };
        match other {
            Some(entry) => {
                let other = Found { entry, confirmed: self.confirmed };
                if other.answers(&work.packet.tuple) {
                    note(work, entry, side == Side::Client, bits);
                }
            }
            None => restore_other(work, self.entry),
        }
    }
}

/// Writes what the packet at hand says of its flow into an entry.
#[inline(never)]
fn note<F: Datapath>(work: &Work<F>, entry: *mut Flow<F>, client: bool, bits: u8) {
    // SAFETY: map memory, see `Found`.
    let flow = unsafe { &mut *entry };
    let (seen, other) = if client {
        (&mut flow.client_seen, &mut flow.backend_seen)
    } else {
        (&mut flow.backend_seen, &mut flow.client_seen)
    };
    seen.0 = bits;
    // The other side's own packets write the same byte: it is left alone unless it must change.
    if bits & Seen::RST == 0 && other.has(Seen::RST) {
        other.0 &= !Seen::RST;
    }
    flow.last_seen = work.now;
    // Of the backend's only: a client that could set the number could prove anything.
    if !client && work.packet.is_segment(tcp::SYN | tcp::ACK) {
        // A SYN counts in the sequence; a tag is used as it is.
        let taken = u32::from(work.packet.is_tcp());
        flow.proof = work.packet.segment.sequence.wrapping_add(taken);
    }
}

/// Enters a flow's other entry again: the half-open table may have given it up.
#[inline(never)]
fn restore_other<F: Datapath>(work: &mut Work<F>, entry: *mut Flow<F>) {
    let tables = F::tables();
    let (to, kind) = (work.flow.to, work.flow.kind);
    // SAFETY: map memory, see `Found`.
    work.flow = unsafe { *entry };
    let is_own = (Found { entry, confirmed: false }).is(&work.key);
    if is_own {
        work.flow.label(&work.reply_key);
        passing::forget::<F>(work.flow.tag);
        work.flow.to = work.packet.tuple.reversed();
        work.flow.kind = Kind(kind.0 ^ Kind::REPLY);
        // What has been entered meanwhile is as good; if there is no room, the next packet tries.
        let _: Result<(), i32> = if work.confirmed != 0 {
            tables.flows.insert(&work.reply_key, &work.flow, NEW)
        } else {
            tables.half_open.insert(&work.reply_key, &work.flow, NEW)
        };
    }
    work.flow.to = to;
    // As where one is confirmed.
    work.flow.kind = if is_own { kind } else { Kind(kind.0 & !Kind::FAST) };
}

/// Forgets both entries of a flow, in both tables; but not the reply entry of another flow that
/// has taken its key since.
#[inline(never)]
pub(crate) fn forget<F: Datapath>(key: &FlowKey<F>, entry: *mut Flow<F>) {
    let Some(reply_key) = forget_confirmed(key, entry) else {
        return;
    };
    let half_open = F::tables().half_open;
    // Whether it is there does not matter: it is to be gone.
    let _: Result<(), i32> = half_open.remove(key);
    let ours = |entry| Found { entry, confirmed: false }.answers(&key.tuple);
    if half_open.get_ptr_mut(&reply_key).is_some_and(ours) {
        let _: Result<(), i32> = half_open.remove(&reply_key);
    }
}

/// The same in the table of confirmed flows alone. The key of the replies, if the entry was the flow's.
#[inline(always)]
pub(crate) fn forget_confirmed<F: Datapath>(
    key: &FlowKey<F>,
    entry: *mut Flow<F>,
) -> Option<FlowKey<F>> {
    let found = Found { entry, confirmed: true };
    let flow = found.flow();
    let reply_key = FlowKey::new(flow.to.reversed(), key.protocol, flow.kind.reply_hook());
    if !found.is(key) {
        return None;
    }
    let flows = F::tables().flows;
    // As above.
    let _: Result<(), i32> = flows.remove(key);
    let ours = |entry| Found { entry, confirmed: true }.answers(&key.tuple);
    if flows.get_ptr_mut(&reply_key).is_some_and(ours) {
        let _: Result<(), i32> = flows.remove(&reply_key);
    }
    Some(reply_key)
}
