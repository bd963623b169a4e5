// SPDX-License-Identifier: Apache-2.0
//! How long it takes from a change of the cluster to that of the tables.

use std::{
    collections::{BTreeSet, HashMap},
    time::{Duration, SystemTime},
};

use super::{Runner, tables::Tables};
use crate::{
    metrics::Updates,
    model::{Kind, Object, ObjectKey, ObjectName, ServiceName},
};

/// Of how many changes it is remembered when they happened, until they are in the tables. More than that come together
/// only where nothing can be written, and then it is told of in other ways.
const MOST: usize = 65_536;

/// What is measured, and by what.
#[derive(Debug)]
pub(super) struct Measured {
    updates: Updates,
    /// What happened before is nothing that this process was late for.
    since: SystemTime,
    /// What has changed and is not in the tables yet.
    changes: Vec<Change>,
    /// Whether anything has changed since that was last told.
    is_queued: bool,
    /// Whether all Services have been brought into the tables.
    is_under_way: bool,
}

/// A change of endpoints.
#[derive(Debug)]
struct Change {
    slice: ObjectName,
    service: ServiceName,
    family: &'static str,
    at: SystemTime,
}

impl Runner {
    /// Measures the way from changes to tables.
    #[must_use]
    pub fn measured_by(mut self, updates: Updates) -> Self {
        self.measured = Some(Measured {
            updates,
            since: SystemTime::now(),
            changes: Vec::new(),
            is_queued: false,
            is_under_way: false,
        });
        self
    }

    pub(super) fn apply(&mut self, object: Object) {
        let Some(measured) = &mut self.measured else {
            let _: bool = self.store.apply(object);
            return;
        };
        let (kind, change) = (object.kind(), Change::of(&object));
        measured.updates.watches.told(kind);
        if self.store.apply(object) {
            measured.note(kind, change);
        }
    }

    pub(super) fn delete(&mut self, key: &ObjectKey) {
        let is_change = self.store.delete(key);
        if let Some(measured) = &self.measured {
            measured.updates.watches.told(key.kind);
        }
        if let Some(measured) = self.measured.as_mut().filter(|_| is_change) {
            // When it went is told by nobody.
            measured
                .changes
                .retain(|change| key.kind != Kind::EndpointSlice || change.slice != key.name);
            measured.note(key.kind, None);
        }
    }

    /// Tells when changes were queued, if any have been.
    pub(super) fn tell_queued(&mut self) {
        let Some(measured) = &mut self.measured else { return };
        if std::mem::take(&mut measured.is_queued) {
            for family in &self.families {
                measured.updates.syncs.queued(family.name());
            }
        }
    }

    /// These Services have been planned, and what was due has been carried out, in so much time in each family.
    pub(super) fn tell_synced(&mut self, dirty: &BTreeSet<ServiceName>, took: &[Duration]) {
        let Some(measured) = &mut self.measured else { return };
        let is_full = !std::mem::replace(&mut measured.is_under_way, true);
        if is_full || !dirty.is_empty() {
            let syncs = &measured.updates.syncs;
            syncs.begin();
            for (family, took) in self.families.iter().zip(took) {
                let (name, remote) = (family.name(), family.remote());
                syncs.end(name, *took, is_full);
                syncs.without_local_endpoints(name, remote.internal, remote.external);
                if !family.is_stuck() {
                    syncs.is_done(name);
                }
            }
        }
        measured.tell_programmed(&self.families);
        let Updates { services, entries, .. } = &measured.updates;
        for family in &self.families {
            let name = family.name();
            services.in_family(name, family.pending(), family.failing(), family.missing());
            let (rows, frontends) = family.in_use();
            entries.of_services(name, rows, frontends);
        }
    }

    /// An attempt to write something to a family's tables has failed.
    pub(super) fn tell_failed(&self, family: &str) {
        if let Some(measured) = &self.measured {
            measured.updates.services.failed(family);
        }
    }

    /// All objects of a kind have been read.
    pub(super) fn tell_read(&self, kind: Kind) {
        if let Some(measured) = &self.measured {
            measured.updates.watches.synced(kind);
        }
    }

    /// So many Services are known.
    pub(super) fn tell_known(&self, services: usize) {
        if let Some(measured) = &self.measured {
            measured.updates.services.are(services);
        }
    }
}

impl Change {
    /// What a slice was changed for, if that is told.
    fn of(object: &Object) -> Option<Self> {
        let Object::EndpointSlice(slice) = object else { return None };
        let (at, family) = (slice.trigger.at?, slice.trigger.family);
        Some(Self { slice: slice.name.clone(), service: slice.service.clone(), family, at })
    }
}

impl Measured {
    fn note(&mut self, kind: Kind, change: Option<Change>) {
        match kind {
            Kind::Service => self.updates.syncs.service_changed(),
            Kind::EndpointSlice => self.updates.syncs.endpoints_changed(),
            Kind::Node | Kind::ServiceCidr => return,
        }
        self.is_queued = true;
        let change = change.filter(|change| change.at > self.since && self.changes.len() < MOST);
        self.changes.extend(change);
    }

    /// What has been brought into the tables has been so from now on; what could not be will be.
    fn tell_programmed(&mut self, families: &[Box<dyn Tables>]) {
        if self.changes.is_empty() {
            return;
        }
        let (now, syncs) = (SystemTime::now(), &self.updates.syncs);
        let families: HashMap<_, _> =
            families.iter().map(|family| (family.name(), family)).collect();
        self.changes.retain(|change| {
            let Some(family) = families.get(change.family) else { return false };
            let waits = family.is_failing(&change.service);
            if !waits {
                let after = now.duration_since(change.at).unwrap_or_default();
                syncs.programmed(change.family, after);
            }
            waits
        });
        // A start brings many at once.
        if self.changes.is_empty() {
            self.changes = Vec::new();
        }
    }
}
