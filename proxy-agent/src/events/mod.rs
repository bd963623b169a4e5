// SPDX-License-Identifier: Apache-2.0
//! Kubernetes Events about Services: what their owners see in `kubectl describe`.
//!
//! They are for people, and nothing waits for them: they are queued, and what does not fit into the
//! queue, or cannot be published after some attempts, is in the log only. Numbers are client-go's:
//! those of `tools/events`, by which kube-proxy's Events go, and of the filter in `tools/record`
//! against too many Events about one object.

mod allowance;
mod limits;
mod publisher;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use kube::Client;
pub use kube::runtime::events::EventType;
use tokio::sync::mpsc;
use tracing::{info, warn};

pub use self::publisher::Publisher;
use crate::model::ServiceName;

/// How many may wait (`maxQueuedEvents` of client-go's `tools/events/event_broadcaster.go`).
const WAITING: usize = 1000;

/// The Service that an Event is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Regarding {
    /// Its namespace and name.
    pub service: ServiceName,
    /// Its `metadata.uid`. Without it the Event is not shown with the Service, but in its namespace.
    pub uid: Option<Arc<str>>,
}

/// Something that has happened with a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The Service.
    pub regarding: Regarding,
    /// Whether it is a warning.
    pub type_: EventType,
    /// Why it is told, as one word; at most 128 bytes.
    pub reason: &'static str,
    /// What was done or tried, as one word; at most 128 bytes.
    pub action: &'static str,
    /// What has happened, in a sentence. The API gets at most 1024 bytes of it.
    pub note: String,
}

/// Where Events are told. Clones tell them to the same place.
#[derive(Clone, Debug)]
pub struct Events {
    queue: Option<Queue>,
}

#[derive(Clone, Debug)]
struct Queue {
    sender: mpsc::Sender<Event>,
    lost: Arc<AtomicU64>,
}

impl Queue {
    fn new() -> (Self, mpsc::Receiver<Event>) {
        let (sender, waiting) = mpsc::channel(WAITING);
        (Self { sender, lost: Arc::default() }, waiting)
    }
}

impl Events {
    /// Events go to the log alone, where there is no API.
    #[must_use]
    pub const fn logged() -> Self {
        Self { queue: None }
    }

    /// Events go to the log, and to the API in the name of this node as long as the publisher runs.
    #[must_use]
    pub fn published(client: Client, node: &str) -> (Self, Publisher) {
        let (queue, waiting) = Queue::new();
        let publisher = Publisher::new(client, node, waiting, Arc::clone(&queue.lost));
        (Self { queue: Some(queue) }, publisher)
    }

    /// Events go to the log, and to whoever takes them from here.
    #[cfg(test)]
    pub(crate) fn queued() -> (Self, mpsc::Receiver<Event>) {
        let (queue, waiting) = Queue::new();
        (Self { queue: Some(queue) }, waiting)
    }

    /// Tells an Event. Never waits: one that does not fit into the queue is counted, and lost to
    /// all but the log.
    pub fn tell(&self, event: Event) {
        let (service, reason, note) = (&event.regarding.service, event.reason, &event.note);
        match event.type_ {
            EventType::Normal => info!(%service, reason, "{note}"),
            EventType::Warning => warn!(%service, reason, "{note}"),
        }
        if let Some(Queue { sender, lost }) = &self.queue
            && let Err(mpsc::error::TrySendError::Full(_)) = sender.try_send(event)
        {
            let _ = lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many Events the API has never heard of since there were too many at once.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.queue.as_ref().map_or(0, |queue| queue.lost.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(note: String) -> Event {
        let regarding = Regarding { service: ServiceName::new("shop", "till"), uid: None };
        Event { regarding, type_: EventType::Normal, reason: "Tested", action: "Test", note }
    }

    #[test]
    fn a_full_queue_loses_the_last_and_counts_them() {
        let (events, mut queue) = Events::queued();
        let clone = events.clone();
        for number in 0..WAITING + 3 {
            clone.tell(event(number.to_string()));
        }
        assert_eq!(events.lost(), 3);
        assert_eq!(queue.try_recv().unwrap().note, "0");
        clone.tell(event("late".to_owned()));
        assert_eq!(events.lost(), 3);
        let last = std::iter::from_fn(|| queue.try_recv().ok()).last();
        assert_eq!(last.unwrap().note, "late");
    }

    #[test]
    fn without_an_api_or_a_publisher_nothing_is_queued_or_lost() {
        let (events, queue) = Events::queued();
        drop(queue);
        for events in [events, Events::logged()] {
            for _ in 0..=WAITING {
                events.tell(event(String::new()));
            }
            assert_eq!(events.lost(), 0);
        }
    }
}
