// SPDX-License-Identifier: Apache-2.0
//! Memory that much work has taken is given back when it has been done: at the start, and whenever
//! sources have told of many changes, as after an outage of the API.

use std::time::Duration;

use tokio::time::Instant;

use super::Runner;

/// How many Services are much work.
pub(super) const MANY: usize = 1024;

/// How long after so much work memory is given back: the rest of the work should have come by then.
/// What comes later is counted anew.
const PAUSE: Duration = Duration::from_secs(5);

/// The work since memory was given back.
#[derive(Default)]
pub(super) struct Rest {
    planned: usize,
    /// When memory is given back, if there was much work.
    due: Option<Instant>,
    give_back: Option<Box<dyn Fn() + Send>>,
}

impl Rest {
    /// Notes that so many Services are planned.
    pub(super) fn note(&mut self, planned: usize) {
        self.planned += planned;
        if self.planned >= MANY && self.due.is_none() {
            self.due = Some(Instant::now() + PAUSE);
        }
    }

    /// When memory is given back next.
    pub(super) const fn next(&self) -> Option<Instant> {
        self.due
    }
}

impl Runner {
    /// Calls this some time after much work.
    #[must_use]
    pub fn giving_back(mut self, give_back: impl Fn() + Send + 'static) -> Self {
        self.rest.give_back = Some(Box::new(give_back));
        self
    }

    /// Gives memory back, if it is time.
    pub(super) fn rest_when_due(&mut self) {
        if self.rest.due.is_none_or(|due| Instant::now() < due) {
            return;
        }
        self.rest.due = None;
        self.rest.planned = 0;
        for family in &mut self.families {
            family.rest();
        }
        if let Some(give_back) = &self.rest.give_back {
            give_back();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use tokio::{
        sync::mpsc,
        time::{advance, sleep},
    };

    use super::*;
    use crate::{
        model::{Object, ObjectName, Service},
        plan::Options,
        runner::NEEDED,
        watch::Event,
    };

    #[tokio::test(start_paused = true)]
    async fn memory_is_given_back_after_much_work_and_after_no_other() {
        let given = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&given);
        let count = move || {
            let _ = counted.fetch_add(1, Ordering::Relaxed);
        };
        let (events, receiver) = mpsc::channel(64);
        drop(tokio::spawn(Runner::new("me", Options::default()).giving_back(count).run(receiver)));
        for kind in NEEDED {
            events.send(Event::Synced(kind)).await.unwrap();
        }
        // They come a few at a time.
        let send = async |services: usize| {
            for number in 0..services {
                let name = ObjectName::new("ns", &format!("s{number}"));
                let service = Service { name, ..Service::default() };
                events.send(Event::Apply(Object::Service(service))).await.unwrap();
            }
        };
        send(MANY - 1).await;
        advance(2 * PAUSE).await;
        sleep(PAUSE).await;
        assert_eq!(given.load(Ordering::Relaxed), 0, "not so much");
        send(MANY).await;
        assert_eq!(given.load(Ordering::Relaxed), 0, "not amid the work");
        sleep(2 * PAUSE).await;
        assert_eq!(given.load(Ordering::Relaxed), 1);
        sleep(2 * PAUSE).await;
        assert_eq!(given.load(Ordering::Relaxed), 1, "once");
    }
}
