// SPDX-License-Identifier: Apache-2.0

//! Flows: how they are opened, seen, confirmed and ended.

use std::net::SocketAddr;
use std::time::Duration;

use super::frame::View;
use super::segment::Segment;
use super::{FlowKey, Model};
use crate::protocol::Protocol;

/// What is taken for a second (`docs/adr/0007-time-outs.md`): 15 ticks of 2^26 ns.
pub(super) const SECOND: Duration = Duration::from_nanos(15 << 26);
/// A time stamp is written once a second, and time is counted in ticks: by so much a flow may seem
/// older than it is.
const COARSE: Duration = Duration::from_millis(1_300);
/// By so much it may seem younger.
const TICK: Duration = Duration::from_millis(150);
/// The time before the first packet: more than any time-out.
pub(super) const BEGINNING: Duration = Duration::from_secs(1 << 20);

/// Which side of a flow a packet comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Client,
    Backend,
}

/// A flow.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "what is known of it")]
pub(super) struct Flow {
    /// The client, as the backend sees it.
    pub(super) source: SocketAddr,
    pub(super) backend: SocketAddr,
    /// The number of the backend among those that serve; none of a direct connection.
    pub(super) number: Option<u64>,
    pub(super) is_hairpin: bool,
    is_confirmed: bool,
    has_answer: bool,
    /// The number that proves the client.
    proof: Option<u32>,
    /// Whether the client and the backend have sent a FIN.
    finished: [bool; 2],
    /// Whether the last segment was a RST.
    is_reset: bool,
    /// When the last packet was seen.
    pub(super) heard: Duration,
}

/// Whether something is over that has been silent for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    Yes,
    No,
    Perhaps,
}

/// Whether something is over after a silence.
pub(super) fn after(silence: Duration, seconds: u32) -> Over {
    let limit = SECOND * seconds;
    if silence > limit + TICK {
        Over::Yes
    } else if silence + COARSE < limit {
        Over::No
    } else {
        Over::Perhaps
    }
}

impl Flow {
    /// A flow that has just been opened.
    pub(super) const fn new(
        source: SocketAddr,
        backend: SocketAddr,
        number: Option<u64>,
        is_hairpin: bool,
        now: Duration,
    ) -> Self {
        Self {
            source,
            backend,
            number,
            is_hairpin,
            is_confirmed: false,
            has_answer: false,
            proof: None,
            finished: [false; 2],
            is_reset: false,
            heard: now,
        }
    }

    /// The time-outs of `docs/adr/0007-time-outs.md`, in seconds.
    const fn timeout(&self, protocol: Protocol) -> u32 {
        if self.is_reset {
            return 10;
        }
        match (self.is_confirmed, protocol, self.finished) {
            (false, _, _) => 60,
            (true, Protocol::Udp, _) | (true, Protocol::Tcp, [true, true]) => 120,
            (true, Protocol::Tcp, [false, false]) => 86_400,
            (true, Protocol::Tcp, _) => 3_600,
            (true, Protocol::Sctp, [true, true]) => 10,
            (true, Protocol::Sctp, _) => 210,
        }
    }

    pub(super) fn over(&self, protocol: Protocol, now: Duration) -> Over {
        after(now.saturating_sub(self.heard), self.timeout(protocol))
    }

    /// Whether a connection has ended: one that is confirmed is not by a RST alone.
    pub(super) const fn is_closed(&self) -> bool {
        self.is_reset && !self.is_confirmed || self.finished[0] && self.finished[1]
    }

    /// Whether its replies may be another's: a RST may mean that its sender's port is in use again.
    pub(super) const fn gives_way(&self) -> bool {
        self.is_reset || self.is_closed()
    }

    /// Takes note of a packet; says whether it confirmed the flow.
    pub(super) fn observe(
        &mut self,
        view: &View,
        protocol: Protocol,
        side: Side,
        now: Duration,
    ) -> bool {
        let segment = view.segment;
        let confirms = side == Side::Client && !self.is_confirmed && self.proves(segment, protocol);
        self.is_confirmed |= confirms;
        self.heard = now;
        self.is_reset = segment.is_some_and(Segment::is_reset);
        let is_fin = segment.is_some_and(Segment::is_fin);
        match side {
            Side::Client => self.finished[0] |= is_fin,
            Side::Backend => {
                self.finished[1] |= is_fin;
                self.has_answer = true;
                if let Some(segment) = segment
                    && segment.is_syn()
                    && segment.is_ack()
                    && !segment.is_reset()
                {
                    self.proof = Some(segment.proof());
                }
            }
        }
        confirms
    }

    /// Whether a packet of the client's proves that it is there: by the backend's number, or by
    /// being a datagram after a reply.
    fn proves(&self, segment: Option<Segment>, protocol: Protocol) -> bool {
        match protocol {
            Protocol::Udp => self.has_answer,
            Protocol::Tcp | Protocol::Sctp => segment.is_some_and(|segment| {
                segment.is_ack()
                    && !segment.is_syn()
                    && !segment.is_reset()
                    && self.proof == Some(segment.acknowledgment)
            }),
        }
    }
}

impl Model {
    /// Whether a flow serves a packet of its client's.
    pub(super) fn serves(&self, key: &FlowKey, flow: &Flow, view: &View) -> bool {
        if !view.opens() {
            return true;
        }
        if flow.is_closed() {
            return false;
        }
        let Some(number) = flow.number else { return true };
        self.frontends
            .get(&(key.protocol, key.frontend))
            .and_then(|frontend| frontend.serving.get(&flow.backend))
            .is_some_and(|serving| *serving == number)
    }

    /// The flow, other than `key`, whose replies those of `key` would be taken for.
    pub(super) fn holder(
        &self,
        key: &FlowKey,
        source: SocketAddr,
        backend: SocketAddr,
    ) -> Option<FlowKey> {
        let mut flows = self.flows.iter();
        flows
            .find(|(other, flow)| {
                *other != key
                    && other.protocol == key.protocol
                    && (flow.source, flow.backend) == (source, backend)
            })
            .map(|(other, _)| *other)
    }

    /// Whether another flow keeps the replies that `key` would have: one that has ended gives them
    /// up to a SYN.
    pub(super) fn is_taken(&self, key: &FlowKey, source: SocketAddr, backend: SocketAddr) -> bool {
        self.holder(key, source, backend)
            .and_then(|holder| self.flows.get(&holder))
            .is_some_and(|flow| !flow.gives_way())
    }

    /// Whether a packet is to an endpoint itself.
    pub(super) fn is_endpoint(&self, protocol: Protocol, socket: SocketAddr) -> bool {
        let mut frontends = self.frontends.iter();
        frontends.any(|((other, _), frontend)| {
            *other == protocol && frontend.serving.contains_key(&socket)
        })
    }

    /// Whether an address is a VIP.
    pub(super) fn is_vip(&self, address: std::net::IpAddr) -> bool {
        self.frontends.keys().any(|(_, frontend)| frontend.ip() == address)
    }

    /// The flow that a packet at a client's egress answers in, or one that a pod sends to itself.
    pub(super) fn flow_of_reply(
        &self,
        protocol: Protocol,
        backend: SocketAddr,
        source: SocketAddr,
        is_hairpin: bool,
    ) -> Option<FlowKey> {
        self.flows
            .iter()
            .find(|(key, flow)| {
                key.protocol == protocol
                    && flow.is_hairpin == is_hairpin
                    && (flow.backend, flow.source) == (backend, source)
            })
            .map(|(key, _)| *key)
    }
}
