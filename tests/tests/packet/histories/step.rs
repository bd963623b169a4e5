// SPDX-License-Identifier: Apache-2.0

//! What histories are made of: plain values that say who does what, so that a history can be
//! printed, kept and played again, in either family.
//!
//! Backends and source ports are the programs' choice. So a reply is said to be one in a client's
//! flow, and where it comes from is seen when it is sent.

use proxy_tests::protocol::Protocol;
use serde::{Deserialize, Serialize};

use crate::programs::At;

/// A step of a history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Step {
    /// A program sees a packet.
    Send(Sent),
    /// Nothing has been heard in a flow for so many seconds.
    Silence { flow: Flow, seconds: u32 },
    /// All first fragments came so many seconds ago.
    AgeFragments { seconds: u32 },
    /// A Service port has these endpoints; under a Local policy, new flows get those of a list.
    Serve {
        service: u8,
        #[serde(with = "ProtocolName")]
        protocol: Protocol,
        endpoints: Vec<u8>,
        local: Option<Vec<u8>>,
    },
    /// There is no such Service port any more.
    Remove {
        service: u8,
        #[serde(with = "ProtocolName")]
        protocol: Protocol,
    },
    /// The client's device is a port of a bridge, or not.
    BridgePort(bool),
    /// The host has an address towards the client, or not.
    HostAddress(bool),
    /// There is a Service CIDR, or not.
    ServiceCidr(bool),
}

/// A client's flow, in the client's eyes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Flow {
    #[serde(with = "ProtocolName")]
    pub(super) protocol: Protocol,
    /// The client's pod, and its port.
    pub(super) host: u8,
    pub(super) port: u16,
    pub(super) to: Target,
}

/// What a client dials.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) enum Target {
    /// The port of a VIP.
    Service { service: u8, port: u16 },
    /// An endpoint itself.
    Endpoint(u8),
    /// An address of the Service range that is nobody's.
    Nobody,
    /// A pod that is no endpoint.
    Stranger,
}

/// A packet, and where it is seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sent {
    /// Where else than it belongs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) at: Option<At>,
    pub(super) who: Who,
    pub(super) what: What,
    #[serde(default, skip_serializing_if = "Dress::is_plain")]
    pub(super) dress: Dress,
    /// An error about that packet is sent in its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<Error>,
    /// What is done to the frame in the end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) changes: Vec<Change>,
}

/// Whose packet it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Who {
    /// The client's.
    Request(Flow),
    /// The backend's, to whom it takes for the client.
    Reply(Flow),
    /// From what the client dialled, as if nobody translated.
    Untranslated(Flow),
}

impl Who {
    pub(super) const fn flow(self) -> Flow {
        match self {
            Self::Request(flow) | Self::Reply(flow) | Self::Untranslated(flow) => flow,
        }
    }
}

/// What a packet is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum What {
    /// A segment or a datagram, by the flow's protocol; flags as in the header.
    Usual { flags: u8, sequence: u32, acknowledgment: u32 },
    /// An echo request.
    Echo,
    /// Another protocol.
    Other(u8),
}

/// What beside that is unusual in a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(clippy::struct_excessive_bools, reason = "each says something else")]
pub(super) struct Dress {
    /// The length of what it carries.
    pub(super) payload: u16,
    pub(super) label: u16,
    pub(super) options: bool,
    pub(super) to: Receiver,
    pub(super) vlan: bool,
    pub(super) authentication: bool,
    /// Whether there is a routing header with segments left (IPv6).
    pub(super) source_route: bool,
    /// Whether a datagram lacks its checksum (IPv4).
    pub(super) no_checksum: bool,
    /// Which of its fragments it is.
    pub(super) cut: Option<Cut>,
}

impl Dress {
    fn is_plain(&self) -> bool {
        *self == Self::default()
    }
}

/// Whose hardware address a frame is sent to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Receiver {
    #[default]
    Node,
    Bridge,
    Neighbour,
    Group,
}

/// A fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Cut {
    /// How much each carries, in units of eight bytes.
    pub(super) length: u16,
    /// Which one it is; the last one if there are not so many.
    pub(super) number: u8,
}

/// An ICMP error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Error {
    /// Which one, of a list.
    pub(super) kind: u8,
    /// Whether a router reports it, and not whom the packet was sent to.
    pub(super) by_router: bool,
    /// How much is quoted, in bytes.
    pub(super) quoted: u16,
    pub(super) options: bool,
}

/// What is done to a frame.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Change {
    /// One bit of one byte, counted round and round.
    Flip { at: u16, bit: u8 },
    /// Two bytes behind the Ethernet header.
    Set { at: u16, value: u16 },
    /// So many bytes are missing at the end.
    Cut(u16),
    /// So many bytes of this value come behind it.
    Pad { count: u16, value: u8 },
    /// One more extension header before all others (IPv6).
    Extension(u8),
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Protocol")]
enum ProtocolName {
    Tcp,
    Udp,
    Sctp,
}
