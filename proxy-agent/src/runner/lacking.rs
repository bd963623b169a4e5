// SPDX-License-Identifier: Apache-2.0
//! Events about what of Services is not in the tables.

use proxy_common::shortfall::Cause;

use super::Runner;
use crate::{
    events::{Event, EventType, Regarding},
    reconcile::Lack,
};

impl Runner {
    /// Tells Services of what is newly missing of them in a family. What is tried again and fails as before is told no more.
    pub(super) fn tell_lacking(&self, family: &str, lacks: Vec<Lack>) {
        let Some(events) = self.events() else { return };
        let node = self.store.node_name();
        for Lack { service, port, cause, message } in lacks {
            let Some(known) = self.store.service(&service) else { continue };
            let what = port.map_or_else(String::new, |port| {
                format!(" port {}/{}", port.number.number(), port.protocol)
            });
            let told = match cause {
                Cause::CONTESTED => {
                    format!("node {node} does not serve{what} ({family}): {message}")
                }
                _ => format!("node {node} does not serve all of it ({family}){what}: {message}"),
            };
            events.tell(Event {
                regarding: Regarding { uid: known.known_uid(), service },
                type_: EventType::Warning,
                reason: match cause {
                    Cause::FULL => "TableFull",
                    Cause::CONTESTED => "FrontendConflict",
                    _ => "FailedToProgram",
                },
                action: "Program",
                note: told,
            });
        }
    }
}
