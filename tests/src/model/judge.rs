// SPDX-License-Identifier: Apache-2.0

//! How the model judges.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};

use super::{FlowKey, Model, Outcome, Strays, Translated, Verdict, refusal};
use crate::packet::{Content, Packet, TcpFlags};
use crate::protocol::Protocol;

impl Model {
    /// Judges what became of a packet that a client sent.
    pub fn from_client(&mut self, sent: &Packet, outcome: &Outcome) -> Result<()> {
        self.judge_from_client(sent, outcome)
            .with_context(|| format!("from the client: {sent:?}\nbecame: {outcome:?}"))
    }

    /// Judges what became of a packet on its way to a client.
    pub fn to_client(&self, sent: &Packet, outcome: &Outcome) -> Result<()> {
        self.judge_to_client(sent, outcome)
            .with_context(|| format!("to the client: {sent:?}\nbecame: {outcome:?}"))
    }

    fn judge_from_client(&mut self, sent: &Packet, outcome: &Outcome) -> Result<()> {
        if matches!(sent.content, Content::Icmp(_)) || sent.fragment.is_some() {
            return Ok(());
        }
        let Some((protocol, client, target)) = judged(sent) else {
            return expect(outcome, Verdict::Pass, sent);
        };
        if let Some((key, _)) = self.flow_of_reply(protocol, client, target)
            && client.ip() == key.client.ip()
        {
            // The second half of a hairpin; the pod answers itself.
            return expect(outcome, Verdict::SendBack, &reply(sent, key).turned());
        }
        let key = FlowKey { protocol, client, frontend: target };
        let kept = self.flows.get(&key).copied();
        let Some(backends) = self.frontends.get(&(protocol, target)).cloned() else {
            return self.judge_without_frontend(sent, outcome, key, kept);
        };
        match kept {
            Some(flow) if backends.contains(&flow.backend) || is_midstream(sent) => {
                self.expect_translated(sent, outcome, key, flow)
            }
            None if is_midstream(sent) => self.expect_stray(sent, outcome),
            _ if backends.is_empty() => {
                let _ = self.flows.remove(&key);
                refusal::expect(sent, outcome)
            }
            _ => {
                let _ = self.flows.remove(&key);
                let flow = self.read_choice(outcome, key, &backends)?;
                self.expect_translated(sent, outcome, key, flow)?;
                let _ = self.flows.insert(key, flow);
                Ok(())
            }
        }
    }

    /// The target is no frontend; its address may be one's.
    fn judge_without_frontend(
        &mut self,
        sent: &Packet,
        outcome: &Outcome,
        key: FlowKey,
        kept: Option<Translated>,
    ) -> Result<()> {
        if let Some(flow) = kept
            && (is_midstream(sent) || flow.backend == key.frontend)
        {
            return self.expect_translated(sent, outcome, key, flow);
        }
        if self.frontends.keys().any(|(_, frontend)| frontend.ip() == key.frontend.ip()) {
            return if is_midstream(sent) {
                self.expect_stray(sent, outcome)
            } else {
                refusal::expect(sent, outcome)
            };
        }
        // A direct connection; its reply must not be taken for another's.
        let direct =
            Translated { protocol: key.protocol, source: key.client, backend: key.frontend };
        if is_midstream(sent) || !self.is_taken(direct, key) {
            if !is_midstream(sent) && self.is_endpoint(direct) {
                let _ = self.flows.insert(key, direct);
            }
            return expect(outcome, Verdict::Pass, sent);
        }
        let flow = self.read_choice(outcome, key, &BTreeSet::from([key.frontend]))?;
        self.expect_translated(sent, outcome, key, flow)?;
        let _ = self.flows.insert(key, flow);
        Ok(())
    }

    fn judge_to_client(&self, sent: &Packet, outcome: &Outcome) -> Result<()> {
        if matches!(sent.content, Content::Icmp(_)) || sent.fragment.is_some() {
            return Ok(());
        }
        let flow = judged(sent)
            .and_then(|(protocol, backend, client)| self.flow_of_reply(protocol, backend, client))
            // Both halves of a hairpin are done where the pod sends.
            .filter(|(key, flow)| key.client.ip() != flow.backend.ip());
        match flow {
            Some((key, _)) => expect(outcome, Verdict::Pass, &reply(sent, key)),
            None => expect(outcome, Verdict::Pass, sent),
        }
    }

