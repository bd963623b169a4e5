// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Kinds of flow entries.

use super::Hook;
use crate::pod;

/// What kind of entry this is, as bits.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Kind(pub u8);

impl Kind {
    /// The entry of replies.
    pub const REPLY: u8 = 1;
    /// The backend is the client itself: packets turn around at the device.
    pub const HAIRPIN: u8 = 1 << 1;
    /// The backend is on the client's own bridge: [`Flow::mac`](super::Flow::mac) is its MAC address.
    pub const SAME_BRIDGE: u8 = 1 << 2;
    /// A direct connection to an endpoint, tracked for the sake of its reply tuple.
    pub const DIRECT: u8 = 1 << 3;
    /// When packets of the client's leave the node by an uplink or a tunnel, their source becomes
    /// the node's: or the backend's replies would not come back through here.
    pub const MASQUERADE: u8 = 1 << 4;
    /// The entries that do this: the forward one at the egress of the device by which the client's
    /// packets leave, the reply's at the ingress of that by which the answers come.
    pub const MASQUERADED: u8 = 1 << 5;
    /// The client has reached the node by an uplink or a tunnel.
    pub const OUTSIDE: u8 = 1 << 6;
    /// Packets go past the host's stack, in both directions: the client's from its device, the replies
    /// from where they reach the node.
    pub const FAST: u8 = 1 << 7;

    /// Whether any of these bits is set.
    #[must_use]
    #[inline(always)]
    pub const fn has(self, bits: u8) -> bool {
        self.0 & bits != 0
    }

    /// Whether this is the entry of requests to which no more is done once they have been translated here.
    #[must_use]
    #[inline(always)]
    pub const fn is_final(self) -> bool {
        !self.has(Self::REPLY | Self::HAIRPIN | Self::DIRECT | Self::MASQUERADE | Self::MASQUERADED)
    }

    /// Whether a client outside and a backend elsewhere meet here alone: both translations are made at once,
    /// at the ingress of uplinks in both directions, and packets go on past the host's stack, in the driver
    /// where it can.
    #[must_use]
    #[inline(always)]
    pub const fn is_folded(self) -> bool {
        self.0 & (Self::FAST | Self::OUTSIDE) == Self::FAST | Self::OUTSIDE
    }

    /// The hook at which the client's packets of such a flow are translated.
    #[must_use]
    #[inline(always)]
    pub const fn forward_hook(self) -> Hook {
        if self.has(Self::MASQUERADED) { Hook::EGRESS } else { Hook::INGRESS }
    }

    /// The hook at which the replies are.
    #[must_use]
    #[inline(always)]
    pub const fn reply_hook(self) -> Hook {
        let at_ingress = self.has(Self::HAIRPIN | Self::MASQUERADED) || self.is_folded();
        if at_ingress { Hook::INGRESS } else { Hook::EGRESS }
    }
}

pod!(Kind);
