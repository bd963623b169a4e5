// SPDX-License-Identifier: Apache-2.0

//! What must not leave the node (`docs/packets.md`, "Service CIDRs").

use anyhow::Result;

use super::frame::{Kind, View};
use super::{Model, Rule, Run};

impl Model {
    pub(super) fn judge_guard(&mut self, view: Option<View>, run: &Run<'_>) -> Result<Rule> {
        if !self.is_guarded(run.sent) {
            return run.is_untouched().map(|()| Rule::Leaves);
        }
        let answered = view.filter(|view| {
            let is_answered = match view.kind {
                Kind::Transport(_) => !view.is_reset(),
                Kind::Other => true,
                Kind::Later | Kind::Error => false,
            };
            is_answered && self.is_vip(view.destination)
        });
        if let Some(view) = answered {
            self.expect_refusal(&view, run)?;
            self.count("reject-service-cidr");
            return Ok(Rule::GuardRefused);
        }
        run.is_dropped()?;
        self.count("drop-service-cidr");
        Ok(Rule::GuardDropped)
    }
}
