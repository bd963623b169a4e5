// SPDX-License-Identifier: Apache-2.0
//! Walks through all flows: who walks tells which rows of Service ports flows refer to, and is asked for another
//! walk where somebody waits for such a row.

use std::sync::Arc;

use tokio::{
    sync::{Notify, mpsc, watch},
    time::Instant,
};

use crate::dataplane::Referred;

/// How many walks may wait to be heard of: one of each family.
const WAITING: usize = 2;

/// What a walk has found.
#[derive(Debug)]
pub struct Walk {
    /// The place of the walked table among those of the one who listens.
    pub(crate) table: usize,
    /// When it began. Flows that were there then, and are there still, have been seen.
    pub(crate) began: Instant,
    /// The rows that they refer to.
    pub(crate) referred: Referred,
}

/// The end of the one who walks through a table.
#[derive(Debug)]
pub struct Walker {
    table: usize,
    walks: mpsc::Sender<Walk>,
    asked: Arc<Notify>,
}

impl Walker {
    /// Tells what a walk has found that began at this time. Nobody may listen any more.
    pub async fn tell(&self, began: Instant, referred: Referred) {
        let walk = Walk { table: self.table, began, referred };
        let _: Result<(), _> = self.walks.send(walk).await;
    }

    /// Waits until a walk is asked for. One that has been asked for meanwhile counts.
    pub async fn asked(&self) {
        self.asked.notified().await;
    }
}

/// The end of the one who waits for rows of a table.
#[derive(Debug)]
pub(crate) struct Ask(Arc<Notify>);

impl Ask {
    /// Asks for a walk that begins from now on.
    pub(crate) fn ask(&self) {
        self.0.notify_one();
    }
}

/// Where walks through any number of tables are heard of.
#[derive(Debug)]
pub(crate) struct Walks {
    sender: mpsc::Sender<Walk>,
    receiver: mpsc::Receiver<Walk>,
    /// From when on the walked tables have all flows, once they do; from the beginning if nobody says so.
    whole_since: Option<watch::Receiver<Option<Instant>>>,
}

impl Default for Walks {
    fn default() -> Self {
        let (sender, receiver) = mpsc::channel(WAITING);
        Self { sender, receiver, whole_since: None }
    }
}

impl Walks {
    /// Both ends for the table at this place.
    pub(crate) fn of_table(&self, table: usize) -> (Walker, Ask) {
        let asked = Arc::new(Notify::new());
        let walker = Walker { table, walks: self.sender.clone(), asked: Arc::clone(&asked) };
        (walker, Ask(asked))
    }

    /// Hears only of walks that began when the tables had all flows, which they have from the time on that is said here.
    pub(crate) fn hear_since(&mut self, whole_since: watch::Receiver<Option<Instant>>) {
        self.whole_since = Some(whole_since);
    }

    /// The next walk that is to be heard of. It never ends, and may be cancelled.
    pub(crate) async fn next(&mut self) -> Walk {
        loop {
            match self.receiver.recv().await {
                Some(walk) if self.has_seen_all(&walk) => return walk,
                Some(_) => {}
                // The own sender is there.
                None => std::future::pending().await,
            }
        }
    }

    /// Whether no flow may have been elsewhere when a walk began.
    fn has_seen_all(&self, walk: &Walk) -> bool {
        let Some(whole_since) = &self.whole_since else { return true };
        whole_since.borrow().is_some_and(|since| since <= walk.began)
    }
}
