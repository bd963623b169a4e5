// SPDX-License-Identifier: Apache-2.0
//! The marks of the node's addresses at which node ports are served.

use std::{collections::BTreeSet, net::IpAddr, time::Duration};

use proxy_common::{Family, family::Address as _, frontend::FrontendKey};

use super::{
    apply::apply,
    frontends::{Claim, Frontends, Target},
    outcome::ReconcileError,
    retry::Retry,
};
use crate::dataplane::{Dataplane, Op};

/// The addresses of one family.
#[derive(Debug)]
pub(super) struct NodeAddresses<F: Family> {
    claimed: BTreeSet<F::Addr>,
    are_known: bool,
    /// What is to be looked after.
    touched: BTreeSet<FrontendKey<F>>,
    retry: Retry,
}

impl<F: Family> NodeAddresses<F> {
    pub(super) fn new() -> Self {
        let (claimed, touched) = (BTreeSet::new(), BTreeSet::new());
        Self { claimed, are_known: false, touched, retry: Retry::default() }
    }

    /// Whether anybody has said which they are.
    pub(super) const fn are_known(&self) -> bool {
        self.are_known
    }

    /// Wants these, as far as they are of this family, and no others.
    pub(super) fn set(&mut self, addresses: &BTreeSet<IpAddr>, frontends: &mut Frontends<F>) {
        let wanted: BTreeSet<_> =
            addresses.iter().filter_map(|address| F::Addr::from_ip(*address)).collect();
        for address in wanted.symmetric_difference(&self.claimed) {
            let key = FrontendKey::whole(*address);
            if wanted.contains(address) {
                frontends.claim(key, Claim::Node);
            } else {
                frontends.disclaim(&key, &Claim::Node);
            }
            let _ = self.touched.insert(key);
            self.retry.at_once();
        }
        self.claimed = wanted;
        self.are_known = true;
    }

    /// Writes what is due.
    pub(super) fn flush<D: Dataplane<F>>(
        &mut self,
        frontends: &mut Frontends<F>,
        dataplane: &mut D,
        now: Duration,
    ) -> Result<(), ReconcileError> {
        if self.touched.is_empty() || !self.retry.is_due(now) {
            return Ok(());
        }
        // What goes makes room.
        let (mut ops, mut marks) = (Vec::new(), Vec::new());
        for key in &self.touched {
            match frontends.target(key) {
                Target::Mark(mark) => frontends.point(*key, mark, &mut marks),
                Target::Nothing if frontends.applied(key).is_some() => {
                    ops.push(Op::RemoveFrontend { key: *key });
                }
                Target::Nothing | Target::Port(_) => {}
            }
        }
        ops.append(&mut marks);
        let outcome = apply(dataplane, &ops, |op| frontends.commit(op));
        self.retry.note(outcome.is_ok(), now);
        if outcome.is_ok() {
            self.touched.clear();
        }
        outcome
    }

    /// When there is something to do.
    pub(super) fn next(&self) -> Option<Duration> {
        self.retry.next(!self.touched.is_empty())
    }

    /// Whether the last attempt has failed.
    pub(super) const fn is_failing(&self) -> bool {
        self.retry.is_failing()
    }
}
