// SPDX-License-Identifier: Apache-2.0

//! What must not leave the node (`docs/packets.md`, "Service CIDRs"). Nobody has come from outside
//! with an address of theirs, and all senders are processes of the node.

use std::net::SocketAddr;

use anyhow::Result;

use super::frame::{Kind, View};
use super::{Model, Rule, Run};
use crate::protocol::Protocol;

impl Model {
    pub(super) fn judge_guard(&mut self, view: Option<View>, run: &Run<'_>) -> Result<Rule> {
        let Some(destination) = self.guarded(run.sent) else {
            return run.is_untouched().map(|()| Rule::Leaves);
        };
        let is_vip = self.is_vip(destination);
        let is_amid = |view: &View| matches!(view.kind, Kind::Transport(_)) && !view.opens();
        if !is_vip && view.is_some_and(|view| is_amid(&view)) {
            return run.is_untouched().map(|()| Rule::LeavesAmidConnection);
        }
        let refused = view.filter(|view| match view.kind {
            Kind::Transport(protocol) => {
                view.opens() && !self.is_without_local(protocol, view.destination_socket())
            }
            Kind::Other => true,
            Kind::Later | Kind::Error => false,
        });
        if let Some(view) = refused.filter(|_| is_vip) {
            self.expect_refusal(&view, run)?;
            self.count("reject-service-cidr");
            return Ok(Rule::GuardRefused);
        }
        run.is_dropped()?;
        self.count("drop-service-cidr");
        Ok(Rule::GuardDropped)
    }

    /// Whether a Local policy keeps new flows from all endpoints of a frontend.
    fn is_without_local(&self, protocol: Protocol, frontend: SocketAddr) -> bool {
        let frontend = self.frontends.get(&(protocol, frontend));
        frontend.is_some_and(|frontend| frontend.is_local && frontend.eligible.is_empty())
    }
}
