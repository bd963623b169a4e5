// SPDX-License-Identifier: Apache-2.0
//! Events about endpoints that are not served.

use std::collections::BTreeSet;

use super::{Runner, told::Told};
use crate::{
    events::{Event, EventType, Events, Regarding},
    model::ServiceName,
    plan::{Unusable, unusable},
};

/// Where it is told, and what has been.
#[derive(Debug)]
pub(super) struct Telling {
    events: Events,
    told: Told<Unusable>,
}

impl Runner {
    /// Tells Services of endpoints that are not served: once, until these are others.
    #[must_use]
    pub fn with_events(mut self, events: Events) -> Self {
        self.unusable = Some(Telling { events, told: Told::default() });
        self
    }

    /// Where Services are told of what they lack.
    pub(super) fn events(&self) -> Option<&Events> {
        self.unusable.as_ref().map(|telling| &telling.events)
    }

    /// Tells Services that may have changed.
    pub(super) fn tell_unusable(&mut self, changed: &BTreeSet<ServiceName>) {
        let Some(Telling { events, told }) = &mut self.unusable else { return };
        for name in changed {
            let service = self.store.service(name);
            let found = service.and_then(|service| unusable(service, self.store.slices(name)));
            let Some((service, news)) = service.zip(told.news(name, found)) else { continue };
            let node = self.store.node_name();
            events.tell(Event {
                regarding: Regarding { service: name.clone(), uid: service.known_uid() },
                type_: EventType::Warning,
                reason: "InvalidEndpoint",
                action: "Program",
                note: format!("node {node} does not serve {news}"),
            });
        }
    }
}
