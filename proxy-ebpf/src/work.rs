// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! A program's working memory.
//!
//! It is a map's, not the stack's, for two reasons. All functions of a program share 512 bytes of
//! stack. And the verifier follows each value on the stack through each path on its own, which
//! would multiply the paths of all phases; what it reads from a map it takes for any value, so that
//! the paths of a phase end where the phase does. Hence each phase is a function of its own that
//! takes this.

use aya_ebpf::bindings::bpf_redir_neigh;
use proxy_common::{
    Port,
    clock::Tick,
    flow::{Flow, FlowKey, Kind, Tuple},
    frontend::{Frontend, ServiceIndex},
    passing::Epoch,
};

use crate::{family::Datapath, packet::Packet, reject::Quote};

/// One processor's working memory for a family. A processor runs one program at a time.
#[repr(C)]
pub(crate) struct Work<F: Datapath> {
    /// The packet at hand.
    pub(crate) packet: Packet<F>,
    /// What it quotes, if it is an ICMP error.
    pub(crate) quoted: Packet<F>,
    /// The frontend that it is for, if it opens a flow.
    pub(crate) frontend: Frontend,
    /// The Service port that it is for, as far as that is known; one before [`ServiceIndex::FIRST`] if it is for none.
    pub(crate) service: ServiceIndex,
    /// The key of its flow at this hook.
    pub(crate) key: FlowKey<F>,
    /// The present.
    pub(crate) now: Tick,
    /// The epoch in which the packet is looked up.
    pub(crate) epoch: Epoch,
    /// Whether the frame is for a neighbour of its sender's (not zero), so that only direct
    /// connections are of interest.
    pub(crate) direct_only: u8,
    /// Whether the device leads out of the node (not zero).
    pub(crate) outside: u8,
    /// Whether the flow that is being made is to be masqueraded where it leaves (not zero).
    pub(crate) masquerades: u8,
    /// Whether a source port has been found for it (not zero).
    pub(crate) claimed: u8,
    /// Whether there was no room for an entry of it (not zero).
    pub(crate) is_full: u8,
    /// Whether [`Work::flow`] is the forward entry of a new flow, as it was entered (not zero).
    pub(crate) entered: u8,
    /// The reason why the packet is dropped or refused, plus one; 0 if it is not.
    pub(crate) blamed: u8,
    /// Those of a segment's flags that a driver goes on with.
    pub(crate) flags: u8,
    /// The key of the replies of a flow that is being made.
    pub(crate) reply_key: FlowKey<F>,
    /// Where packets of the replies of another flow went that had this key, what kind of flow that
    /// is, and whether it has lost the key (not zero).
    pub(crate) former: Tuple<F>,
    pub(crate) former_kind: Kind,
    pub(crate) ousts: u8,
    /// The key of that flow's forward entry.
    pub(crate) former_key: FlowKey<F>,
    /// Where a flow that is being made or confirmed leads to, and of what kind it is.
    pub(crate) wanted: Tuple<F>,
    pub(crate) wanted_kind: Kind,
    /// The place of a flow that is being made among the half-open ones.
    pub(crate) place: u32,
    /// Whether such a flow has made room where there was none (not zero).
    pub(crate) has_room: u8,
    /// Whether the flow of the packet at hand has been unfolded (not zero).
    pub(crate) is_unfolded: u8,
    /// The key of the replies of a flow that makes room for another one.
    pub(crate) evicted: FlowKey<F>,
    /// Of the flows that may leave their source ports, of those that were looked at, the port of the
    /// one that has been silent for longest, and for how long it has been, in ticks.
    pub(crate) stalest: Port,
    pub(crate) silence: u32,
    /// An entry that is being made.
    pub(crate) flow: Flow<F>,
    /// By which wire the frame has come, where that matters; see [`Wire::number`](proxy_common::device::Wire::number).
    pub(crate) came_by: u32,
    /// By which device of the stack a packet of a folded flow goes on, by interface index.
    pub(crate) next: u32,
    /// And by which next hop.
    pub(crate) hop: bpf_redir_neigh,
    /// What an ICMP error quotes.
    pub(crate) quote: Quote,
}

impl<F: Datapath> Work<F> {
    /// This processor's.
    #[inline(always)]
    pub(crate) fn get() -> Option<&'static mut Self> {
        // SAFETY: a row of a per-processor array is this processor's alone while a program runs. A
        // program takes it once, and each of its phases (`phase`) and the bodies of its loops once
        // more while whoever has called it, and has given its own up to it, waits.
        F::tables().work.get_ptr_mut(0).map(|work| unsafe { &mut *work })
    }
}
