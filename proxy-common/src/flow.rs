// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Flows: what has been decided about a connection, one entry per direction.
//!
//! An entry maps the addresses and ports of a packet as it arrives at a hook to those that it
//! leaves with. The forward entry of a flow is found at the ingress of the client's device, its
//! reply entry at the egress of the same device; each holds the other's key (reversed), so that
//! they can keep each other alive. Only in a hairpin both apply at ingress.

mod key;
mod kind;
mod waiting;

pub use key::{FlowKey, Hook};
pub use kind::Kind;
pub use waiting::{ENDLESS_PLACES, PLACES, Queue, Waiting, all_places};

use crate::{
    Family, Port, Protocol,
    backend::BackendId,
    clock::{Tick, seconds},
    frontend::ServiceIndex,
    pod,
};

/// The most entries of one family; a flow has two.
pub const MAX_FLOWS: u32 = 1 << 20;

/// Addresses and ports of a packet.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tuple<F: Family> {
    /// The source address.
    pub source: F::Addr,
    /// The destination address.
    pub destination: F::Addr,
    /// The source port.
    pub source_port: Port,
    /// The destination port.
    pub destination_port: Port,
}

impl<F: Family> Tuple<F> {
    /// The tuple of a packet that answers one with this tuple.
    #[must_use]
    #[inline(always)]
    pub const fn reversed(&self) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
            source_port: self.destination_port,
            destination_port: self.source_port,
        }
    }

    /// Whether this is the tuple of packets that answer those with the other one.
    #[must_use]
    #[inline(always)]
    pub fn answers(&self, other: &Self) -> bool {
        self.source == other.destination
            && self.destination == other.source
            && self.source_port == other.destination_port
            && self.destination_port == other.source_port
    }
}

/// What one side of a flow has been seen to do, as bits.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Seen(pub u8);

impl Seen {
    /// A packet at all.
    pub const ANY: u8 = 1;
    /// A TCP FIN, or an SCTP SHUTDOWN or SHUTDOWN ACK: this side sends no more data.
    pub const FIN: u8 = 1 << 1;
    /// A TCP RST, or an SCTP ABORT or SHUTDOWN COMPLETE, and nothing after it.
    pub const RST: u8 = 1 << 2;
    /// Of the client: it has proven that it is there. The flow is confirmed. Set once and never taken back.
    pub const PROVEN: u8 = 1 << 3;

    /// What a TCP segment with these flags (as in the header) shows of its sender, or what
    /// corresponds to it; without flags, what any packet shows.
    #[must_use]
    #[inline(always)]
    pub const fn of_segment(flags: u8) -> u8 {
        // FIN is bit 0 of the header's flags, RST bit 2. No branches: this is on every packet's way.
        Self::ANY | (flags & 1) << 1 | flags & Self::RST
    }

    /// Whether any of these bits is set.
    #[must_use]
    #[inline(always)]
    pub const fn has(self, bits: u8) -> bool {
        self.0 & bits != 0
    }
}

/// The value of a flow entry.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow<F: Family> {
    /// The [`tag`](FlowKey::tag) of the entry's key. It is the first word and again, as
    /// [`seal`](Self::seal), the last: the kernel copies a value into a recycled entry from its
    /// beginning or from its end, so that one of the two changes before anything between them.
    /// Whoever reads an entry reads both last.
    pub tag: u32,
    /// See below.
    #[cfg(feature = "other-abi")]
    pub generation: u32,
    /// Addresses and ports that the packet leaves with.
    pub to: Tuple<F>,
    /// The Service port; [`ServiceIndex::DIRECT`] for a direct connection.
    pub service: ServiceIndex,
    /// The backend that serves the flow.
    pub backend: BackendId,
    /// The backend's generation when it was chosen.
    #[cfg(not(feature = "other-abi"))]
    pub generation: u32,
    /// The last packet of either direction, to within a second.
    pub last_seen: Tick,
    /// Of a half-open flow. In its forward entry, of TCP and SCTP: the acknowledgement number or
    /// verification tag that proves that the client has seen the backend's SYN-ACK or INIT ACK, in the
    /// machine's order; meaningful once `backend_seen` has a packet. In its reply entry: the flow's
    /// [place](Waiting). Of a closed flow, and of a confirmed one that is not of TCP, in its forward entry: its
    /// place among these; `u32::MAX` if it has none.
    pub proof: u32,
    /// The device by which the client's packets go on, where the kind is [`Kind::FAST`], by interface
    /// index; and that by which the client came. Of a [folded](Kind::is_folded) flow: by which the entry's own
    /// packets go on, and by which they come.
    pub device: u32,
    /// See [`device`](Self::device).
    pub client_device: u32,
    /// The next hop's MAC address, where the kind says so; zero if the node is asked for it packet by
    /// packet.
    pub mac: [u8; 6],
    /// The client's MAC address, where the kind is [`Kind::FAST`]. Of a folded flow: that of the device by which
    /// its packets come.
    pub client_mac: [u8; 6],
    /// What kind of entry this is.
    pub kind: Kind,
    /// What the client has done.
    pub client_seen: Seen,
    /// What the backend has done.
    pub backend_seen: Seen,
    /// The [`turn`](crate::ways::WaysEpoch::turn) in which it was asked last how the client's packets go on,
    /// where the kind is [`Kind::FAST`]. Kept in the forward entry; of a folded flow in both, for each its own.
    pub way_asked: u8,
    /// The same as [`tag`](Self::tag).
    pub seal: u32,
}

