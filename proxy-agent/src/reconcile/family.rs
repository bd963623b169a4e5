// SPDX-License-Identifier: Apache-2.0
//! The reconciler of one family.

mod passes;
mod told;

use std::{
    collections::{BTreeSet, HashMap},
    net::IpAddr,
    time::Duration,
};

use foldhash::fast::RandomState;
use proxy_common::{Family, frontend::FrontendKey};

use self::told::{LEFTOVERS, NODE_ADDRESSES};
use super::{
    frontends::{Claim, Frontends, claims, without},
    ids::Ids,
    leftovers::Leftovers,
    missing::Missing,
    node_addresses::NodeAddresses,
    outcome::{Conflict, ReconcileError},
    progress::Progress,
    row::Row,
    schedule::Schedule,
    shortfalls::Shortfalls,
};
use crate::{
    dataplane::{Dataplane, Referred, Rows},
    few::Few,
    model::ServiceName,
    plan::{PortId, ServicePlan},
};

/// Keeps the tables of one family as the plans say.
#[derive(Debug)]
pub struct FamilyReconciler<F: Family> {
    /// Boxed: the map has room for up to twice as many.
    pub(super) services: HashMap<ServiceName, Box<Entry<F>>, RandomState>,
    pub(super) frontends: Frontends<F>,
    pub(super) ids: Ids,
    pub(super) leftovers: Leftovers<F>,
    node_addresses: NodeAddresses<F>,
    pub(super) schedule: Schedule,
    progress: Progress,
    conflicts: Vec<Conflict<F>>,
    pub(super) shortfalls: Shortfalls<F>,
}

/// One Service.
#[derive(Debug)]
pub(super) struct Entry<F: Family> {
    /// What is desired; nothing once the Service is gone.
    plan: Option<ServicePlan<F>>,
    /// What is applied.
    pub(super) rows: Few<PortId, Row<F>>,
    /// Frontends that this Service has to look after, each once, in order. At the start that is all of them, so
    /// that they take no more room than they need: what all Services have at once stays in the heap as holes.
    pub(super) touched: Vec<FrontendKey<F>>,
}

impl<F: Family> Entry<F> {
    /// A Service of which nothing is known.
    pub(super) fn unknown() -> Box<Self> {
        Box::new(Self { plan: None, rows: Few::new(), touched: Vec::new() })
    }
}

impl<F: Family> FamilyReconciler<F> {
    /// Empty tables with room for this much.
    #[must_use]
    pub fn new(capacity: Rows) -> Self {
        Self {
            services: HashMap::default(),
            frontends: Frontends::new(),
            ids: Ids::new(capacity),
            leftovers: Leftovers::default(),
            node_addresses: NodeAddresses::new(),
            schedule: Schedule::default(),
            progress: Progress::default(),
            conflicts: Vec::new(),
            shortfalls: Shortfalls::new(),
        }
    }

    /// Gives the row of a Service port to another one only when [`walked`](Self::walked) has told of a walk that
    /// found no flow which refers to it: for tables whose flows somebody walks through. To be called before anything
    /// else.
    #[must_use]
    pub fn waiting_for_walks(mut self) -> Self {
        self.ids.wait_for_walks();
        self
    }

    /// Somebody has walked through all flows, from this time on, and has found that they refer to these rows of
    /// Service ports. What has been there all that time has been seen. `began` is on the clock that is passed to
    /// [`flush`](Self::flush).
    pub fn walked(&mut self, began: Duration, referred: &Referred) {
        if self.ids.walked(began, referred) {
            self.schedule.hurry();
        }
    }

    /// Whether somebody is to walk through all flows now, since a Service has found no room; is said once.
    #[must_use]
    pub fn take_wish_to_walk(&mut self, now: Duration) -> bool {
        let is_due = self.ids.next_walk().is_some_and(|from| from <= now);
        if is_due {
            self.ids.asked_for_walk();
        }
        is_due
    }

    /// Takes a new plan of a Service; none if it is gone from this family. The next
    /// [`flush`](Self::flush) acts on it.
    pub fn set(&mut self, name: &ServiceName, plan: Option<ServicePlan<F>>) {
        let entry = match self.services.get_mut(name) {
            Some(entry) if entry.plan == plan => return,
            Some(entry) => entry,
            None if plan.is_none() => return,
            None => self.services.entry(name.clone()).or_insert_with(Entry::unknown),
        };
        let before = entry.plan.as_ref().map(claims).unwrap_or_default();
        let after = plan.as_ref().map(claims).unwrap_or_default();
        entry.plan = plan;
        for (key, claim) in without(&after, &before) {
            self.frontends.claim(*key, claim.clone());
        }
        for (key, claim) in without(&before, &after) {
            self.frontends.disclaim(key, claim);
        }
        let changed = || without(&before, &after).chain(without(&after, &before));
        // It may have to let go of them, or to take them.
        if let Some(entry) = self.services.get_mut(name) {
            let keys: Vec<_> = changed().map(|(key, _)| *key).collect();
            entry.touched.reserve_exact(keys.len());
            entry.touched.extend(keys);
            entry.touched.sort_unstable();
            entry.touched.dedup();
        }
        self.schedule.mark(name.clone());
        for (key, claim) in changed() {
            if let Claim::Port(_) = claim {
                self.hand_over(*key);
            }
        }
    }

