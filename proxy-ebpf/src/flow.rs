// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The flow table: finding, keeping alive and forgetting flows.

use core::arch::asm;

use aya_ebpf::{
    bindings::BPF_NOEXIST,
    helpers::{bpf_get_prandom_u32, bpf_jiffies64, bpf_ktime_get_coarse_ns},
};
use proxy_common::{
    Protocol,
    clock::{PER_SECOND, Tick},
    flow::{Flow, FlowKey, Kind, Seen, Tuple},
};

use crate::{atomic, ending, family::Datapath, maps::CLOCK, queue, tcp, work::Work};

/// Insert only what is not there.
pub(crate) const NEW: u64 = BPF_NOEXIST as u64;

/// An entry of the table.
///
/// The pointer stays readable while the program runs, but the entry may be deleted and recycled
/// meanwhile: what is read is to be believed only if [`Found::is`] says so afterwards, and what is
/// written may at worst keep another flow alive, half-open or closed ones included, shorten its time-out, lead it
/// past the stack by another's way for a second, which its next packets mend, or have it lose its place.
#[derive(Clone, Copy)]
pub(crate) struct Found<F: Datapath> {
    pub(crate) entry: *mut Flow<F>,
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

/// Looks a flow up.
#[inline(always)]
pub(crate) fn find<F: Datapath>(key: &FlowKey<F>) -> Option<Found<F>> {
    F::tables().flows.get_ptr_mut(key).map(|entry| Found { entry })
}

/// Makes a key that of the replies to a flow of this kind which leads there. Part by part: as a whole, it would lie on
/// the stack first, which those who confirm flows have no room for (Linux 6.1 gives out 32 bytes at a time).
#[inline(always)]
pub(crate) fn name_replies<F: Datapath>(
    key: &mut FlowKey<F>,
    to: &Tuple<F>,
    protocol: Protocol,
    kind: Kind,
) {
    (key.protocol, key.hook) = (protocol, kind.reply_hook());
    (key.tuple.source, key.tuple.source_port) = (to.destination, to.destination_port);
    (key.tuple.destination, key.tuple.destination_port) = (to.source, to.source_port);
}

impl<F: Datapath> Found<F> {
    /// Whether the entry is still that of a key. Read after everything else of it.
    #[inline(always)]
    pub(crate) fn is(self, key: &FlowKey<F>) -> bool {
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
    pub(crate) fn answers(self, tuple: &Tuple<F>) -> bool {
        self.flow().to.answers(tuple)
    }

    /// The entry as a reference, for reading parts of it.
    #[inline(always)]
    pub(crate) fn flow<'a>(self) -> &'a Flow<F> {
        // SAFETY: map memory, see the type.
        unsafe { &*self.entry }
    }

    /// Whether the flow has been silent too long.
    #[inline(always)]
    pub(crate) fn is_expired(self, protocol: Protocol, now: Tick) -> bool {
        self.flow().is_expired(protocol, now)
    }

    /// Adds to what has been seen, and returns what had been, of the client and of the backend.
    #[inline(always)]
    pub(crate) fn see(self, side: Side, bits: u8) -> [Seen; 2] {
        // SAFETY: map memory, see the type; the word is aligned.
        seen_in(unsafe { atomic::set(self.seen_word(), side.bits(bits)) })
    }

    /// Takes back what has been seen of both.
    #[inline(always)]
    fn unsee(self, bits: u8) {
        let bits = Side::Client.bits(bits) | Side::Backend.bits(bits);
        // SAFETY: as above.
        let _: u64 = unsafe { atomic::clear(self.seen_word(), bits) };
    }

    /// Makes this an entry of a confirmed flow; says whether it was none.
    #[inline(always)]
    pub(crate) fn prove(self) -> bool {
        let [client, _] = self.see(Side::Client, Seen::PROVEN);
        !client.has(Seen::PROVEN)
    }

    /// The word in which kind and what has been seen are the first bytes.
    #[inline(always)]
    const fn seen_word(self) -> *mut u64 {
        // SAFETY: map memory, see the type.
        unsafe { (&raw mut (*self.entry).kind).cast() }
    }

    /// Takes note of the packet at hand, in this entry and where it matters in the other one:
    /// what its sender has done, and that the flow is alive (at most once a second).
    /// [`Work::flow`] has where the entry leads to, and what kind it is of.
    #[inline(always)]
    pub(crate) fn observe(self, work: &mut Work<F>, side: Side) {
        let flow = self.flow();
        let (seen, other) = match side {
            Side::Client => (flow.client_seen, flow.backend_seen),
            Side::Backend => (flow.backend_seen, flow.client_seen),
        };
        let flags = work.packet.segment.flags;
        let bits = Seen::of_segment(flags);
        // A RST may have been forged: whatever comes after it from either side revives the flow.
        let revives = bits & Seen::RST == 0 && Seen(seen.0 | other.0).has(Seen::RST);
        let stale = work.now.since(flow.last_seen) >= PER_SECOND;
        // The backend's SYN has the number that proves the client; a repeated one of the client's
        // brings back a lost reply entry.
        if stale || seen.0 | bits != seen.0 || flags & tcp::SYN != 0 || revives {
            self.update(work, side, bits);
        }
    }

    /// Brings both entries of the flow up to date, and the other one back if it is gone.
    #[inline(always)]
    fn update(self, work: &mut Work<F>, side: Side, bits: u8) {
        let hook = match side {
            Side::Client => work.flow.kind.reply_hook(),
            Side::Backend => work.flow.kind.forward_hook(),
        };
        work.reply_key = FlowKey::new(work.flow.to.reversed(), work.packet.protocol, hook);
        let ends = note(work, self.entry, side, bits);
        let Some(other) = find(&work.reply_key) else {
            restore_other(work, self.entry);
            return;
        };
        if !other.answers(&work.packet.tuple) {
            return;
        }
        let other_ends = note(work, other.entry, side, bits);
        // The forward entry decides: of the last packets of both sides, one finds the other there.
        match side {
            Side::Client if ends => ending::close(&work.key, self.entry),
            Side::Backend if other_ends => ending::close(&work.reply_key, other.entry),
            _ => {}
        }
    }
}

impl Side {
    /// What this side has done, where it is in an entry's word.
    #[inline(always)]
    const fn bits(self, seen: u8) -> u64 {
        let place = match self {
            Self::Client => 8,
            Self::Backend => 16,
        };
        (seen as u64) << place
    }
}

/// What an entry's word says of client and backend.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "bytes of a word")]
const fn seen_in(word: u64) -> [Seen; 2] {
    [Seen((word >> 8) as u8), Seen((word >> 16) as u8)]
}

/// Writes what the packet at hand says of its flow into an entry; says whether that ends the flow.
#[inline(never)]
fn note<F: Datapath>(work: &Work<F>, entry: *mut Flow<F>, side: Side, bits: u8) -> bool {
    let found = Found { entry };
    let before = found.see(side, bits);
    if bits & Seen::RST == 0 && before.iter().any(|seen| seen.has(Seen::RST)) {
        found.unsee(Seen::RST);
    }
    // SAFETY: map memory, see `Found`.
    let flow = unsafe { &mut *entry };
    flow.last_seen = work.now;
    let is_half_open = !flow.kind.has(Kind::REPLY) && !before[0].has(Seen::PROVEN);
    if is_half_open
        && side == Side::Backend
        && let Some(proof) = proof(work)
    {
        flow.proof = proof;
    }
    bits & Seen::FIN != 0 && ending::ends(before, side)
}

/// What proves a client that has seen the packet at hand, if this is a backend's SYN-ACK or INIT ACK. Of the
/// backend's only: a client that could set the number could prove anything.
#[inline(always)]
fn proof<F: Datapath>(work: &Work<F>) -> Option<u32> {
    // A SYN counts in the sequence; a tag is used as it is.
    let taken = u32::from(work.packet.is_tcp());
    let is_answer = work.packet.is_segment(tcp::SYN | tcp::ACK);
    is_answer.then(|| work.packet.segment.sequence.wrapping_add(taken))
}

/// Enters a flow's other entry again, whose key is [`Work::reply_key`]: another flow may have taken its
/// place, and have ended.
#[inline(never)]
pub(crate) fn restore_other<F: Datapath>(work: &mut Work<F>, entry: *mut Flow<F>) {
    let (to, kind) = (work.flow.to, work.flow.kind);
    // SAFETY: map memory, see `Found`.
    work.flow = unsafe { *entry };
    let is_own = (Found { entry }).is(&work.key);
    if is_own {
        work.flow.label(&work.reply_key);
        work.flow.to = work.packet.tuple.reversed();
        work.flow.kind = Kind(kind.0 ^ Kind::REPLY);
        if kind.is_folded() {
            work.flow.clear_way();
        }
        work.flow.proof = if kind.has(Kind::REPLY) && !work.flow.is_confirmed() {
            // Else, a number that nobody can know.
            // SAFETY: the helper takes nothing.
            proof(work).unwrap_or_else(|| unsafe { bpf_get_prandom_u32() })
        } else {
            queue::NOWHERE
        };
        // What has been entered meanwhile is as good; if there is no room, the next packet tries.
        let _: Result<(), i32> = F::tables().flows.insert(&work.reply_key, &work.flow, NEW);
    }
    work.flow.to = to;
    // Of an entry that was recycled meanwhile there is no way past the stack any more.
    work.flow.kind = if is_own { kind } else { Kind(kind.0 & !Kind::FAST) };
}

/// Forgets both entries of a flow; but not the reply entry of another flow that has taken its key since.
#[inline(never)]
pub(crate) fn forget<F: Datapath>(key: &FlowKey<F>, entry: *mut Flow<F>) {
    let found = Found { entry };
    let flow = found.flow();
    let reply_key = FlowKey::new(flow.to.reversed(), key.protocol, flow.kind.reply_hook());
    if !found.is(key) {
        return;
    }
    let flows = F::tables().flows;
    // Whether it is still there does not matter: it is to be gone.
    let _: Result<(), i32> = flows.remove(key);
    if find(&reply_key).is_some_and(|reply| reply.answers(&key.tuple)) {
        let _: Result<(), i32> = flows.remove(&reply_key);
    }
}
