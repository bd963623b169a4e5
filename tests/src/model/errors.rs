// SPDX-License-Identifier: Apache-2.0

//! ICMP errors (`docs/packets.md`): about packets of flows they are translated, outside and inside.

use std::net::SocketAddr;

use anyhow::Result;

use super::expect::Expected;
use super::flows::Flow;
use super::frame::{Kind, View};
use super::judge::Addressee;
use super::{FlowKey, Hook, Model, Rule, Run, Verdict};
use crate::protocol::Protocol;

/// What a flow makes of an error about one of its packets.
pub(super) struct Known {
    quote: View,
    protocol: Protocol,
    flow: Flow,
    /// What the quoted packet was sent from and to.
    sent: [SocketAddr; 2],
    is_about_reply: bool,
}

impl Model {
    /// The flow that translates an error, if there is one.
    pub(super) fn known_error(
        &self,
        hook: Hook,
        addressee: Addressee,
        view: &View,
        run: &Run<'_>,
    ) -> Option<Known> {
        let quote = view.read_quote(run.sent).filter(|quote| quote.source == view.destination)?;
        let Kind::Transport(protocol) = quote.kind else { return None };
        let (from, to) = (quote.source_socket(), quote.destination_socket());
        // About what has been answered: it goes where that came from.
        let about_reply = FlowKey { protocol, client: to, frontend: from };
        let about_reply = (hook == Hook::Ingress)
            .then(|| self.flows.get_key_value(&about_reply))
            .flatten()
            .map(|(key, flow)| (*key, *flow, [flow.backend, flow.source]));
        let about_request = || {
            let key = self.flow_of_reply(protocol, to, from, hook == Hook::Ingress)?;
            let flow = *self.flows.get(&key)?;
            Some((key, flow, [key.client, key.frontend]))
        };
        let is_about_reply = about_reply.is_some();
        let known = about_reply.or_else(about_request).filter(|(key, flow, _)| {
            let is_untranslated = flow.number.is_none() && flow.source == key.client;
            !is_untranslated && (addressee == Addressee::Node || flow.number.is_none())
        });
        known.map(|(_, flow, sent)| Known { quote, protocol, flow, sent, is_about_reply })
    }

    pub(super) fn judge_error(
        &mut self,
        hook: Hook,
        addressee: Addressee,
        view: &View,
        run: &Run<'_>,
    ) -> Result<Rule> {
        let Some(known) = self.known_error(hook, addressee, view, run) else {
            return run.is_untouched().map(|()| Rule::ErrorPassed);
        };
        let Known { quote, protocol, flow, sent: [source, destination], is_about_reply } = known;
        // Routers keep their addresses, the other end has the one that it is known by.
        let reporter =
            if view.source == quote.destination { destination.ip() } else { view.source };
        let mut expected = Expected::unchanged(run.sent)
            .between(view, reporter, source.ip())
            .translated(&quote, protocol, source, destination)
            .with_error_checksum(view);
        let rule = if flow.is_hairpin && self.is_uplink {
            // Through the host's stack.
            run.is(Verdict::Pass, expected)?;
            Rule::ErrorInHairpin
        } else if flow.is_hairpin {
            run.is(Verdict::SendBack, expected.turned())?;
            Rule::ErrorInHairpin
        } else if is_about_reply {
            if let Some(mac) = self.neighbours.get(&flow.backend.ip())
                && flow.number.is_some()
            {
                expected = expected.addressed(*mac);
            }
            run.is(Verdict::Pass, expected)?;
            Rule::ErrorAboutReply
        } else {
            run.is(Verdict::Pass, expected)?;
            Rule::ErrorAboutRequest
        };
        self.count("icmp-error-translated");
        Ok(rule)
    }
}
