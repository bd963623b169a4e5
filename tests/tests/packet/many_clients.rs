// SPDX-License-Identifier: Apache-2.0

//! More clients with session affinity than are remembered.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use proxy_agent::bpf::Capacity;
use proxy_agent::reconcile::Rows;
use proxy_common::counter::Reason;
use proxy_tests::both_families;
use proxy_tests::protocol::Protocol;

use crate::cluster::Cluster;
use crate::connection::Connection;
use crate::frames::{backends, client, vip};
use crate::full_maps::silent;
use crate::rig::{CAPACITY, Rig, Tabled};

both_families!(who_has_asked_least_recently_makes_room);

/// Clients that are remembered, and so many times as many that come.
const ROOM: u32 = 1024;
const TIMES: u32 = 4;
/// Between two flows of a client that comes back.
const BETWEEN: u32 = 64;

/// One of many clients.
fn stranger<F: Tabled>(number: u32) -> Result<SocketAddr> {
    let (net, host) = (20 + u8::try_from(number / 200)?, 1 + u8::try_from(number % 200)?);
    Ok(SocketAddr::new(F::pod(net, host), 40_000))
}

/// Everybody is served, who comes back finds the backend again, and no flow is moved.
fn who_has_asked_least_recently_makes_room<F: Tabled>() -> Result<()> {
    let capacity = Capacity { flows: CAPACITY, affinities: ROOM, ..Capacity::default() };
    let mut rig = Rig::<F>::with_tables(capacity)?;
    let mut cluster = Cluster::<F>::new(Rows::CAPACITY);
    let (service, all) = (vip::<F>(1), backends::<F>(8));
    cluster.put_affine(service, Protocol::Tcp, &all, 10_800);
    cluster.write(&mut rig.tables)?;
    let open = |from| Connection::open(&rig.programs, Protocol::Tcp, from, service);
    let mut ports = 40_000..;
    let mut own = || client::<F>(12, ports.next().unwrap_or_default());
    let mut kept = 0;
    let first = Connection::establish(&rig.programs, Protocol::Tcp, own(), service)?;
    for number in 0..TIMES * ROOM {
        let served = open(stranger::<F>(number)?)?;
        ensure!(all.contains(&served.backend), "{number}: {served:?}");
        if number % BETWEEN == 0 {
            let again = open(own())?;
            ensure!(again.backend == first.backend, "{number}: {again:?}, and {first:?} before");
            kept += 1;
            first.prove(&rig.programs)?;
            first.answer(&rig.programs)?;
        }
    }
    assert_eq!(rig.count(Reason::AffinityKept)?, kept, "strangers are not known");
    let known = rig.affinities.keys().collect::<Result<Vec<_>, _>>()?;
    ensure!(known.len() <= ROOM as usize && known.len() > ROOM as usize / 4, "{}", known.len());
    // Who has been forgotten is remembered anew.
    let at = |number, port| anyhow::Ok(SocketAddr::new(stranger::<F>(number)?.ip(), port));
    let early = silent(0..ROOM / 2, |number| {
        let kept = rig.count(Reason::AffinityKept)?;
        let _: Connection = open(at(number, 40_001)?)?;
        Ok(rig.count(Reason::AffinityKept)? == kept)
    })?;
    let (kept, anew) = (rig.count(Reason::AffinityKept)?, open(at(early, 40_002)?)?);
    ensure!(open(at(early, 40_003)?)?.backend == anew.backend);
    assert_eq!(rig.count(Reason::AffinityKept)?, kept + 2);
    Ok(())
}
