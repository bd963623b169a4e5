// SPDX-License-Identifier: Apache-2.0
//! Follows the objects of one kind.

use std::{
    marker::PhantomData,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    sync::mpsc,
    task,
    time::{sleep, timeout},
};
use tracing::debug;

use super::{
    KubernetesError, Timing,
    connection::{Answer, Connection},
    course::{Course, Step, Wait},
    decode::{self, Line},
    failure::Failure,
    known::{Item, Known},
    lines::Lines,
    pause::Pauses,
    selection::{Ask, Selection},
    shadow::Shadow,
    trouble::{Trouble, Troubles},
    version::Version,
};
use crate::{
    model::Kind,
    watch::{Event, convert::Convert},
};

mod pages;

/// A stream that ends sooner than this has failed.
const SHORTEST_STREAM: Duration = Duration::from_secs(1);

/// How many items of a list are compared before others have their turn.
const AT_A_TIME: usize = 256;

/// Follows the objects of one kind, and delivers what changes.
pub(super) struct Reflector<K> {
    connection: Arc<Connection>,
    selection: Selection,
    timing: Timing,
    course: Course,
    known: Known,
    pauses: Pauses,
    trouble: Trouble,
    events: mpsc::Sender<Event>,
    synced: bool,
    /// How often in a row the API did not have the kind.
    absences: u32,
    kind: PhantomData<fn() -> K>,
}

/// Why a step does not go on.
enum Stop {
    /// Nobody receives any more.
    Closed,
    Failure(Failure),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

impl<K: Convert> Reflector<K> {
    pub(super) fn new(
        connection: Arc<Connection>,
        node: &str,
        timing: Timing,
        events: mpsc::Sender<Event>,
        troubles: &Troubles,
    ) -> Self {
        Self {
            connection,
            selection: Selection::new::<K>(node),
            timing,
            course: Course::new(),
            known: Known::new(K::KIND),
            pauses: Pauses::new(&timing),
            trouble: Trouble::new(K::KIND, troubles.clone()),
            events,
            synced: false,
            absences: 0,
            kind: PhantomData,
        }
    }

    /// Goes on until nobody receives events any more. Whatever fails is tried again.
    pub(super) async fn run(mut self) -> Result<(), KubernetesError> {
        let events = self.events.clone();
        tokio::select! {
            () = events.closed() => {}
            () = self.follow() => {}
        }
        Ok(())
    }

    async fn follow(&mut self) {
        loop {
            let step = self.course.step();
            if let Step::Stream(_) | Step::Pages(_) = step {
                self.trouble.list();
            }
            let done = match &step {
                Step::Stream(ask) => self.stream(ask).await,
                Step::Pages(ask) => self.pages(ask).await,
                Step::Watch(since) => self.watch(since).await,
            };
            match done {
                Ok(()) => {}
                Err(Stop::Closed) => return,
                Err(Stop::Failure(Failure::Absent(_))) if self.may_be_absent() => {
                    self.trouble.absent();
                    if self.sync().await.is_err() {
                        return;
                    }
                    sleep(self.absence()).await;
                }
                Err(Stop::Failure(failure)) => self.recover(&step, &failure).await,
            }
        }
    }

    /// How long to wait until a kind that the API does not have is looked for again: soon at first,
    /// since anybody in between may have said so.
    fn absence(&mut self) -> Duration {
        let factor = 1_u32.checked_shl(self.absences).unwrap_or(u32::MAX);
        self.absences += 1;
        let pause = self.timing.first_pause.saturating_mul(factor).min(self.timing.absent);
        pause.mul_f64(1.0 + fastrand::f64())
    }

    /// Whether it is no failure that the API does not have the kind: Service CIDRs are of 1.33,
    /// and nothing that is served depends on them.
    fn may_be_absent(&self) -> bool {
        K::KIND == Kind::ServiceCidr && self.known.is_empty()
    }

    async fn recover(&mut self, step: &Step, failure: &Failure) {
        self.connection.renew_after(failure).await;
        let wait = self.course.failed(step, failure);
        let pause = match wait {
            Wait::Not => Duration::ZERO,
            Wait::Short => self.pauses.short(Instant::now()),
            Wait::Pause => self.pauses.next(Instant::now()),
        };
        debug!(kind = %K::KIND, ?step, error = %failure, ?pause, "a request has failed");
        if matches!(wait, Wait::Pause) {
            self.trouble.begin(failure);
            sleep(failure.retry_after().unwrap_or_default()).await;
            self.trouble.pause(pause, self.pauses.shortest()).await;
        } else {
            sleep(pause).await;
        }
    }

