// SPDX-License-Identifier: Apache-2.0
//! The page.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use prometheus::{Error, PullingGauge, Registry, TextEncoder, core::Collector};

use super::row::as_float;

/// For how long a page is new enough for whoever asks again: however many ask, it takes a part of a processor's time
/// only, and it is no younger for those who ask once.
const FRESH: Duration = Duration::from_millis(100);

/// All that is measured.
#[derive(Debug, Default)]
pub struct Page {
    registry: Registry,
    /// The last one, and when it was begun.
    last: Mutex<Option<(Instant, Bytes)>>,
}

impl Page {
    /// What the page is, to those who read it.
    pub const CONTENT_TYPE: &'static str = "text/plain; version=0.0.4; charset=utf-8";

    /// Has what a source measures on the page. Families without a single value are left out.
    ///
    /// # Errors
    ///
    /// If a family of the same name is there, or a name is none that Prometheus knows.
    pub fn add(&self, source: impl Collector + 'static) -> Result<(), Error> {
        self.registry.register(Box::new(source))
    }

    /// Has a number on the page that is looked up each time.
    ///
    /// # Errors
    ///
    /// As [`add`](Self::add).
    pub fn look_up(
        &self,
        name: &str,
        help: &str,
        value: impl Fn() -> usize + Send + Sync + 'static,
    ) -> Result<(), Error> {
        let value = Box::new(move || as_float(value() as u64));
        self.add(PullingGauge::new(name, help, value)?)
    }

    /// The page in Prometheus' text format 0.0.4, at most a tenth of a second old.
    ///
    /// # Errors
    ///
    /// If a source gives what cannot be written.
    pub fn text(&self) -> Result<Bytes, Error> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((begun, text)) = last.as_ref()
            && begun.elapsed() < FRESH
        {
            return Ok(text.clone());
        }
        let begun = Instant::now();
        let text = Bytes::from(TextEncoder::new().encode_to_string(&self.registry.gather())?);
        *last = Some((begun, text.clone()));
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use std::thread::sleep;

    use prometheus::{IntCounter, IntCounterVec, Opts};

    use super::*;

    #[test]
    fn a_page_is_made_anew_after_a_moment() {
        let page = Page::default();
        let counter = IntCounter::new("a_total", "of something").unwrap();
        page.add(counter.clone()).unwrap();
        page.add(IntCounterVec::new(Opts::new("b_total", "of nothing"), &["of"]).unwrap()).unwrap();
        let text = |value| {
            format!("# HELP a_total of something\n# TYPE a_total counter\na_total {value}\n")
        };
        assert_eq!(page.text().unwrap(), text(0));
        counter.inc();
        let begun = Instant::now();
        let again = page.text().unwrap();
        assert!(again == text(0) || begun.elapsed() > FRESH / 2, "{again:?}");
        sleep(FRESH);
        assert_eq!(page.text().unwrap(), text(1));
        assert!(page.add(counter).is_err(), "twice");
    }
}
