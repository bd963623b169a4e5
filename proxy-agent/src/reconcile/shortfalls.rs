// SPDX-License-Identifier: Apache-2.0
//! What is not in the tables though it is wanted, as people find it beside these
//! ([`proxy_common::shortfall`]).

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    mem,
    sync::Arc,
    time::Duration,
};

use proxy_common::{
    Family, Port, Protocol,
    frontend::FrontendKey,
    map_names::{FRONTENDS, family_ending},
    name::{self, label},
    shortfall::{Cause, MAX_SHORTFALLS, OTHERS, Shortfall},
};

use super::{
    apply::apply,
    missing::Missing,
    outcome::{Lack, ReconcileError},
    retry::Retry,
};
use crate::{
    chain::chain,
    dataplane::{Dataplane, Op, name_of},
    model::ServiceName,
    plan::PortId,
};

/// What there is of one kind for one Service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Subject<F: Family> {
    /// What belongs to no Service.
    Beside(&'static str),
    /// The last attempt at a Service.
    Attempt(ServiceName),
    /// A frontend that another Service has.
    Contested(ServiceName, PortId, FrontendKey<F>),
}

/// What is said of it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Words {
    port: Option<PortName>,
    cause: Cause,
    table: String,
    message: String,
}

/// A port of a Service, and what that is called.
pub(super) type PortName = (PortId, Arc<str>);

/// The name of a family's map.
fn of_family<F: Family>(map: &str) -> String {
    format!("{map}{}", family_ending::<F>())
}

/// All that is missing in one family, and what the table says of it.
#[derive(Debug)]
pub(super) struct Shortfalls<F: Family> {
    missing: BTreeMap<Subject<F>, Words>,
    count: Missing,
    /// What has changed since it was written.
    changed: BTreeSet<Subject<F>>,
    contested: HashMap<FrontendKey<F>, Vec<Subject<F>>>,
    /// What has a row.
    rows: BTreeMap<Subject<F>, u32>,
    /// What waits for one.
    others: BTreeSet<Subject<F>>,
    free: BTreeSet<u32>,
    /// For how many without a row the table has one.
    told_others: usize,
    /// Rows whose contents are not known.
    stale: BTreeSet<u32>,
    retry: Retry,
    /// What has newly come to be missing of Services, until it is taken.
    news: Vec<Lack>,
}

impl<F: Family> Shortfalls<F> {
    pub(super) fn new() -> Self {
        Self {
            missing: BTreeMap::new(),
            count: Missing::default(),
            changed: BTreeSet::new(),
            contested: HashMap::new(),
            rows: BTreeMap::new(),
            others: BTreeSet::new(),
            free: (1..=MAX_SHORTFALLS).collect(),
            told_others: 0,
            stale: BTreeSet::new(),
            retry: Retry::default(),
            news: Vec::new(),
        }
    }

    /// Takes over the rows that another agent has left. They say what it knew until the first
    /// [`flush`](Self::flush).
    pub(super) fn adopt(&mut self, rows: impl IntoIterator<Item = u32>) {
        self.stale.extend(rows);
    }

    /// An attempt at a Service has failed, at this port if it was one's.
    pub(super) fn failed(
        &mut self,
        service: &ServiceName,
        port: Option<PortName>,
        error: &ReconcileError,
    ) {
        self.note(Subject::Attempt(service.clone()), Some(Words::of::<F>(port, error)));
    }

    /// All has been done for a Service.
    pub(super) fn done(&mut self, service: &ServiceName) {
        self.note(Subject::Attempt(service.clone()), None);
    }

    /// What belongs to no Service is not there as it should be, for this reason if any.
    pub(super) fn beside(&mut self, what: &'static str, error: Option<&ReconcileError>) {
        self.note(Subject::Beside(what), error.map(|error| Words::of::<F>(None, error)));
    }

    /// These want a frontend that the winner has; or nobody does, any more.
    pub(super) fn contest(
        &mut self,
        key: FrontendKey<F>,
        winner: &str,
        losers: Vec<(ServiceName, PortName)>,
    ) {
        let before = self.contested.remove(&key).unwrap_or_default();
        let mut now = Vec::with_capacity(losers.len());
        for (service, (port, name)) in losers {
            let words = Words {
                port: Some((port, name)),
                cause: Cause::CONTESTED,
                table: of_family::<F>(FRONTENDS),
                message: format!("the frontend {} is that of {winner}", name_of(&key)),
            };
            let subject = Subject::Contested(service, port, key);
            self.note(subject.clone(), Some(words));
            now.push(subject);
        }
        for subject in before {
            if !now.contains(&subject) {
                self.note(subject, None);
            }
        }
        if !now.is_empty() {
            let _ = self.contested.insert(key, now);
        }
    }

