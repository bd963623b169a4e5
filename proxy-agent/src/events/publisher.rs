// SPDX-License-Identifier: Apache-2.0
//! The task that publishes Events.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use governor::clock::DefaultClock;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client,
    runtime::events::{self, Recorder, Reporter},
};
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};
use tracing::{debug, warn};

use super::{Event, Regarding, allowance::Allowance, limits};
use crate::{backoff, chain::chain};

/// Who publishes them.
const REPORTING_CONTROLLER: &str = "sixfour";
/// How often it is tried to publish one, with growing pauses in between.
const ATTEMPTS: u32 = 6;
/// How long an attempt may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Publishes the Events of a queue one after the other. The same again, within six minutes, makes
/// an Event a series.
pub struct Publisher {
    recorder: Recorder,
    queue: mpsc::Receiver<Event>,
    lost: Arc<AtomicU64>,
    allowance: Allowance,
}

impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publisher").field("lost", &self.lost).finish_non_exhaustive()
    }
}

/// Why an attempt has failed.
#[derive(Debug, thiserror::Error)]
enum PublishError {
    /// The API has refused it, or cannot be reached.
    #[error(transparent)]
    Api(#[from] kube::Error),
    /// There was no answer in time.
    #[error("the API does not answer within {PATIENCE:?}")]
    NoAnswer,
}

impl PublishError {
    /// Whether it would fail again.
    fn is_final(&self) -> bool {
        // Credentials may be on their way, and a server may have too much to do.
        matches!(self, Self::Api(kube::Error::Api(status))
            if (400..500).contains(&status.code) && !matches!(status.code, 401 | 408 | 429))
    }
}

impl Publisher {
    pub(super) fn new(
        client: Client,
        node: &str,
        queue: mpsc::Receiver<Event>,
        lost: Arc<AtomicU64>,
    ) -> Self {
        let instance = limits::fit_name(node, limits::REPORTING_INSTANCE).to_owned();
        let reporter =
            Reporter { controller: REPORTING_CONTROLLER.to_owned(), instance: Some(instance) };
        let recorder = Recorder::new(client, reporter);
        Self { recorder, queue, lost, allowance: Allowance::new(DefaultClock::default()) }
    }

    /// Publishes until nobody is left who could tell an Event. What fails is logged.
    pub async fn run(mut self) {
        let mut known_lost = 0;
        while let Some(event) = self.queue.recv().await {
            let lost = self.lost.load(Ordering::Relaxed);
            if lost > known_lost {
                let lost = lost - known_lost;
                warn!(lost, "there were too many Events at once: some are in the log only");
            }
            known_lost = lost;
            if self.allowance.take(&event.regarding) {
                self.publish(&event).await;
            } else {
                let service = &event.regarding.service;
                debug!(%service, "there were too many Events about a Service: not published");
            }
        }
    }

    async fn publish(&self, event: &Event) {
        let regarding = reference(&event.regarding);
        let published = events::Event {
            type_: event.type_,
            reason: event.reason.to_owned(),
            note: Some(limits::fit(&event.note, limits::NOTE)),
            action: event.action.to_owned(),
            secondary: None,
        };
        let mut failures = 0;
        while let Err(error) = self.attempt(&published, &regarding).await {
            let (service, reason) = (&event.regarding.service, event.reason);
            if failures + 1 == ATTEMPTS || error.is_final() {
                warn!(%service, reason, error = chain(&error), "cannot publish an Event");
                return;
            }
            debug!(%service, reason, error = chain(&error), "cannot publish an Event yet");
            sleep(backoff::pause(failures)).await;
            failures += 1;
        }
    }

    async fn attempt(
        &self,
        event: &events::Event,
        regarding: &ObjectReference,
    ) -> Result<(), PublishError> {
        let published = timeout(PATIENCE, self.recorder.publish(event, regarding)).await;
        Ok(published.map_err(|_| PublishError::NoAnswer)??)
    }
}

/// A Service, as Events name it.
fn reference(regarding: &Regarding) -> ObjectReference {
    let Regarding { service, uid } = regarding;
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Service".to_owned()),
        namespace: Some(service.namespace.to_string()),
        name: Some(service.name.to_string()),
        uid: uid.as_ref().map(ToString::to_string),
        ..ObjectReference::default()
    }
}
