// SPDX-License-Identifier: Apache-2.0
//! Says what is wrong, once for as long as it stays the same.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep_until, timeout_at},
};
use tracing::{debug, info, warn};

use super::failure::Failure;
use crate::{metrics::Watches, model::Kind};

/// What goes wrong with any kind.
#[derive(Clone, Debug, Default)]
pub(super) struct Troubles {
    /// What has gone wrong last.
    last: watch::Sender<Option<String>>,
    /// Tells those who wait that a kind can be followed again.
    ended: Arc<Notify>,
    /// Where it is told how it is with each kind, if anywhere.
    watches: Option<Watches>,
}

impl Troubles {
    pub(super) fn tell(&mut self, watches: Watches) {
        self.watches = Some(watches);
    }

    pub(super) fn last(&self) -> watch::Receiver<Option<String>> {
        self.last.subscribe()
    }
}

/// What is wrong with the objects of a kind.
#[derive(Debug)]
pub(super) struct Trouble {
    kind: Kind,
    topic: Option<String>,
    all: Troubles,
}

impl Trouble {
    pub(super) const fn new(kind: Kind, all: Troubles) -> Self {
        Self { kind, topic: None, all }
    }

    /// Waits after a failure; once another kind can be followed again, for the rest or `shortest`
    /// only. The kinds fail together, but their pauses end apart by up to the longest.
    pub(super) async fn pause(&self, pause: Duration, shortest: Duration) {
        let end = Instant::now() + pause;
        if timeout_at(end, self.all.ended.notified()).await.is_ok() {
            sleep_until(end.min(Instant::now() + shortest)).await;
        }
    }

    /// All objects are asked for.
    pub(super) fn list(&self) {
        if let Some(watches) = &self.all.watches {
            watches.listed(self.kind);
        }
    }

    /// Something has gone wrong that keeps the agent from knowing what is new.
    pub(super) fn begin(&mut self, failure: &Failure) {
        if let Some(watches) = &self.all.watches {
            watches.failed(self.kind);
        }
        let (kind, topic) = (self.kind, failure.topic());
        let _ = self.all.last.send_replace(Some(failure.to_string()));
        if self.topic.as_ref() == Some(&topic) {
            debug!(%kind, error = %failure, "still cannot follow the objects of the API");
            return;
        }
        self.topic = Some(topic);
        warn!(
            %kind, error = %failure,
            "cannot follow the objects of the API, will try again; what is known stays in force"
        );
    }

    /// The API does not have the kind.
    pub(super) fn absent(&mut self) {
        let topic = "absent".to_owned();
        if self.topic.replace(topic.clone()) != Some(topic) {
            info!(kind = %self.kind, "the API does not have this kind of objects");
        }
    }

    /// The API tells what is new.
    pub(super) fn end(&mut self) {
        if let Some(watches) = &self.all.watches {
            watches.followed(self.kind, true);
        }
        if self.topic.take().is_some() {
            let _ = self.all.last.send_replace(None);
            self.all.ended.notify_waiters();
            info!(kind = %self.kind, "follows the objects of the API again");
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::sleep;

    use super::*;

    const PAUSE: Duration = Duration::from_mins(1);
    const SHORTEST: Duration = Duration::from_secs(1);

    fn failure() -> Failure {
        Failure::Silent(PAUSE)
    }

    /// How long a pause takes, while another kind's trouble ends after this time, if it has any.
    async fn paused(ends_after: Duration, in_trouble: bool) -> Duration {
        let all = Troubles::default();
        let mut slices = Trouble::new(Kind::EndpointSlice, all.clone());
        let mut services = Trouble::new(Kind::Service, all.clone());
        slices.begin(&failure());
        if in_trouble {
            services.begin(&failure());
        }
        let (begun, other) = (Instant::now(), async {
            sleep(ends_after).await;
            services.end();
        });
        let pause = async {
            slices.pause(PAUSE, SHORTEST).await;
            begun.elapsed()
        };
        tokio::join!(pause, other).0
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_ends_soon_after_another_kind_is_followed_again() {
        let second = Duration::from_secs(1);
        assert_eq!(paused(second * 5, true).await, second * 6);
        assert_eq!(paused(second * 5, false).await, PAUSE);
        // Not longer than without the other.
        assert_eq!(paused(second * 119 / 2, true).await, PAUSE);
    }
}
