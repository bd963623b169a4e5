// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What goes to a Service port and comes from it, counted by each processor for itself.

use crate::pod;

/// The most Service ports of a family that are counted, with the reserved rows. The agent says how many they are.
pub const MAX_COUNTED: u32 = 1 << 14;

/// Packets and their bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Volume {
    /// Frames as the kernel hands them over: segments that it has put together, or not yet cut, count as one.
    pub packets: u64,
    /// Their lengths, with the headers of all layers, in bytes.
    pub bytes: u64,
}

/// What a processor has counted of a Service port: a line of the cache.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Requests and replies that were translated, each packet once: see [`REQUESTS`](Self::REQUESTS) and
    /// [`REPLIES`](Self::REPLIES).
    pub volumes: [Volume; 2],
    /// Flows that were created.
    pub flows: u64,
    /// Sockets, and datagrams of unconnected ones, that were given a backend. Their packets are not translated, and
    /// not counted.
    pub sockets: u64,
    /// Packets, and calls at sockets, that were refused.
    pub rejected: u64,
    /// Packets, and calls at sockets, that were dropped.
    pub dropped: u64,
}

impl Traffic {
    /// The volume of packets of clients.
    pub const REQUESTS: usize = 0;
    /// The volume of packets to clients.
    pub const REPLIES: usize = 1;

    /// What two have counted together; wraps as the counters do.
    #[must_use]
    pub const fn and(&self, other: &Self) -> Self {
        Self {
            volumes: [self.volumes[0].and(other.volumes[0]), self.volumes[1].and(other.volumes[1])],
            flows: self.flows.wrapping_add(other.flows),
            sockets: self.sockets.wrapping_add(other.sockets),
            rejected: self.rejected.wrapping_add(other.rejected),
            dropped: self.dropped.wrapping_add(other.dropped),
        }
    }
}

impl Volume {
    const fn and(self, other: Self) -> Self {
        Self {
            packets: self.packets.wrapping_add(other.packets),
            bytes: self.bytes.wrapping_add(other.bytes),
        }
    }
}

pod!(Volume, Traffic);

const _: () = assert!(size_of::<Traffic>() == 64);

#[cfg(test)]
mod tests {
    use super::{Traffic, Volume};

    #[test]
    fn processors_are_added_up() {
        let one = Traffic {
            volumes: [Volume { packets: 1, bytes: 2 }, Volume { packets: 3, bytes: 4 }],
            flows: 5,
            sockets: 6,
            rejected: 7,
            dropped: u64::MAX,
        };
        let both = Traffic {
            volumes: [Volume { packets: 2, bytes: 4 }, Volume { packets: 6, bytes: 8 }],
            flows: 10,
            sockets: 12,
            rejected: 14,
            dropped: u64::MAX - 1,
        };
        assert_eq!(one.and(&one), both);
    }
}