    /// A list as a stream, and what changes after it.
    async fn stream(&mut self, ask: &Ask) -> Result<(), Stop> {
        let answer = self.connection.get(&self.selection.stream(ask, self.seconds())).await?;
        self.read(answer, Some(Shadow::default())).await
    }

    /// What has changed, and what changes.
    async fn watch(&mut self, since: &Version) -> Result<(), Stop> {
        let answer = self.connection.get(&self.selection.watch(since, self.seconds())).await?;
        self.read(answer, None).await
    }

    /// For how long the API is asked to keep a stream open.
    fn seconds(&self) -> u64 {
        self.timing.watch.mul_f64(1.0 + fastrand::f64()).as_secs().max(1)
    }

    /// Reads a stream to its end; `shadow` is the list that it begins with.
    async fn read(&mut self, mut answer: Answer, mut shadow: Option<Shadow>) -> Result<(), Stop> {
        let begun = Instant::now();
        let mut lines = Lines::default();
        loop {
            let limit = match shadow {
                Some(_) => {
                    let left = self.timing.initial.saturating_sub(begun.elapsed());
                    left.min(self.timing.initial_silence)
                }
                None => self.timing.silence,
            };
            let part = match timeout(limit, answer.next()).await {
                Err(_) if shadow.is_some() => return Err(Failure::Endless.into()),
                Err(_) => return Err(Failure::Silent(limit).into()),
                Ok(part) => part,
            };
            if shadow.is_none() && begun.elapsed() >= SHORTEST_STREAM {
                self.course.lasted();
            }
            let Some(part) = part? else { break };
            lines.push(&part)?;
            while let Some(line) = lines.next() {
                let line = decode::line::<K>(line)?;
                match &mut shadow {
                    None => self.news(line).await?,
                    Some(list) => {
                        if let Some(version) = list.take(line)? {
                            let items = shadow.take().unwrap_or_default().into_items();
                            self.listed(items, version).await?;
                        }
                    }
                }
            }
        }
        if lines.is_inside() {
            return Err(Failure::Cut("inside an event".to_owned()).into());
        }
        if shadow.is_some() {
            return Err(Failure::Cut("inside the list".to_owned()).into());
        }
        if begun.elapsed() < SHORTEST_STREAM {
            return Err(Failure::Empty.into());
        }
        self.course.ended();
        Ok(())
    }

    /// An event after the list.
    async fn news(&mut self, line: Line) -> Result<(), Stop> {
        self.trouble.end();
        let (version, event) = match line {
            Line::Apply(item) => (item.version.clone(), self.known.apply(item)),
            Line::Delete(name, version) => (version.clone(), self.known.delete(name, version)),
            Line::Bookmark(version, _) => (version, None),
            Line::Nameless => (None, None),
        };
        self.course.told(version, event.is_some());
        self.pauses.reset();
        match event {
            Some(event) => self.send(event).await,
            None => Ok(()),
        }
    }

    /// Takes a complete list.
    async fn listed(&mut self, items: Vec<Item>, version: Version) -> Result<(), Stop> {
        self.course.judge(&version)?;
        debug!(kind = %K::KIND, version = version.as_str(), objects = items.len(), "listed");
        let gone = self.known.begin_list(&items, Some(version.clone()));
        for (at, item) in items.into_iter().enumerate() {
            if let Some(event) = self.known.listed(item) {
                self.send(event).await?;
            }
            if at % AT_A_TIME == 0 {
                task::yield_now().await;
            }
        }
        for event in gone {
            self.send(event).await?;
        }
        self.course.listed(version);
        self.absences = 0;
        if !self.course.is_expiring() {
            self.pauses.reset();
        }
        self.trouble.end();
        self.sync().await
    }

    async fn sync(&mut self) -> Result<(), Stop> {
        if self.synced {
            return Ok(());
        }
        self.synced = true;
        self.send(Event::Synced(K::KIND)).await
    }

    async fn send(&self, event: Event) -> Result<(), Stop> {
        self.events.send(event).await.map_err(|_| Stop::Closed)
    }
}