    /// Serves node ports at these addresses, as far as they are of this family, and at no others.
    /// The next [`flush_node_addresses`](Self::flush_node_addresses) acts on it.
    pub fn set_node_addresses(&mut self, addresses: &BTreeSet<IpAddr>) {
        self.node_addresses.set(addresses, &mut self.frontends);
    }

    /// Marks the node's addresses. `now` is on the clock that is passed to [`flush`](Self::flush).
    ///
    /// # Errors
    ///
    /// What the dataplane could not do. It is tried again after a pause.
    pub fn flush_node_addresses<D: Dataplane<F>>(
        &mut self,
        dataplane: &mut D,
        now: Duration,
    ) -> Result<(), ReconcileError> {
        let outcome = self.node_addresses.flush(&mut self.frontends, dataplane, now);
        self.tell_beside(NODE_ADDRESSES, &outcome, self.node_addresses.is_failing());
        outcome
    }

    /// Removes what nobody wants of what was [taken over](Self::adopt). To be called after
    /// [`flush`](Self::flush), with all plans known; `now` is on its clock.
    ///
    /// # Errors
    ///
    /// What the dataplane could not do. It is tried again after a pause.
    pub fn flush_leftovers<D: Dataplane<F>>(
        &mut self,
        dataplane: &mut D,
        now: Duration,
    ) -> Result<(), ReconcileError> {
        let knows_node = self.node_addresses.are_known();
        let own = (&mut self.frontends, &mut self.ids);
        let outcome = self.leftovers.flush(own, knows_node, dataplane, now);
        self.tell_beside(LEFTOVERS, &outcome, self.leftovers.is_failing());
        outcome
    }

    /// When the next flush has something to do, or a walk is [wished](Self::take_wish_to_walk) for, on the clock
    /// that is passed to it; nothing if only a new plan or new addresses can give it something.
    #[must_use]
    pub fn next(&self) -> Option<Duration> {
        let beside = [self.node_addresses.next(), self.leftovers.next()];
        let beside = beside.into_iter().chain([self.shortfalls.next(), self.ids.next_walk()]);
        self.schedule.next().into_iter().chain(beside.flatten()).min()
    }

    /// How many Services have something to do, now or later.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.schedule.pending()
    }

    /// How many Services have failed at the last attempt; the node's addresses count as one, what is to be removed for
    /// nobody as another, and what says which Services these are as a third.
    #[must_use]
    pub fn failing(&self) -> usize {
        let beside = [
            self.node_addresses.is_failing(),
            self.leftovers.is_failing(),
            self.shortfalls.is_failing(),
        ];
        self.schedule.failing() + beside.into_iter().map(usize::from).sum::<usize>()
    }

    /// Whether a Service has failed at the last attempt.
    #[must_use]
    pub fn is_failing(&self, service: &ServiceName) -> bool {
        self.schedule.is_failing(service)
    }

    /// Whether nothing can be done: several Services have failed, marks aside, and for none has
    /// anything been done in whole since; or the node's addresses have failed at the last attempt.
    /// A Service that fails by itself does not count.
    #[must_use]
    pub fn is_stuck(&self) -> bool {
        self.progress.is_stuck() || self.node_addresses.is_failing()
    }

    /// How many rows are taken, without those that rest.
    #[must_use]
    pub const fn in_use(&self) -> Rows {
        self.ids.in_use()
    }

    /// How many frontends there are, the entries of whole addresses and of endpoints among them; those that are still to
    /// be written, too.
    #[must_use]
    pub fn frontends(&self) -> usize {
        self.frontends.len()
    }

    /// How much is not in the tables though it is wanted, because they are full, because other Services have the
    /// frontends, and for other reasons.
    #[must_use]
    pub const fn missing(&self) -> Missing {
        self.shortfalls.count()
    }

    /// The conflicts that have come up, or have changed, since the last call.
    pub fn take_conflicts(&mut self) -> Vec<Conflict<F>> {
        std::mem::take(&mut self.conflicts)
    }

    /// Has a frontend that Service ports want, or have wanted, looked after by the Service that gets it.
    fn hand_over(&mut self, key: FrontendKey<F>) {
        self.tell_contested(key);
        let [winner, losers @ ..] = self.frontends.claimants(&key) else {
            return;
        };
        let winner = winner.service.clone();
        if !losers.is_empty() {
            let losers = losers.iter().map(|loser| loser.service.clone()).collect();
            self.conflicts.push(Conflict { key, winner: winner.clone(), losers });
        }
        if let Some(entry) = self.services.get_mut(&winner) {
            if let Err(place) = entry.touched.binary_search(&key) {
                entry.touched.insert(place, key);
            }
            self.schedule.mark(winner);
        }
    }
}
