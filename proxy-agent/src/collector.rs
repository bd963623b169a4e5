// SPDX-License-Identifier: Apache-2.0
//! Collecting flows that have been silent too long, and saying which rows of Service ports the others refer to.
//!
//! The programs check the time-out of each flow that they meet, and flows that are over make room for others, so
//! nothing depends on this but the room that TCP connections take which have vanished, and rows of Service ports that
//! have gone: they become others' when no flow refers to them.

use std::{convert::Infallible, thread, time::Duration};

use proxy_common::Family;
use tokio::{
    task::{JoinError, spawn_blocking},
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};
use tracing::{debug, warn};

use crate::{
    bpf::{Batch, Error, FlowBatches, Tables, clock},
    chain::chain,
    dataplane::Referred,
    metrics::Entries,
    walks::Walker,
};

/// How often silent flows are collected.
const PERIOD: Duration = Duration::from_secs(30);

/// How long it leaves the processor to others after each batch, which takes a fifth of that. A scheduler lets whoever works
/// without a pause go on for milliseconds while those wait who are woken by packets (EEVDF, since Linux 6.6). Of a
/// million flows there are sixteen thousand batches.
const PAUSE: Duration = Duration::from_micros(250);
/// The time between two runs at least, whoever asks for one.
const LEAST: Duration = Duration::from_secs(5);

/// What a run has done.
#[derive(Debug, PartialEq, Eq)]
pub struct Collected {
    /// How many entries it has removed.
    pub removed: usize,
    /// How many it has left.
    pub left: usize,
    /// The rows of Service ports that the others refer to, as far as they were there when it began.
    pub referred: Referred,
}

/// Collects the silent flows of a family now and then, beside everything else, one run after the
/// other, and tells what flows refer to, and how many entries they have. What fails is logged, and tried again in the next run.
///
/// # Errors
///
/// If a run panics.
pub async fn run<F>(
    mut tables: Tables<F>,
    mut batches: FlowBatches<F>,
    walker: Walker,
    entries: Entries,
) -> Result<Infallible, JoinError>
where
    F: Family<Addr: Send> + Send,
{
    let mut runs = interval(PERIOD);
    runs.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = runs.tick() => {}
            () = walker.asked() => {}
        }
        let began = Instant::now();
        let collected;
        (tables, batches, collected) = spawn_blocking(move || {
            let collected = collect(&mut tables, &batches);
            (tables, batches, collected)
        })
        .await?;
        match collected {
            Ok(Collected { removed, left, referred }) => {
                entries.of_flows(F::NAME, left, removed);
                debug!(family = F::NAME, removed, "collected silent flows");
                walker.tell(began, referred).await;
            }
            Err(error) => {
                let error = chain(&error);
                warn!(family = F::NAME, error, "cannot collect silent flows");
            }
        }
        sleep_until(began + LEAST).await;
    }
}

/// Removes the entries of a family that have been silent too long, and says how many, and what the others refer to. It
/// takes no more memory the more flows there are.
///
/// # Errors
///
/// If the table cannot be read or written. What was removed before stays so.
pub fn collect<F: Family>(
    tables: &mut Tables<F>,
    batches: &FlowBatches<F>,
) -> Result<Collected, Error> {
    let started = clock::now();
    let (mut batch, mut seen, mut removed) = (Batch::default(), 0, 0);
    let mut referred = Referred::none_of(tables.service_rows());
    while batches.next(&mut batch)? {
        for (key, flow) in batch.entries() {
            seen += 1;
            if !flow.is_expired(key.protocol, started) {
                referred.add(flow.service);
                continue;
            }
            match tables.flow(key)? {
                Some(flow) if flow.is_expired(key.protocol, clock::now()) => {
                    tables.remove_flow(key)?;
                    removed += 1;
                }
                // A packet has come since.
                Some(flow) => referred.add(flow.service),
                None => {}
            }
        }
        thread::sleep(PAUSE);
    }
    Ok(Collected { removed, left: seen - removed, referred })
}
