// SPDX-License-Identifier: Apache-2.0

//! What the NAT of cluster IPs must do to a packet.
//!
//! The model is told the frontends and their backends, and is shown each
//! frame that entered a program, with what came out, byte by byte. It does
//! not predict: which backend a new flow gets is the program's choice, but
//! from then on the model holds it to that choice. It is written from the
//! rules alone (`ARCHITECTURE.md`, `docs/packets.md` and the records in
//! `docs/adr`) and shares no code with the programs.
//!
//! Where the rules leave two things to the program it may do either: a flow
//! may be over or not for a moment around its time-out, since time stamps
//! are a second coarse; and so may what is known of a first fragment.

mod configure;
mod errors;
mod expect;
mod flows;
mod fragments;
mod frame;
mod guard;
mod judge;
mod network;
mod refusal;
mod requests;
mod rule;
mod segment;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

pub use configure::Route;
pub use rule::Rule;

use crate::packet::Packet;
use crate::protocol::Protocol;

/// Where a program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hook {
    /// Frames from a client.
    Ingress,
    /// Frames to a client.
    Egress,
    /// Frames that leave the node: the egress of an uplink.
    UplinkEgress,
}

/// What a program decided about a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on.
    Pass,
    /// It is lost.
    Drop,
    /// It goes back out of the device that it came by.
    SendBack,
}

/// What came out of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What was decided.
    pub verdict: Verdict,
    /// The packet as it is afterwards.
    pub packet: Packet,
}

/// A frame that entered a program, and what came out.
#[derive(Clone, Copy, Debug)]
struct Run<'a> {
    sent: &'a [u8],
    verdict: Verdict,
    frame: &'a [u8],
}

/// What is to become of TCP segments that belong to no flow and start none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strays {
    /// They pass, since the flow may be another proxy's.
    Pass,
    /// They are answered with a RST.
    Refuse,
}

/// What the model knows of a frontend.
#[derive(Clone, Debug, Default)]
struct Frontend {
    /// All endpoints that serve, each with a number that is its own from when it
    /// began to serve until it stops.
    serving: BTreeMap<SocketAddr, u64>,
    /// Those that new flows may get.
    eligible: BTreeSet<SocketAddr>,
    /// Whether a policy keeps new flows from endpoints that there are.
    is_local: bool,
}

/// A client's flow, in the client's eyes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct FlowKey {
    protocol: Protocol,
    client: SocketAddr,
    frontend: SocketAddr,
}

/// The model.
#[derive(Clone, Debug)]
pub struct Model {
    frontends: BTreeMap<(Protocol, SocketAddr), Frontend>,
    flows: BTreeMap<FlowKey, flows::Flow>,
    firsts: BTreeMap<fragments::Name, fragments::First>,
    strays: Strays,
    hairpin_sources: BTreeSet<IpAddr>,
    /// Whether clients and backends meet at an uplink whose driver handles
    /// their packets.
    is_uplink: bool,
    source_ports: RangeInclusive<u16>,
    neighbours: BTreeMap<IpAddr, [u8; 6]>,
    /// The hardware address of the client's device, if frames to others do
    /// not count, and that of its bridge.
    device: Option<([u8; 6], Option<[u8; 6]>)>,
    service_cidrs: Vec<(IpAddr, u8)>,
    now: Duration,
    /// The number of the endpoint that begins to serve next.
    next_number: u64,
    counts: BTreeMap<&'static str, u64>,
}
