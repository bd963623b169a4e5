// SPDX-License-Identifier: Apache-2.0
//! Clients that open flows, and somebody who walks through these.

use std::time::Duration;

use proptest::sample::Index;
use proxy_common::{Family, frontend::ServiceIndex, name::ServiceName};

use super::super::Bench;
use crate::{dataplane::Referred, reconcile::allocator::REST};

/// A row, and what it is called.
type Row = (ServiceIndex, ServiceName);

/// What is under way.
#[derive(Default)]
pub(super) struct Clients {
    /// Programs that have found a row, and when.
    under_way: Vec<(Duration, Row)>,
    /// When the walk has begun, and the flows that were there.
    walk: Option<(Duration, Vec<Row>)>,
}

impl Clients {
    /// A program finds the row behind a frontend.
    pub(super) fn look_up<F: Family>(&mut self, bench: &Bench<F>, at: Index) {
        let fake = bench.fake();
        let rows = fake.frontends.values().map(|frontend| frontend.service());
        let rows: Vec<_> = rows.filter(|row| *row >= ServiceIndex::FIRST).collect();
        if !rows.is_empty() {
            let row = rows[at.index(rows.len())];
            self.under_way.push((bench.now.get(), (row, fake.names[&row])));
        }
    }

    /// The programs that are under way open their flows; none runs for so long as what is freed rests.
    pub(super) fn open<F: Family>(&mut self, bench: &mut Bench<F>) {
        let now = bench.now.get();
        let opened = self.under_way.drain(..).filter(|(since, _)| now < *since + REST);
        bench.dataplane.inner.flows.extend(opened.map(|(_, row)| row));
    }

    /// A flow ends.
    pub(super) fn close<F: Family>(bench: &mut Bench<F>, at: Index) {
        let flows = &mut bench.dataplane.inner.flows;
        if !flows.is_empty() {
            let _ = flows.swap_remove(at.index(flows.len()));
        }
    }

    /// Somebody begins to walk through the flows.
    pub(super) fn walk<F: Family>(&mut self, bench: &Bench<F>) {
        self.walk = Some((bench.now.get(), bench.fake().flows.clone()));
    }

    /// The walk has ended: it may have missed what has come or gone meanwhile.
    pub(super) fn walked<F: Family>(&mut self, bench: &mut Bench<F>) {
        if let Some((began, before)) = self.walk.take() {
            let mut referred = Referred::none_of(1 << 10);
            for (row, _) in before.iter().filter(|flow| bench.fake().flows.contains(flow)) {
                referred.add(*row);
            }
            bench.reconciler.walked(began, &referred);
        }
    }

    /// The agent that walked has ended.
    pub(super) fn forget_walk(&mut self) {
        self.walk = None;
    }
}