    /// Reads from the outcome which backend and which source a new flow got,
    /// and checks that it may have them.
    fn read_choice(
        &self,
        outcome: &Outcome,
        key: FlowKey,
        backends: &BTreeSet<SocketAddr>,
    ) -> Result<Translated> {
        let translated = judged(&outcome.packet).context("it has no ports any more")?;
        let (protocol, source, backend) = translated;
        let flow = Translated { protocol, source, backend };
        ensure!(protocol == key.protocol, "it is another protocol now");
        ensure!(backends.contains(&backend), "{backend} is none of {backends:?}");
        ensure!(!self.is_taken(flow, key), "{source} to {backend} is another flow already");
        let unchanged = Translated { source: key.client, ..flow };
        if backend.ip() == key.client.ip() {
            ensure!(self.hairpin_sources.contains(&source.ip()), "{source} is no hairpin source");
        } else if source != key.client {
            ensure!(source.ip() == key.client.ip(), "the client's address became {source}");
            ensure!(self.is_taken(unchanged, key), "the port changed without need, to {source}");
        }
        Ok(flow)
    }

    fn expect_translated(
        &self,
        sent: &Packet,
        outcome: &Outcome,
        key: FlowKey,
        flow: Translated,
    ) -> Result<()> {
        let translated = sent.clone().to(flow.backend).from(flow.source);
        if flow.backend.ip() == key.client.ip() {
            return expect(outcome, Verdict::SendBack, &translated.turned());
        }
        let mut addressed = translated;
        if let Some(mac) = self.neighbours.get(&flow.backend.ip()) {
            addressed.link.destination = *mac;
        }
        expect(outcome, Verdict::Pass, &addressed)
    }

    fn expect_stray(&self, sent: &Packet, outcome: &Outcome) -> Result<()> {
        match self.strays {
            Strays::Pass => expect(outcome, Verdict::Pass, sent),
            Strays::Refuse => refusal::expect(sent, outcome),
        }
    }

    /// Whether a direct connection goes where a translated one may go.
    fn is_endpoint(&self, direct: Translated) -> bool {
        let mut backends = self.frontends.iter();
        backends.any(|((protocol, _), backends)| {
            *protocol == direct.protocol && backends.contains(&direct.backend)
        })
    }

    /// Whether the replies of `flow` could be taken for those of another
    /// flow than `key`.
    fn is_taken(&self, flow: Translated, key: FlowKey) -> bool {
        self.flows.iter().any(|(other, taken)| *other != key && *taken == flow)
    }

    fn flow_of_reply(
        &self,
        protocol: Protocol,
        backend: SocketAddr,
        source: SocketAddr,
    ) -> Option<(FlowKey, Translated)> {
        let wanted = Translated { protocol, source, backend };
        self.flows.iter().find(|(_, flow)| **flow == wanted).map(|(key, flow)| (*key, *flow))
    }
}

/// Protocol, source and destination, of packets that are subject to NAT.
fn judged(packet: &Packet) -> Option<(Protocol, SocketAddr, SocketAddr)> {
    let other = packet.authentication
        || packet.link.vlan.is_some()
        || packet.segments_left.is_some_and(|left| left > 0);
    if other {
        return None;
    }
    Some((packet.protocol()?, packet.source_socket()?, packet.destination_socket()?))
}

/// Whether the packet cannot start a flow.
fn is_midstream(packet: &Packet) -> bool {
    matches!(&packet.content, Content::Tcp(tcp)
        if !tcp.flags.contains(TcpFlags::SYN) || tcp.flags.contains(TcpFlags::ACK))
}

/// A backend's reply as the client must see it.
fn reply(sent: &Packet, key: FlowKey) -> Packet {
    sent.clone().from(key.frontend).to(key.client)
}

impl Packet {
    /// With the hardware addresses the other way round.
    pub(super) fn turned(mut self) -> Self {
        std::mem::swap(&mut self.link.source, &mut self.link.destination);
        self
    }
}

fn expect(outcome: &Outcome, verdict: Verdict, packet: &Packet) -> Result<()> {
    ensure!(outcome.verdict == verdict, "the verdict should be {verdict:?}");
    ensure!(outcome.packet == *packet, "it should be: {packet:?}");
    Ok(())
}