/// Seconds until a flow that is not confirmed is forgotten: long enough for the retransmissions
/// of a SYN, and Linux's `nf_conntrack_udp_timeout` doubled.
pub const HALF_OPEN_SECONDS: u32 = 60;
/// Seconds of silence until an established TCP flow is forgotten: kube-proxy's
/// `conntrack.tcpEstablishedTimeout`.
pub const TCP_ESTABLISHED_SECONDS: u32 = 86_400;
/// Seconds of silence after one side's FIN: kube-proxy's `conntrack.tcpCloseWaitTimeout`.
pub const TCP_HALF_CLOSED_SECONDS: u32 = 3_600;
/// Seconds of silence after both sides' FIN: Linux's `nf_conntrack_tcp_timeout_time_wait`.
pub const TCP_CLOSED_SECONDS: u32 = 120;
/// Seconds of silence after a RST, or the end of an SCTP association: Linux's
/// `nf_conntrack_tcp_timeout_close` and `nf_conntrack_sctp_timeout_closed`.
pub const RESET_SECONDS: u32 = 10;
/// Seconds of silence until a confirmed UDP flow is forgotten: Linux's
/// `nf_conntrack_udp_timeout_stream`.
pub const UDP_SECONDS: u32 = 120;
/// Seconds of silence until an SCTP flow is forgotten: Linux's
/// `nf_conntrack_sctp_timeout_established`.
pub const SCTP_SECONDS: u32 = 210;

impl<F: Family> Flow<F> {
    /// Makes this the entry of a key, by its tag.
    #[inline(always)]
    pub fn label(&mut self, key: &FlowKey<F>) {
        self.tag = key.tag();
        self.seal = self.tag;
    }

    /// Leads through the host's stack: no device and no MAC address are meant.
    #[inline(always)]
    pub const fn clear_way(&mut self) {
        (self.device, self.client_device) = (0, 0);
        (self.mac, self.client_mac) = ([0; 6], [0; 6]);
        self.way_asked = 0;
    }

    /// Makes the way of a folded flow one that has to be asked for: nothing comes by such a device.
    #[inline(always)]
    pub const fn doubt_way(&mut self) {
        self.client_device = 0;
    }

    /// Takes that back, for what comes by this wire.
    #[inline(always)]
    pub const fn trust_way(&mut self, came_by: u32) {
        self.client_device = came_by;
    }

    /// Whether the client has proven that it is there. A flow is half-open before that.
    #[must_use]
    #[inline(always)]
    pub const fn is_confirmed(&self) -> bool {
        self.client_seen.has(Seen::PROVEN)
    }

    /// The silence, in ticks, after which the flow is forgotten.
    #[must_use]
    #[inline(always)]
    pub fn timeout(&self, protocol: Protocol) -> u32 {
        if self.client_seen.has(Seen::RST) || self.backend_seen.has(Seen::RST) {
            return seconds(RESET_SECONDS);
        }
        if !self.is_confirmed() {
            return seconds(HALF_OPEN_SECONDS);
        }
        if protocol == Protocol::UDP {
            return seconds(UDP_SECONDS);
        }
        let is_sctp = protocol == Protocol::SCTP;
        match (self.client_seen.has(Seen::FIN), self.backend_seen.has(Seen::FIN)) {
            (true, true) if is_sctp => seconds(RESET_SECONDS),
            _ if is_sctp => seconds(SCTP_SECONDS),
            (false, false) => seconds(TCP_ESTABLISHED_SECONDS),
            (true, true) => seconds(TCP_CLOSED_SECONDS),
            _ => seconds(TCP_HALF_CLOSED_SECONDS),
        }
    }

    /// Whether the flow has been silent for longer than its time-out.
    #[must_use]
    #[inline(always)]
    pub fn is_expired(&self, protocol: Protocol, now: Tick) -> bool {
        now.since(self.last_seen) > self.timeout(protocol)
    }

    /// Whether both sides of a TCP or SCTP flow have sent their last.
    #[must_use]
    #[inline(always)]
    pub const fn is_finished(&self) -> bool {
        self.client_seen.has(Seen::FIN) && self.backend_seen.has(Seen::FIN)
    }

    /// Whether a TCP or SCTP flow has ended, so that a SYN or INIT with the same tuple opens a new
    /// one (RFC 9293 section 3.6.1 on reuse). A RST alone ends none that is confirmed: it may have
    /// been forged, and what opens a flow as well.
    #[must_use]
    #[inline(always)]
    pub const fn is_closed(&self) -> bool {
        let is_reset = self.client_seen.has(Seen::RST) || self.backend_seen.has(Seen::RST);
        self.is_finished() || is_reset && !self.is_confirmed()
    }
}

pod!(Seen);
pod!(generic Tuple, Flow);

const _: () = assert!(size_of::<Flow<crate::V4>>() == 64);
const _: () = assert!(size_of::<Flow<crate::V6>>() == 88);
// Programs change what has been seen by operations on whole words.
const _: () = assert!(core::mem::offset_of!(Flow<crate::V4>, kind) % 8 == 0);
const _: () = assert!(core::mem::offset_of!(Flow<crate::V6>, kind) % 8 == 0);

#[cfg(test)]
mod tests;
