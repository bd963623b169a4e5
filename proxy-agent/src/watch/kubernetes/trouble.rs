// SPDX-License-Identifier: Apache-2.0
//! Says what is wrong, once for as long as it stays the same.

use tokio::sync::watch;
use tracing::{debug, info, warn};

use super::failure::Failure;
use crate::model::Kind;

/// What is wrong with the objects of a kind.
#[derive(Debug)]
pub(super) struct Trouble {
    kind: Kind,
    topic: Option<String>,
    /// What has gone wrong last, with whichever kind.
    last: watch::Sender<Option<String>>,
}

impl Trouble {
    pub(super) const fn new(kind: Kind, last: watch::Sender<Option<String>>) -> Self {
        Self { kind, topic: None, last }
    }

    /// Something has gone wrong that keeps the agent from knowing what is new.
    pub(super) fn begin(&mut self, failure: &Failure) {
        let (kind, topic) = (self.kind, failure.topic());
        let _ = self.last.send_replace(Some(failure.to_string()));
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
        if self.topic.take().is_some() {
            let _ = self.last.send_replace(None);
            info!(kind = %self.kind, "follows the objects of the API again");
        }
    }
}
