// SPDX-License-Identifier: Apache-2.0
//! Collecting flows that have been silent too long.
//!
//! The programs check the time-out of each flow that they meet, and half-open and closed flows make room
//! for each other, so nothing depends on this but the room for flows that go on.

use std::{convert::Infallible, time::Duration};

use proxy_common::Family;
use tokio::{
    task::{JoinError, spawn_blocking},
    time::{MissedTickBehavior, interval},
};
use tracing::{debug, warn};

use crate::{
    bpf::{Error, Tables, clock},
    chain::chain,
};

/// How often silent flows are collected.
const PERIOD: Duration = Duration::from_secs(30);

/// Collects the silent flows of a family now and then, beside everything else, one run after the
/// other. What fails is logged, and tried again in the next run.
///
/// # Errors
///
/// If a run panics.
pub async fn run<F>(mut tables: Tables<F>) -> Result<Infallible, JoinError>
where
    F: Family<Addr: Send> + Send,
{
    let mut runs = interval(PERIOD);
    runs.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let _ = runs.tick().await;
        let removed;
        (tables, removed) = spawn_blocking(move || {
            let removed = collect(&mut tables);
            (tables, removed)
        })
        .await?;
        match removed {
            Ok(removed) => debug!(family = F::NAME, removed, "collected silent flows"),
            Err(error) => {
                let error = chain(&error);
                warn!(family = F::NAME, error, "cannot collect silent flows");
            }
        }
    }
}

/// Removes the entries of a family that have been silent too long, and says how many.
fn collect<F: Family>(tables: &mut Tables<F>) -> Result<usize, Error> {
    let started = clock::now();
    let mut silent = Vec::new();
    for entry in tables.flows() {
        let (key, flow) = entry?;
        if flow.is_expired(key.protocol, started) {
            silent.push(key);
        }
    }
    let mut removed = 0;
    for key in silent {
        // A packet may have come since.
        if let Some(flow) = tables.flow(&key)?
            && flow.is_expired(key.protocol, clock::now())
        {
            tables.remove_flow(&key)?;
            removed += 1;
        }
    }
    Ok(removed)
}
