// SPDX-License-Identifier: Apache-2.0

//! What a client sends, and what is answered in its flows.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};

use super::expect::Expected;
use super::flows::{Flow, Side};
use super::fragments::is_out_of_reach;
use super::frame::{Kind, View};
use super::judge::Addressee;
use super::{FlowKey, Hook, Model, Rule, Run, Strays, Verdict};
use crate::protocol::Protocol;

impl Model {
    pub(super) fn judge_request(
        &mut self,
        addressee: Addressee,
        protocol: Protocol,
        view: &View,
        run: &Run<'_>,
    ) -> Result<Rule> {
        let (client, target) = (view.source_socket(), view.destination_socket());
        let key = FlowKey { protocol, client, frontend: target };
        if let Some(flow) = self.flows.get(&key).copied() {
            let is_for_neighbour = addressee == Addressee::Neighbour && flow.number.is_some();
            if self.serves(&key, &flow, view) || is_for_neighbour {
                return if is_for_neighbour {
                    run.is_untouched().map(|()| Rule::ForSomebodyElse)
                } else {
                    self.expect_request(key, view, run)
                };
            }
            let _ = self.flows.remove(&key);
        } else if let Some(key) = self.flow_of_reply(protocol, client, target, true) {
            if addressee == Addressee::Neighbour {
                return run.is_untouched().map(|()| Rule::ForSomebodyElse);
            }
            return self.expect_reply(Hook::Ingress, key, view, run);
        }
        self.judge_new(addressee, key, view, run)
    }

    /// A packet that belongs to no flow.
    fn judge_new(
        &mut self,
        addressee: Addressee,
        key: FlowKey,
        view: &View,
        run: &Run<'_>,
    ) -> Result<Rule> {
        let Some(frontend) = self.frontends.get(&(key.protocol, key.frontend)).cloned() else {
            return self.judge_new_without_frontend(addressee, key, view, run);
        };
        if addressee == Addressee::Neighbour {
            return run.is_untouched().map(|()| Rule::ForSomebodyElse);
        }
        if !view.opens() {
            return self.judge_stray(view, run);
        }
        if !frontend.eligible.is_empty() {
            return self.judge_opening(key, &frontend.eligible, view, run);
        }
        if frontend.is_local {
            run.is_dropped()?;
            self.count("drop-no-local-endpoint");
            return Ok(Rule::DroppedLocal);
        }
        self.expect_refusal(view, run)?;
        self.count("reject-no-endpoints");
        Ok(Rule::RefusedNoEndpoints)
    }

    /// A packet to a VIP's unknown port, to an endpoint itself, or to anybody else.
    fn judge_new_without_frontend(
        &mut self,
        addressee: Addressee,
        key: FlowKey,
        view: &View,
        run: &Run<'_>,
    ) -> Result<Rule> {
        if self.is_endpoint(key.protocol, key.frontend) {
            if view.opens() && key.client.ip() != key.frontend.ip() && !self.is_uplink {
                return self.judge_opening(key, &BTreeSet::from([key.frontend]), view, run);
            }
        } else if self.is_vip(view.destination) && addressee == Addressee::Node {
            if !view.opens() {
                return self.judge_stray(view, run);
            }
            self.expect_refusal(view, run)?;
            self.count("reject-no-port");
            return Ok(Rule::RefusedNoPort);
        }
        run.is_untouched().map(|()| Rule::NotOurs)
    }

    fn judge_stray(&mut self, view: &View, run: &Run<'_>) -> Result<Rule> {
        if view.is_reset() {
            return run.is_untouched().map(|()| Rule::PassedReset);
        }
        if self.strays == Strays::Pass {
            return run.is_untouched().map(|()| Rule::PassedStray);
        }
        self.expect_refusal(view, run)?;
        self.count("reject-no-flow");
        Ok(Rule::RefusedStray)
    }

    /// The first packet of a flow, to one of these backends.
    fn judge_opening(
        &mut self,
        key: FlowKey,
        backends: &BTreeSet<SocketAddr>,
        view: &View,
        run: &Run<'_>,
    ) -> Result<Rule> {
        let is_uplink = self.is_uplink;
        let is_own = |backend: &SocketAddr| is_uplink || backend.ip() == key.client.ip();
        if self.hairpin_sources.is_empty()
            && run.verdict == Verdict::Drop
            && backends.iter().any(is_own)
        {
            self.count("drop-hairpin-no-host-address");
            return Ok(Rule::NoHairpin);
        }
        let left = View::read(run.frame).context("it cannot be read any more")?;
        let (source, backend) = (left.source_socket(), left.destination_socket());
        ensure!(left.kind == view.kind, "it is another protocol now");
        ensure!(backends.contains(&backend), "{backend} is none of {backends:?}");
        ensure!(!self.is_taken(&key, source, backend), "{source} to {backend} is another flow's");
        let is_hairpin = is_own(&backend);
        if is_hairpin {
            ensure!(self.hairpin_sources.contains(&source.ip()), "{source} is no hairpin source");
        } else {
            ensure!(source.ip() == key.client.ip(), "the client's address became {source}");
        }
        let has_other_port = !is_hairpin && source != key.client;
        if has_other_port {
            ensure!(self.is_taken(&key, key.client, backend), "it needs no other port: {source}");
        }
        if is_hairpin || has_other_port {
            ensure!(self.source_ports.contains(&source.port()), "{source} is out of range");
        }
        let frontend = self.frontends.get(&(key.protocol, key.frontend));
        let number = frontend.and_then(|frontend| frontend.serving.get(&backend).copied());
        let former = self.holder(&key, source, backend);
        if let Some(former) = former {
            let _ = self.flows.remove(&former);
        }
        let _ = self.flows.insert(key, Flow::new(source, backend, number, is_hairpin, self.now));
        self.count("flow-created");
        if has_other_port {
            self.count("source-port-translated");
        }
        let rule = self.expect_request(key, view, run)?;
        Ok(match (rule, number) {
            (Rule::FirstFragment, _) => rule,
            _ if former.is_some() => Rule::OpenedInPlaceOfAnother,
            _ if is_hairpin => Rule::OpenedHairpin,
            (_, None) if has_other_port => Rule::OpenedDirectWithAnotherPort,
            (_, None) => Rule::OpenedDirect,
            _ if has_other_port => Rule::OpenedWithAnotherPort,
            _ => Rule::Opened,
        })
    }

