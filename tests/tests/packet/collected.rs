// SPDX-License-Identifier: Apache-2.0

//! What the agent's collector leaves of a table with many flows, and what it takes for that.

use std::time::{Duration, Instant};

use anyhow::Result;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use proxy_agent::bpf::{FlowCapacity, clock};
use proxy_agent::collector::Collected;
use proxy_common::clock::{Tick, seconds};
use proxy_common::flow::{FlowKey, Hook};
use proxy_common::frontend::ServiceIndex;
use proxy_tests::both_families;
use proxy_tests::protocol::Protocol;

use crate::connection::{Connection, tuple};
use crate::frames::{backend, client, vip};
use crate::rig::{CAPACITY, Rig, Tabled, number};

both_families!(all_that_is_silent_is_collected_and_nothing_else);

/// Flows of a table: several batches of them.
const FLOWS: u32 = 20_000;
/// Of so many, one is silent.
const SILENT: u32 = 10;

/// The processor's time of this thread so far.
fn worked() -> Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_THREAD)?;
    let time = usage.user_time() + usage.system_time();
    Ok(Duration::from_micros(u64::try_from(time.num_microseconds())?))
}

fn all_that_is_silent_is_collected_and_nothing_else<F: Tabled>() -> Result<()> {
    let mut rig = Rig::<F>::with_capacity(FlowCapacity { entries: 2 * FLOWS + 2, ..CAPACITY })?;
    let _: ServiceIndex = rig.service(vip::<F>(1), Protocol::Udp, &[backend::<F>(1)])?;
    let living =
        Connection::establish(&rig.programs, Protocol::Udp, client::<F>(12, 1), vip::<F>(1))?;
    let flow = rig.tables.flow(&living.key::<F>())?.expect("it has been opened");
    let now = clock::now();
    for entry in 0..2 * FLOWS {
        let port = u16::try_from(entry % 50_000)? + 1000;
        let mut from = client::<F>(u8::try_from(entry / 50_000)? + 20, 0);
        from.set_port(port);
        let key = FlowKey::new(tuple::<F>(from, vip::<F>(1)), number(Protocol::Udp), Hook::INGRESS);
        let mut flow = flow;
        let silence = if entry % SILENT == 0 { 121 } else { 30 };
        flow.last_seen = Tick(now.0.wrapping_sub(seconds(silence)));
        flow.label(&key);
        rig.flows.insert(key, flow, 0)?;
    }
    assert_eq!(rig.tables.flows().count(), 2 * FLOWS as usize + 2);
    for expected in [2 * FLOWS / SILENT, 0] {
        let (started, before) = (Instant::now(), worked()?);
        let Collected { removed, left, .. } = rig.collect()?;
        println!(
            "{} entries, {removed} silent: {:?}, {:?} of a processor",
            2 * FLOWS,
            started.elapsed(),
            worked()?.saturating_sub(before),
        );
        assert_eq!(removed, expected as usize);
        assert_eq!(left, rig.tables.flows().count());
    }
    let left = rig.tables.flows().count();
    assert_eq!(left, (2 * FLOWS - 2 * FLOWS / SILENT) as usize + 2);
    assert!(living.is_confirmed(&rig)?);
    Ok(())
}
