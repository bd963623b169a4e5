// SPDX-License-Identifier: Apache-2.0

//! What the NAT of cluster IPs must do to a packet.
//!
//! The model is told the frontends and their backends, and is shown each
//! packet that entered a program, with what came out. It does not predict:
//! which backend a new flow gets is the program's choice, but from then on
//! the model holds it to that choice. It is written from the rules alone and
//! shares no code with the programs.
//!
//! Not judged: fragments, and ICMP messages.

mod judge;
mod refusal;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use crate::packet::Packet;
use crate::protocol::Protocol;

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

/// What is to become of TCP segments that belong to no flow and start none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strays {
    /// They pass, since the flow may be another proxy's.
    Pass,
    /// They are answered with a RST.
    Refuse,
}

/// A client's flow, in the client's eyes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct FlowKey {
    protocol: Protocol,
    client: SocketAddr,
    frontend: SocketAddr,
}

/// The same flow in the backend's eyes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Translated {
    protocol: Protocol,
    source: SocketAddr,
    backend: SocketAddr,
}

/// The model.
#[derive(Clone, Debug)]
pub struct Model {
    frontends: BTreeMap<(Protocol, SocketAddr), BTreeSet<SocketAddr>>,
    flows: BTreeMap<FlowKey, Translated>,
    strays: Strays,
    hairpin_sources: BTreeSet<IpAddr>,
    neighbours: BTreeMap<IpAddr, [u8; 6]>,
}

impl Model {
    /// A model without frontends.
    #[must_use]
    pub const fn new(strays: Strays) -> Self {
        Self {
            frontends: BTreeMap::new(),
            flows: BTreeMap::new(),
            strays,
            hairpin_sources: BTreeSet::new(),
            neighbours: BTreeMap::new(),
        }
    }

    /// Sets or replaces the backends of a frontend.
    pub fn set_backends(
        &mut self,
        protocol: Protocol,
        frontend: SocketAddr,
        backends: impl IntoIterator<Item = SocketAddr>,
    ) {
        drop(self.frontends.insert((protocol, frontend), backends.into_iter().collect()));
    }

    /// Removes a frontend; its flows stay.
    pub fn remove_frontend(&mut self, protocol: Protocol, frontend: SocketAddr) {
        drop(self.frontends.remove(&(protocol, frontend)));
    }

    /// Adds an address that a pod sees as the client when the client is the
    /// pod itself.
    pub fn add_hairpin_source(&mut self, address: IpAddr) {
        let _ = self.hairpin_sources.insert(address);
    }

    /// Sets the hardware address of a backend on the client's own bridge:
    /// packets to it are addressed to it.
    pub fn add_bridge_neighbour(&mut self, backend: IpAddr, mac: [u8; 6]) {
        let _ = self.neighbours.insert(backend, mac);
    }

    /// Forgets a flow, as after its time-out.
    pub fn expire(&mut self, protocol: Protocol, client: SocketAddr, frontend: SocketAddr) {
        let _ = self.flows.remove(&FlowKey { protocol, client, frontend });
    }

    /// The backend that the flow of a client has.
    #[must_use]
    pub fn backend(
        &self,
        protocol: Protocol,
        client: SocketAddr,
        frontend: SocketAddr,
    ) -> Option<SocketAddr> {
        self.flows.get(&FlowKey { protocol, client, frontend }).map(|flow| flow.backend)
    }
}
