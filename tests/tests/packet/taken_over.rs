// SPDX-License-Identifier: Apache-2.0

//! Tables that one reconciler has left and another one takes over.

use anyhow::{Result, ensure};
use proxy_agent::reconcile::Rows;
use proxy_agent::reconcile::allocator::REST;
use proxy_tests::both_families;
use proxy_tests::protocol::Protocol;

use crate::cluster::Cluster;
use crate::connection::Connection;
use crate::frames::{backend, client, opening, vip};
use crate::programs::Verdict;
use crate::rig::{Rig, Tabled};

both_families!(
    who_takes_the_tables_over_keeps_the_rows,
    what_went_before_is_not_mistaken_afterwards,
);

fn who_takes_the_tables_over_keeps_the_rows<F: Tabled>() -> Result<()> {
    const ROWS: Rows = Rows { services: 64, slots: 1 << 12, backends: 1 << 10 };
    let mut rig = Rig::<F>::new()?;
    let (service, gone) = (vip::<F>(1), vip::<F>(2));
    let endpoints = [backend::<F>(1), backend::<F>(2)];
    let at = client::<F>(12, 40_000);
    let mut before = Cluster::<F>::new(ROWS);
    for protocol in Protocol::ALL {
        before.put(service, protocol, &endpoints);
        before.put(gone, protocol, &[backend::<F>(3)]);
    }
    before.write(&mut rig.tables)?;
    let contents = rig.tables.take_over()?;
    let mut flows = Vec::new();
    for protocol in Protocol::ALL {
        flows.push(Connection::establish(&rig.programs, protocol, at, service)?);
    }
    let mut after = Cluster::<F>::new(ROWS).taking_over(&mut rig.tables)?;
    for protocol in Protocol::ALL {
        after.put(service, protocol, &endpoints);
        after.put(gone, protocol, &[backend::<F>(3)]);
    }
    after.write(&mut rig.tables)?;
    let found = rig.tables.take_over()?;
    ensure!(found == contents, "something was written: {contents:#?} is {found:#?} now");
    let mut after = Cluster::<F>::new(ROWS).taking_over(&mut rig.tables)?;
    for protocol in Protocol::ALL {
        after.put(service, protocol, &endpoints);
    }
    after.write(&mut rig.tables)?;
    let left = rig.tables.take_over()?;
    let services = Protocol::ALL.len();
    assert_eq!((left.services.len(), left.removed.len()), (services, services));
    for flow in &flows {
        flow.prove(&rig.programs)?;
        flow.answer(&rig.programs)?;
    }
    for protocol in Protocol::ALL {
        let sent = opening(protocol, client::<F>(12, 40_001), gone);
        let outcome = rig.programs.ingress(&sent)?;
        assert_eq!(outcome.packet(Verdict::Pass)?, sent, "there is no such Service");
    }
    Ok(())
}

/// Generations go on where they were, even where nothing is left but these.
fn what_went_before_is_not_mistaken_afterwards<F: Tabled>() -> Result<()> {
    const ROWS: Rows = Rows { services: 4, slots: 8, backends: 1 };
    let mut rig = Rig::<F>::new()?;
    let (service, at) = (vip::<F>(1), client::<F>(12, 40_000));
    let mut before = Cluster::<F>::new(ROWS);
    before.put(service, Protocol::Udp, &[backend::<F>(1)]);
    before.write(&mut rig.tables)?;
    let _ = Connection::establish(&rig.programs, Protocol::Udp, at, service)?;
    before.remove(service, Protocol::Udp);
    before.write(&mut rig.tables)?;
    let mut after = Cluster::<F>::new(ROWS).taking_over(&mut rig.tables)?;
    after.put(service, Protocol::Udp, &[backend::<F>(2)]);
    assert!(!after.try_write(&mut rig.tables), "the row has not rested");
    after.now += 2 * REST;
    after.write(&mut rig.tables)?;
    let next = Connection::open(&rig.programs, Protocol::Udp, at, service)?;
    assert_eq!(next.backend, backend::<F>(2));
    Ok(())
}