    fn note(&mut self, subject: Subject<F>, words: Option<Words>) {
        if self.missing.get(&subject) == words.as_ref() {
            return;
        }
        if let (Some(words), Subject::Attempt(service) | Subject::Contested(service, ..)) =
            (&words, &subject)
        {
            self.news.push(Lack {
                service: service.clone(),
                port: words.port.as_ref().map(|(port, _)| *port),
                cause: words.cause,
                message: words.message.clone(),
            });
        }
        let before = match words {
            Some(words) => {
                *self.count.of(words.cause) += 1;
                self.missing.insert(subject.clone(), words)
            }
            None => self.missing.remove(&subject),
        };
        if let Some(before) = before {
            *self.count.of(before.cause) -= 1;
        }
        let _ = self.changed.insert(subject);
    }

    /// What has newly come to be missing of Services since this was asked last.
    pub(super) fn take_news(&mut self) -> Vec<Lack> {
        mem::take(&mut self.news)
    }

    /// Has the table say what there is: what has changed, and at first all. `now` is on a clock that never goes back.
    ///
    /// # Errors
    ///
    /// What the dataplane could not do. All is said anew after a pause.
    pub(super) fn flush<D: Dataplane<F>>(
        &mut self,
        dataplane: &mut D,
        now: Duration,
    ) -> Result<(), ReconcileError> {
        if !self.retry.is_due(now) {
            return Ok(());
        }
        let ops = self.difference();
        let outcome = apply(dataplane, &ops, |_| {});
        self.retry.note(outcome.is_ok(), now);
        if outcome.is_err() {
            self.free = (1..=MAX_SHORTFALLS).collect();
            self.stale = (OTHERS..=MAX_SHORTFALLS).collect();
            self.rows.clear();
            self.others.clear();
            self.told_others = 0;
            self.changed = self.missing.keys().cloned().collect();
        }
        outcome
    }

    /// What is to be written, which is taken for done.
    fn difference(&mut self) -> Vec<Op<F>> {
        let stale = mem::take(&mut self.stale).into_iter();
        let mut ops: Vec<_> = stale.map(|row| Op::RemoveShortfall { row }).collect();
        for subject in mem::take(&mut self.changed) {
            match (self.missing.get(&subject), self.rows.get(&subject).copied()) {
                (Some(words), Some(row)) => ops.push(words.put(row, &subject)),
                (Some(_), None) => _ = self.others.insert(subject),
                (None, Some(row)) => {
                    let _ = self.rows.remove(&subject);
                    let _ = self.free.insert(row);
                    ops.push(Op::RemoveShortfall { row });
                }
                (None, None) => _ = self.others.remove(&subject),
            }
        }
        while let Some(row) = self.free.first().copied()
            && let Some(subject) = self.others.pop_first()
        {
            let _ = self.free.remove(&row);
            if let Some(words) = self.missing.get(&subject) {
                ops.push(words.put(row, &subject));
            }
            let _ = self.rows.insert(subject, row);
        }
        let others = self.others.len();
        if self.told_others != others {
            self.told_others = others;
            ops.push(if others == 0 {
                Op::RemoveShortfall { row: OTHERS }
            } else {
                let count = u32::try_from(others).unwrap_or(u32::MAX);
                Op::PutShortfall { row: OTHERS, shortfall: Box::new(Shortfall::others(count)) }
            });
        }
        ops
    }

    /// How much is missing.
    pub(super) const fn count(&self) -> Missing {
        self.count
    }

    /// When there is something to do.
    pub(super) fn next(&self) -> Option<Duration> {
        self.retry.next(!self.changed.is_empty())
    }

    /// Whether the last attempt has failed.
    pub(super) const fn is_failing(&self) -> bool {
        self.retry.is_failing()
    }
}

impl Words {
    fn of<F: Family>(port: Option<PortName>, error: &ReconcileError) -> Self {
        let (cause, table) = match error {
            ReconcileError::Exhausted(full) => (Cause::FULL, of_family::<F>(full.map)),
            ReconcileError::Apply { table, is_full: true, .. } => (Cause::FULL, table.clone()),
            ReconcileError::Apply { table, .. } => (Cause::OTHER, table.clone()),
        };
        Self { port, cause, table, message: chain(error) }
    }

    /// The write that says it in a row.
    fn put<F: Family>(&self, row: u32, subject: &Subject<F>) -> Op<F> {
        let (namespace, name) = match subject {
            Subject::Beside(what) => ("", *what),
            Subject::Attempt(service) | Subject::Contested(service, ..) => {
                (&*service.namespace, &*service.name)
            }
        };
        let nothing = PortId { number: Port::ANY, protocol: Protocol::ANY };
        let (id, port) = self.port.as_ref().map_or((nothing, ""), |(id, name)| (*id, &**name));
        let service = name::ServiceName {
            namespace: label(namespace),
            name: label(name),
            port: label(port),
            protocol: id.protocol,
            number: id.number,
        };
        let shortfall = Shortfall::new(service, self.cause, &self.table, &self.message);
        Op::PutShortfall { row, shortfall: Box::new(shortfall) }
    }
}
