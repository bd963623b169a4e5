// SPDX-License-Identifier: Apache-2.0

//! Rows of Service ports that have gone: they are no other's as long as a flow refers to them.

use anyhow::{Context as _, Result};
use proxy_agent::reconcile::Rows;
use proxy_agent::reconcile::allocator::REST;
use proxy_common::counter::Reason;
use proxy_common::flow::TCP_ESTABLISHED_SECONDS;
use proxy_common::frontend::ServiceIndex;
use proxy_common::name::text;
use proxy_tests::both_families;
use proxy_tests::protocol::Protocol;

use crate::cluster::Cluster;
use crate::connection::Connection;
use crate::frames::{backend, client, vip};
use crate::rig::{Rig, Tabled};

both_families!(
    a_row_goes_to_another_service_when_the_last_flow_has_gone,
    who_takes_the_tables_over_leaves_it_its_row,
    a_client_is_not_remembered_for_another_service,
);

const ROWS: Rows = Rows { services: 16, slots: 64, backends: 16 };

/// The row that a flow refers to.
fn row_of<F: Tabled>(rig: &Rig<F>, flow: &Connection) -> Result<ServiceIndex> {
    let flow = rig.tables.flow(&flow.key::<F>())?.context("there is no such flow")?;
    Ok(flow.service)
}

/// What a row is called, if it is anybody's.
fn name_of<F: Tabled>(rig: &Rig<F>, row: ServiceIndex) -> Result<Option<String>> {
    let names: Vec<_> = rig.tables.names().collect::<Result<_, _>>()?;
    let name = names.iter().find(|(index, _)| *index == row);
    Ok(name.map(|(_, name)| text(&name.name).unwrap_or_default().to_owned()))
}

/// Has the last packet of a flow been long ago.
fn silence<F: Tabled>(rig: &mut Rig<F>, flow: &Connection) -> Result<()> {
    for key in [flow.key::<F>(), flow.reply_key::<F>()] {
        rig.age(&key, TCP_ESTABLISHED_SECONDS + 1)?;
    }
    Ok(())
}

/// What is there serves, what is new waits.
fn a_row_goes_to_another_service_when_the_last_flow_has_gone<F: Tabled>() -> Result<()> {
    let mut rig = Rig::<F>::new()?;
    let rows = Rows { services: 2, ..ROWS };
    let mut cluster = Cluster::<F>::new(rows).waiting_for_walks();
    let [stays, gone, late] = [1, 2, 3].map(vip::<F>);
    let mut ports = 40_000..;
    let mut next = || client::<F>(12, ports.next().unwrap_or_default());
    for protocol in Protocol::ALL {
        cluster.put(stays, protocol, &[backend::<F>(1)]);
        cluster.put(gone, protocol, &[backend::<F>(2)]);
        cluster.write(&mut rig.tables)?;
        let kept = Connection::establish(&rig.programs, protocol, next(), stays)?;
        let confirmed = Connection::establish(&rig.programs, protocol, next(), gone)?;
        let half_open = Connection::open(&rig.programs, protocol, next(), gone)?;
        let row = row_of(&rig, &confirmed)?;
        assert_eq!(row, row_of(&rig, &half_open)?);
        cluster.remove(gone, protocol);
        cluster.put(late, protocol, &[backend::<F>(3)]);
        assert!(!cluster.try_write(&mut rig.tables));
        for flow in [&confirmed, &half_open] {
            cluster.now += 10 * REST;
            cluster.walk(&mut rig)?;
            assert!(!cluster.try_write(&mut rig.tables), "a flow refers to it");
            assert_eq!(name_of(&rig, row)?, None);
            kept.prove(&rig.programs)?;
            kept.answer(&rig.programs)?;
            // Datagrams go to no endpoint that has gone.
            if protocol != Protocol::Udp && flow.is_confirmed(&rig)? {
                flow.prove(&rig.programs)?;
                flow.answer(&rig.programs)?;
            }
            let new = Connection::establish(&rig.programs, protocol, next(), stays)?;
            assert_eq!(new.backend, backend::<F>(1));
            silence(&mut rig, flow)?;
        }
        cluster.walk(&mut rig)?;
        // It has just failed again, and need not wait.
        cluster.write(&mut rig.tables)?;
        assert!(name_of(&rig, row)?.is_some_and(|name| name.contains(&late.to_string())));
        let new = Connection::establish(&rig.programs, protocol, next(), late)?;
        assert_eq!(new.backend, backend::<F>(3));
        kept.prove(&rig.programs)?;
        // The next protocol finds all rows free.
        cluster.remove(stays, protocol);
        cluster.remove(late, protocol);
        cluster.write(&mut rig.tables)?;
        rig.forget_flows()?;
        cluster.now += 2 * REST;
        cluster.walk(&mut rig)?;
    }
    Ok(())
}

fn who_takes_the_tables_over_leaves_it_its_row<F: Tabled>() -> Result<()> {
    let mut rig = Rig::<F>::new()?;
    let mut before = Cluster::<F>::new(ROWS).waiting_for_walks();
    let (gone, other) = (vip::<F>(1), vip::<F>(2));
    before.put(gone, Protocol::Tcp, &[backend::<F>(1)]);
    before.write(&mut rig.tables)?;
    let at = client::<F>(12, 40_000);
    let flow = Connection::establish(&rig.programs, Protocol::Tcp, at, gone)?;
    let row = row_of(&rig, &flow)?;
    before.remove(gone, Protocol::Tcp);
    before.write(&mut rig.tables)?;
    let rows = Rows { services: 1, ..ROWS };
    let mut after = Cluster::<F>::new(rows).waiting_for_walks().taking_over(&mut rig.tables)?;
    after.put(other, Protocol::Tcp, &[backend::<F>(2)]);
    for _ in 0..2 {
        assert!(!after.try_write(&mut rig.tables));
        assert_eq!(name_of(&rig, row)?, None);
        after.now += 100 * REST;
        after.walk(&mut rig)?;
    }
    flow.prove(&rig.programs)?;
    silence(&mut rig, &flow)?;
    after.walk(&mut rig)?;
    after.write(&mut rig.tables)?;
    assert!(name_of(&rig, row)?.is_some());
    Ok(())
}

/// Whoever remembers a client remembers the generation of its backend, too.
fn a_client_is_not_remembered_for_another_service<F: Tabled>() -> Result<()> {
    let mut rig = Rig::<F>::new()?;
    let rows = Rows { services: 1, slots: 8, backends: 1 };
    let mut cluster = Cluster::<F>::new(rows).waiting_for_walks();
    let at = client::<F>(12, 40_000);
    let mut row = None;
    for number in 1..=3 {
        let (service, endpoint) = (vip::<F>(number), backend::<F>(number));
        cluster.put_affine(service, Protocol::Udp, &[endpoint], 10_800);
        cluster.write(&mut rig.tables)?;
        let flow = Connection::open(&rig.programs, Protocol::Udp, at, service)?;
        assert_eq!(flow.backend, endpoint);
        assert_eq!(rig.count(Reason::AffinityKept)?, 0);
        let own = row_of(&rig, &flow)?;
        assert_eq!(*row.get_or_insert(own), own, "there is one row");
        assert_eq!(rig.affinities.keys().count(), 1);
        cluster.remove(service, Protocol::Udp);
        cluster.write(&mut rig.tables)?;
        silence(&mut rig, &flow)?;
        cluster.now += 2 * REST;
        cluster.walk(&mut rig)?;
    }
    Ok(())
}
