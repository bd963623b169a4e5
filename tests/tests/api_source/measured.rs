// SPDX-License-Identifier: Apache-2.0

//! What is measured of the way from the API.

use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use proxy_agent::metrics::{Page as Told, Watches};
use proxy_tests::cluster::eventually;
use proxy_tests::exposition::Page;

use super::stage::Stage;

const KINDS: [&str; 3] = ["Service", "EndpointSlice", "Node"];

/// The value of each kind.
fn values(told: &Told, name: &str) -> Result<[Option<f64>; 3]> {
    // For so long a page is told again.
    thread::sleep(Duration::from_millis(100));
    let page = Page::read(&String::from_utf8(told.text()?.to_vec())?)?;
    Ok(KINDS.map(|kind| page.value(&format!("sixfour_watch_{name}"), &[("kind", kind)])))
}

#[test]
fn an_outage_is_told_of() -> Result<()> {
    let stage = Stage::new()?;
    let told = Told::default();
    let follower = stage.follow_measured(Watches::new(&told)?)?;
    follower.wait_synced()?;
    let are = |name: &str, expected: f64| {
        let are =
            eventually(|| values(&told, name).is_ok_and(|values| values == [Some(expected); 3]));
        ensure!(are, "{name}: {:?}, not {expected}", values(&told, name)?);
        Ok(())
    };
    are("followed", 1.0)?;
    are("lists_total", 1.0)?;
    are("failures_total", 0.0)?;
    stage.proxy.down();
    are("followed", 0.0)?;
    let failures = values(&told, "failures_total")?;
    ensure!(failures.iter().all(|failures| *failures >= Some(1.0)), "{failures:?}");
    stage.proxy.up()?;
    are("followed", 1.0)?;
    // Watches go on from where they were.
    are("lists_total", 1.0)
}
