// SPDX-License-Identifier: Apache-2.0
//! How it is with the sources of objects, kind by kind.

use std::time::SystemTime;

use prometheus::{Error, GaugeVec, IntCounterVec, IntGaugeVec, Opts};

use super::{Page, syncs::seconds};
use crate::model::Kind;

/// The label of a kind's values.
const KIND: &str = "kind";

/// Tells how it is with sources.
#[derive(Clone, Debug)]
pub struct Watches {
    synced: IntGaugeVec,
    followed: IntGaugeVec,
    last: GaugeVec,
    lists: IntCounterVec,
    failures: IntCounterVec,
}

impl Watches {
    /// Has it on a page.
    ///
    /// # Errors
    ///
    /// If it is there.
    pub fn new(page: &Page) -> Result<Self, Error> {
        let gauge = |name: &str, help: &str| {
            let gauge =
                IntGaugeVec::new(Opts::new(format!("sixfour_watch_{name}"), help), &[KIND])?;
            page.add(gauge.clone())?;
            Ok::<_, Error>(gauge)
        };
        let counter = |name: &str, help: &str| {
            let name = format!("sixfour_watch_{name}_total");
            let counter = IntCounterVec::new(Opts::new(name, help), &[KIND])?;
            page.add(counter.clone())?;
            Ok::<_, Error>(counter)
        };
        let last = "sixfour_watch_last_event_timestamp_seconds";
        let last = Opts::new(last, "When an object of a kind last came, changed or went");
        let last = GaugeVec::new(last, &[KIND])?;
        page.add(last.clone())?;
        let synced =
            gauge("synced", "Whether all objects of a kind have been read since the start")?;
        for kind in Kind::ALL {
            synced.with_label_values(&[kind.name()]).set(0);
        }
        Ok(Self {
            synced,
            last,
            followed: gauge("followed", "Whether the API tells what becomes of objects of a kind")?,
            lists: counter("lists", "Lists of a kind that the API was asked for")?,
            failures: counter("failures", "Failures to read what becomes of objects of a kind")?,
        })
    }

    /// All objects of a kind have been read.
    pub fn synced(&self, kind: Kind) {
        self.synced.with_label_values(&[kind.name()]).set(1);
    }

    /// Something of a kind has come, changed or gone.
    pub fn told(&self, kind: Kind) {
        self.last.with_label_values(&[kind.name()]).set(seconds(SystemTime::now()));
    }

    /// The API is asked for a list.
    pub fn listed(&self, kind: Kind) {
        self.lists.with_label_values(&[kind.name()]).inc();
        // It is there from the beginning.
        let _ = self.failures.with_label_values(&[kind.name()]);
    }

    /// The API tells what becomes of a kind, or does no longer.
    pub fn followed(&self, kind: Kind, is_followed: bool) {
        self.followed.with_label_values(&[kind.name()]).set(i64::from(is_followed));
    }

    /// Something has gone wrong with a kind.
    pub fn failed(&self, kind: Kind) {
        self.failures.with_label_values(&[kind.name()]).inc();
        self.followed(kind, false);
    }
}