    /// A packet of a client's flow.
    fn expect_request(&mut self, key: FlowKey, view: &View, run: &Run<'_>) -> Result<Rule> {
        let now = self.now;
        let flow = self.flows.get_mut(&key).context("the model lost a flow")?;
        let is_confirmed = flow.observe(view, key.protocol, Side::Client, now);
        let flow = *flow;
        if is_confirmed {
            self.count("flow-confirmed");
        }
        if flow.number.is_none() && flow.source == key.client {
            return run.is_untouched().map(|()| Rule::DirectRequest);
        }
        if is_out_of_reach(key.protocol, view, [flow.source.port(), flow.backend.port()]) {
            return self.expect_dropped_fragment(run);
        }
        self.remember_translated(Hook::Ingress, key.protocol, view);
        let mut expected = Expected::unchanged(run.sent);
        expected = expected.translated(view, key.protocol, flow.source, flow.backend);
        if flow.is_hairpin {
            run.is(Verdict::SendBack, self.sent_back(view, expected))?;
        } else {
            if let Some(mac) = self.neighbours.get(&flow.backend.ip())
                && flow.number.is_some()
            {
                expected = expected.addressed(*mac);
            }
            run.is(Verdict::Pass, expected)?;
        }
        Ok(rule(view, if flow.is_hairpin { Rule::HairpinRequest } else { Rule::Request }))
    }

    /// A packet that answers in a flow.
    pub(super) fn expect_reply(
        &mut self,
        hook: Hook,
        key: FlowKey,
        view: &View,
        run: &Run<'_>,
    ) -> Result<Rule> {
        let now = self.now;
        let flow = self.flows.get_mut(&key).context("the model lost a flow")?;
        let _ = flow.observe(view, key.protocol, Side::Backend, now);
        let flow = *flow;
        if flow.number.is_none() && flow.source == key.client {
            return run.is_untouched().map(|()| Rule::DirectReply);
        }
        if is_out_of_reach(key.protocol, view, [key.frontend.port(), key.client.port()]) {
            return self.expect_dropped_fragment(run);
        }
        self.remember_translated(hook, key.protocol, view);
        let expected = Expected::unchanged(run.sent);
        let expected = expected.translated(view, key.protocol, key.frontend, key.client);
        if flow.is_hairpin {
            run.is(Verdict::SendBack, self.sent_back(view, expected))?;
        } else {
            run.is(Verdict::Pass, expected)?;
        }
        Ok(rule(view, if flow.is_hairpin { Rule::HairpinReply } else { Rule::Reply }))
    }

    /// The same at an uplink, where what is not translated may be kept from leaving.
    pub(super) fn expect_reply_that_leaves(
        &mut self,
        key: FlowKey,
        view: &View,
        run: &Run<'_>,
    ) -> Result<Rule> {
        let now = self.now;
        let flow = self.flows.get_mut(&key).context("the model lost a flow")?;
        if flow.number.is_none() && flow.source == key.client {
            let _ = flow.observe(view, key.protocol, Side::Backend, now);
            return self.judge_guard(Some(*view), run);
        }
        self.expect_reply(Hook::Egress, key, view, run)
    }

    /// A packet both of whose ends have been translated: it goes back to its pod, or on from the
    /// uplink.
    fn sent_back(&self, view: &View, expected: Expected) -> Expected {
        if self.is_uplink { expected.aged(view) } else { expected.turned() }
    }

    fn remember_translated(&mut self, hook: Hook, protocol: Protocol, view: &View) {
        if view.is_first {
            self.remember(hook, view, protocol);
        }
    }

    /// A fragment that is not the first.
    pub(super) fn judge_later_request(
        &mut self,
        addressee: Addressee,
        mut view: View,
        run: &Run<'_>,
    ) -> Result<Rule> {
        if let Some((protocol, ports)) = self.recall(Hook::Ingress, &view) {
            view.follow(ports);
            let (client, target) = (view.source_socket(), view.destination_socket());
            let key = FlowKey { protocol, client, frontend: target };
            if let Some(flow) = self.flows.get(&key) {
                let is_for_neighbour = addressee == Addressee::Neighbour && flow.number.is_some();
                return if is_for_neighbour {
                    run.is_untouched().map(|()| Rule::ForSomebodyElse)
                } else {
                    self.expect_request(key, &view, run)
                };
            }
            if let Some(key) = self.flow_of_reply(protocol, client, target, true)
                && addressee == Addressee::Node
            {
                return self.expect_reply(Hook::Ingress, key, &view, run);
            }
        }
        if addressee == Addressee::Node && self.is_vip(view.destination) {
            run.is_dropped()?;
            self.count("drop-fragment-without-first");
            return Ok(Rule::LaterFragmentDropped);
        }
        run.is_untouched().map(|()| Rule::LaterFragmentPassed)
    }
}

/// The rule of a packet that was translated: by its being a fragment, or else this one.
fn rule(view: &View, of_whole: Rule) -> Rule {
    match view.kind {
        Kind::Later => Rule::LaterFragment,
        _ if view.is_first => Rule::FirstFragment,
        _ => of_whole,
    }
}
