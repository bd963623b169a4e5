// SPDX-License-Identifier: Apache-2.0
//! Families are worked on side by side where there is much to do, as at the start: all that they have in
//! common is what is known of the cluster, which they read.

use std::{
    collections::BTreeSet,
    panic, thread,
    time::{Duration, Instant},
};

use tokio::runtime::Handle;

use super::{Runner, rest::MANY, tables::Tables};
use crate::{model::ServiceName, reconcile::Outcome};

impl Runner {
    /// Plans Services in each family and carries out what is due, and says what came of it in each, and how
    /// long it took.
    pub(super) fn flush(&mut self, dirty: &BTreeSet<ServiceName>) -> (Vec<Outcome>, Vec<Duration>) {
        let Self { store, options, families, started, .. } = self;
        let (store, clock) = (&*store, || started.elapsed());
        let work = |family: &mut Box<dyn Tables>| {
            let began = Instant::now();
            for name in dirty {
                family.plan(store, name, options);
            }
            (family.flush(dirty.len(), &clock), began.elapsed())
        };
        if dirty.len() < MANY {
            return families.iter_mut().map(work).unzip();
        }
        // Its clock is the one that they go by.
        let runtime = Handle::current();
        let beside = |family| {
            let _entered = runtime.enter();
            work(family)
        };
        thread::scope(|scope| {
            let mut families = families.iter_mut();
            let own = families.next();
            let others: Vec<_> = families.map(|family| scope.spawn(|| beside(family))).collect();
            let own = own.map(work);
            let others = others
                .into_iter()
                .map(|other| other.join().unwrap_or_else(|panic| panic::resume_unwind(panic)));
            own.into_iter().chain(others).unzip()
        })
    }
}
