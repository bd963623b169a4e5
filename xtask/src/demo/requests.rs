// SPDX-License-Identifier: Apache-2.0
//! Requests to Services, from several clients at once.

mod question;

use std::{fmt::Display, thread};

use proxy_tests::family::IpFamily;

use crate::progress::Part;

use super::{asker::Asker, cluster::Cluster, verdict::Problems};
pub(super) use question::{Outcome, Question, Seen};

/// What all clients saw of a way to a Service port.
pub(super) struct Row {
    pub(super) service: String,
    /// `80/TCP`, or `81/TCP (none)` for a port that it does not have, or `node port 30080/TCP`.
    pub(super) label: String,
    pub(super) family: IpFamily,
    /// By client.
    pub(super) seen: Vec<Seen>,
    is_shown: bool,
}

impl Row {
    /// Whether the row is for people; the others are summed up.
    pub(super) fn is_shown(&self) -> bool {
        self.is_shown || self.seen.iter().any(|seen| seen.problem.is_some())
    }
}

/// Has each of `askers` ask all `questions`, which are made for these.
pub(super) fn run(
    what: impl Display,
    cluster: &Cluster<'_>,
    askers: &[Asker],
    questions: &[Question<'_>],
    problems: &mut Problems,
) -> Vec<Row> {
    let part = Part::new(what, questions.len() * askers.len());
    let seen: Vec<Vec<_>> = thread::scope(|scope| {
        let part = &part;
        let ask_all = |number| {
            let ask = move |question: &Question<'_>| {
                part.on(question.service.name());
                let seen = question.ask(cluster, number);
                part.done();
                seen
            };
            scope.spawn(move || questions.iter().map(ask).collect::<Vec<_>>())
        };
        let clients: Vec<_> = (0..askers.len()).map(ask_all).collect();
        clients.into_iter().map(|client| client.join().expect("a client panicked")).collect()
    });
    drop(part);
    for problem in seen.iter().flatten().filter_map(|seen| seen.problem.as_ref()) {
        problems.add(problem);
    }
    let mut by_client: Vec<_> = seen.into_iter().map(Vec::into_iter).collect();
    let row = |question: &Question<'_>| Row {
        service: question.service.name().to_owned(),
        label: question.label.clone(),
        family: question.family,
        seen: by_client.iter_mut().filter_map(Iterator::next).collect(),
        is_shown: question.is_shown,
    };
    questions.iter().map(row).collect()
}
