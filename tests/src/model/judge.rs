// SPDX-License-Identifier: Apache-2.0

//! How the model judges.

use std::net::IpAddr;

use anyhow::{Context as _, Result};

use super::frame::{self, Kind, View};
use super::{Hook, Model, Outcome, Rule, Run, Verdict};
use crate::packet::Packet;

/// Whom a frame is addressed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Addressee {
    /// The node.
    Node,
    /// A neighbour on the client's bridge.
    Neighbour,
    /// A group, or nobody who can be reached from here.
    Nobody,
}

impl Model {
    /// Judges what became of a packet that a client sent.
    pub fn from_client(&mut self, sent: &Packet, outcome: &Outcome) -> Result<()> {
        self.judge_packet(Hook::Ingress, sent, outcome)
    }

    /// Judges what became of a packet on its way to a client.
    pub fn to_client(&mut self, sent: &Packet, outcome: &Outcome) -> Result<()> {
        self.judge_packet(Hook::Egress, sent, outcome)
    }

    fn judge_packet(&mut self, hook: Hook, sent: &Packet, outcome: &Outcome) -> Result<()> {
        let frames = (sent.build()?, outcome.packet.build()?);
        self.judge(hook, &frames.0, outcome.verdict, &frames.1)
            .map(drop)
            .with_context(|| format!("at {hook:?}: {sent:?}\nbecame: {outcome:?}"))
    }

    /// Judges what became of a frame, and says by which rule. Fails if it is not what the rules
    /// say.
    pub fn judge(
        &mut self,
        hook: Hook,
        sent: &[u8],
        verdict: Verdict,
        frame: &[u8],
    ) -> Result<Rule> {
        let run = Run { sent, verdict, frame };
        let view = View::read(sent);
        let is_later = view.is_some_and(|view| view.kind == Kind::Later);
        if !self.forget_what_is_over(is_later) {
            return self.judge_at(hook, view, &run);
        }
        let before = self.clone();
        self.judge_at(hook, view, &run).or_else(|error| {
            *self = before;
            self.forget_what_is_uncertain();
            self.judge_at(hook, view, &run).map_err(|_| error)
        })
    }

    fn judge_at(&mut self, hook: Hook, view: Option<View>, run: &Run<'_>) -> Result<Rule> {
        match hook {
            Hook::Ingress => self.judge_ingress(view, run),
            Hook::Egress => self.judge_egress(view, run),
            Hook::UplinkEgress => self.judge_leaving(view, run),
        }
    }

    fn judge_ingress(&mut self, view: Option<View>, run: &Run<'_>) -> Result<Rule> {
        let addressee = self.addressee(run.sent);
        if addressee == Addressee::Nobody {
            return run.is_untouched().map(|()| Rule::ForSomebodyElse);
        }
        let Some(view) = view else {
            return run.is_untouched().map(|()| Rule::Untouchable);
        };
        match view.kind {
            Kind::Error => self.judge_error(Hook::Ingress, addressee, &view, run),
            Kind::Other if addressee == Addressee::Node && self.is_vip(view.destination) => {
                self.expect_refusal(&view, run)?;
                self.count("reject-no-port");
                Ok(Rule::RefusedProtocol)
            }
            Kind::Other => run.is_untouched().map(|()| Rule::NotOurs),
            Kind::Later => self.judge_later_request(addressee, view, run),
            Kind::Transport(protocol) => {
                self.forget_namesake(Hook::Ingress, &view);
                self.judge_request(addressee, protocol, &view, run)
            }
        }
    }

    fn judge_egress(&mut self, view: Option<View>, run: &Run<'_>) -> Result<Rule> {
        let Some(mut view) = view else {
            return run.is_untouched().map(|()| Rule::Untouchable);
        };
        let protocol = match view.kind {
            Kind::Error => return self.judge_error(Hook::Egress, Addressee::Node, &view, run),
            Kind::Other => return run.is_untouched().map(|()| Rule::NotOurs),
            Kind::Later => match self.recall(Hook::Egress, &view) {
                Some((protocol, ports)) => {
                    view.follow(ports);
                    protocol
                }
                None => return run.is_untouched().map(|()| Rule::LaterFragmentPassed),
            },
            Kind::Transport(protocol) => {
                self.forget_namesake(Hook::Egress, &view);
                protocol
            }
        };
        let (backend, source) = (view.source_socket(), view.destination_socket());
        if let Some(key) = self.flow_of_reply(protocol, backend, source, false) {
            return self.expect_reply(Hook::Egress, key, &view, run);
        }
        run.is_untouched().map(|()| Rule::NobodysReply)
    }

    /// By an uplink leaves what is translated as on its way to a client, and what may leave.
    fn judge_leaving(&mut self, view: Option<View>, run: &Run<'_>) -> Result<Rule> {
        let belongs = match view.map(|view| (view, view.kind)) {
            None | Some((_, Kind::Other)) => false,
            Some((view, Kind::Error)) => {
                self.known_error(Hook::Egress, Addressee::Node, &view, run).is_some()
            }
            Some((mut view, kind)) => {
                let protocol = if let Kind::Transport(protocol) = kind {
                    self.forget_namesake(Hook::Egress, &view);
                    Some(protocol)
                } else {
                    self.recall(Hook::Egress, &view).map(|(protocol, ports)| {
                        view.follow(ports);
                        protocol
                    })
                };
                let (backend, source) = (view.source_socket(), view.destination_socket());
                let known = protocol
                    .and_then(|protocol| self.flow_of_reply(protocol, backend, source, false));
                if let Some(key) = known {
                    return self.expect_reply_that_leaves(key, &view, run);
                }
                false
            }
        };
        if belongs { self.judge_egress(view, run) } else { self.judge_guard(view, run) }
    }

    fn addressee(&self, frame: &[u8]) -> Addressee {
        let Some(to) = frame.first_chunk::<6>() else { return Addressee::Nobody };
        match self.device {
            _ if to[0] & 1 != 0 => Addressee::Nobody,
            None => Addressee::Node,
            Some((own, _)) if *to == own => Addressee::Node,
            Some((_, Some(bridge))) if *to == bridge => Addressee::Node,
            Some((_, Some(_))) => Addressee::Neighbour,
            Some((_, None)) => Addressee::Nobody,
        }
    }

    /// The destination of a frame, if it is in a Service CIDR, and the node has sent it.
    pub(super) fn guarded(&self, sent: &[u8]) -> Option<IpAddr> {
        let family = frame::family(sent)?;
        let (at, length) = frame::addresses(family);
        let destination = frame::address(family, sent, frame::NETWORK + at + length)?;
        let mut ranges = self.service_cidrs.iter();
        let is_in_range = ranges.any(|(range, length)| frame::is_in(destination, *range, *length));
        let is_of_node =
            self.device.is_none_or(|(own, bridge)| sent[6..12] == bridge.unwrap_or(own));
        (is_in_range && is_of_node).then_some(destination)
    }
}
