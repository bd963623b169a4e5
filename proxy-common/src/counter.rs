// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Counters per family and reason, kept per processor.

use crate::Family;

/// Declares the reasons once, with the names that operators see.
macro_rules! reasons {
    ($($(#[$doc:meta])* $reason:ident = $name:literal,)+) => {
        /// Why a packet was dropped or refused, or what became of a flow.
        #[repr(u8)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Reason { $($(#[$doc])* $reason,)+ }

        impl Reason {
            /// All reasons, in the order of their counters.
            pub const ALL: &[Self] = &[$(Self::$reason,)+];
            /// How many reasons there are.
            #[expect(clippy::cast_possible_truncation, reason = "a byte counts them")]
            pub const COUNT: u32 = Self::ALL.len() as u32;

            /// The name in metrics and on the command line.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$reason => $name,)+ }
            }
        }
    };
}

reasons! {
    /// A flow was created.
    FlowCreated = "flow-created",
    /// A flow was confirmed.
    FlowConfirmed = "flow-confirmed",
    /// A flow was created whose packets go past the host's stack.
    FlowFast = "flow-fast",
    /// A packet was sent on in the driver of the uplink that it came by.
    XdpSent = "xdp-sent",
    /// The driver has left a packet to the host's stack: it is nothing of ours.
    XdpUpOther = "xdp-up-other",
    /// The same: no whole TCP segment or UDP datagram without options, or one that resets.
    XdpUpUnusual = "xdp-up-unusual",
    /// The same: the first packet of a flow that only the stack can open, or that leads to a backend of this node.
    XdpUpNew = "xdp-up-new",
    /// The same: the packet is of a flow that goes through the stack, or has to be taken note of there.
    XdpUpFlow = "xdp-up-flow",
    /// The same: the next hop is not known, or the stack has not used it of late.
    XdpUpNeighbour = "xdp-up-neighbour",
    /// A flow that was half-open or closed has made room for another one.
    FlowEvicted = "flow-evicted",
    /// A flow that was over, by its time or by both sides, has made room for another one.
    FlowExpired = "flow-expired",
    /// A confirmed flow without an end of its own has found no place among those that make room once they are over.
    FlowUnplaced = "flow-unplaced",
    /// A flow was given another source port than its client's.
    SourcePortTranslated = "source-port-translated",
    /// A flow was given the node's address as its source, as it leaves the node.
    FlowMasqueraded = "flow-masqueraded",
    /// A new flow went to the backend that its client was served by before.
    AffinityKept = "affinity-kept",
    /// A socket was given a backend for the frontend that it named.
    SocketTranslated = "socket-translated",
    /// An ICMP error about a packet of a flow was translated.
    IcmpErrorTranslated = "icmp-error-translated",
    /// Passed untouched: an IPv6 packet with more extension headers than are walked over.
    PassExtensionHeaders = "pass-extension-headers",
    /// Passed untouched: a packet amid a connection that is not known, which another proxy's NAT may own.
    PassForeignNat = "pass-foreign-nat",
    /// Dropped: no free source port was found for a flow.
    DropSourcePorts = "drop-source-ports-exhausted",
    /// Dropped: no room for a new flow.
    DropFlowInsert = "drop-flow-insert",
    /// Dropped: the tables changed under the look-up, twice in a row.
    DropUpdateRace = "drop-update-race",
    /// Dropped: a Local traffic policy, and no endpoint on this node.
    DropPolicyLocal = "drop-no-local-endpoint",
    /// Dropped: a client that is in none of a Service's source ranges.
    DropSourceRange = "drop-source-range",
    /// Dropped: a packet from or to a loopback address that was not the node's own.
    DropLoopback = "drop-loopback",
    /// Dropped: the node has no address to stand between a client and a backend elsewhere.
    DropMasquerade = "drop-masquerade-no-node-address",
    /// Dropped: a pod is its own backend and the host has no address to stand between.
    DropHairpin = "drop-hairpin-no-host-address",
    /// Dropped: a fragment for a VIP whose first one has not been seen, or opened no flow.
    DropFragment = "drop-fragment-without-first",
    /// Dropped: the first fragment of an SCTP packet whose ports were to change, for which its
    /// checksum asks for the whole of it.
    DropSctpFragment = "drop-sctp-fragment",
    /// Dropped: a translated packet could not be rewritten.
    DropRewrite = "drop-rewrite",
    /// Refused: the kernel had no memory for what a socket must remember.
    DropSocketMemory = "drop-socket-memory",
    /// Refused: the Service has no endpoints.
    RejectNoEndpoints = "reject-no-endpoints",
    /// Refused: the cluster IP has no such port.
    RejectNoPort = "reject-no-port",
    /// Refused: no free source port was found for a flow that leaves the node.
    RejectSourcePorts = "reject-source-ports-exhausted",
    /// Refused: a packet amid a connection that is not known.
    RejectNoFlow = "reject-no-flow",
    /// Refused: a packet to a cluster IP was about to leave the node.
    RejectServiceCidr = "reject-service-cidr",
    /// Dropped: a packet to an address of a Service CIDR was about to leave the node.
    DropServiceCidr = "drop-service-cidr",
    /// Dropped: a refusal that the rate limit swallowed.
    DropRejectLimit = "drop-reject-rate-limit",
    /// Dropped: a refusal that could not be built.
    DropRejectFailed = "drop-reject-failed",
}

impl Reason {
    /// Whether it says why a packet, or a call at a socket, was dropped.
    #[must_use]
    #[inline(always)]
    pub const fn is_drop(self) -> bool {
        DROPS >> self as u8 & 1 != 0
    }

    /// Whether it says why one was refused.
    #[must_use]
    #[inline(always)]
    pub const fn is_reject(self) -> bool {
        Self::is_number_of_reject(self as u8)
    }

    /// The same of the one with a number, below 64.
    #[must_use]
    #[inline(always)]
    pub const fn is_number_of_reject(number: u8) -> bool {
        REJECTS >> (number & 63) & 1 != 0
    }

    /// The row of this reason's counter for a family.
    #[must_use]
    #[inline(always)]
    pub const fn row<F: Family>(self) -> u32 {
        F::INDEX * Self::COUNT + self as u32
    }
}

/// The reasons whose names begin so, as bits.
const fn named(prefix: &str) -> u64 {
    let (mut bits, mut place) = (0, 0);
    while place < Reason::ALL.len() {
        let (name, prefix) = (Reason::ALL[place].name().as_bytes(), prefix.as_bytes());
        let mut same = 0;
        while same < prefix.len() && same < name.len() && name[same] == prefix[same] {
            same += 1;
        }
        if same == prefix.len() {
            bits |= 1 << place;
        }
        place += 1;
    }
    bits
}

const DROPS: u64 = named("drop-");
const REJECTS: u64 = named("reject-");

/// Rows in the counters map: all reasons for both families.
pub const ROWS: u32 = 2 * Reason::COUNT;

#[cfg(test)]
mod tests {
    use super::{ROWS, Reason};
    use crate::{V4, V6};

    #[test]
    fn each_family_and_reason_has_a_row_of_its_own() {
        for (place, reason) in (0..).zip(Reason::ALL) {
            assert_eq!(reason.row::<V4>(), place);
            assert_eq!(reason.row::<V6>(), place + Reason::COUNT);
        }
        assert_eq!(ROWS, 2 * Reason::COUNT);
    }
}
