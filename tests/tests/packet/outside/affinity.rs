// SPDX-License-Identifier: Apache-2.0

//! Session affinity: a client stays with its backend, whichever frontend it dials.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use proxy_common::affinity::AffinityKey;
use proxy_common::backend::{Backend, BackendId, Standing};
use proxy_common::clock::{Tick, seconds};
use proxy_common::counter::Reason;
use proxy_common::device::Device;
use proxy_common::frontend::ServiceIndex;
use proxy_common::service::Policy;
use proxy_tests::both_families;
use proxy_tests::protocol::Protocol;

use super::{load_balancer, node_port, outsider, rig};
use crate::frames::{backends, client, opening, vip};
use crate::programs::Verdict;
use crate::rig::{Rig, Tabled};

both_families!(
    a_client_stays_whichever_frontend_it_dials,
    each_client_and_service_port_chooses_for_itself,
    after_its_time_a_client_chooses_again,
    a_new_flow_renews_the_time,
    a_backend_that_has_gone_is_left,
    without_affinity_nothing_is_remembered,
    a_pod_stays_too,
);

const SECONDS: u32 = 100;

fn sticky<F: Tabled>() -> Result<Rig<F>> {
    let mut rig = rig::<F>(&backends::<F>(8), Policy::default().with_affinity(SECONDS))?;
    // Those of both Service ports, which have rows of their own.
    for id in BackendId::FIRST.0..rig.next_backend {
        let standing = Standing::IN_CLUSTER;
        let backend = Backend { standing, ..rig.tables.backend(BackendId(id))? };
        rig.tables.put_backend(BackendId(id), backend)?;
    }
    Ok(rig)
}

fn choice<F: Tabled>(
    rig: &Rig<F>,
    protocol: Protocol,
    client: SocketAddr,
    to: SocketAddr,
) -> Result<SocketAddr> {
    let packet = rig.programs.arrives(&opening(protocol, client, to))?.packet(Verdict::Pass)?;
    packet.destination_socket().context("ports")
}

/// The backends of twenty new flows of a client.
fn choices<F: Tabled>(
    rig: &Rig<F>,
    protocol: Protocol,
    first_port: u16,
    to: SocketAddr,
) -> Result<BTreeSet<SocketAddr>> {
    let ports = first_port..first_port + 20;
    ports.map(|port| choice(rig, protocol, outsider::<F>(port), to)).collect()
}

/// Makes all that is remembered so many seconds older.
fn age<F: Tabled>(rig: &mut Rig<F>, by: u32) -> Result<()> {
    let entries = rig.affinities.iter().collect::<Result<Vec<_>, _>>()?;
    for (key, mut known) in entries {
        known.used = Tick(known.used.0.wrapping_sub(seconds(by)));
        rig.affinities.insert(key, known, 0)?;
    }
    Ok(())
}

fn a_client_stays_whichever_frontend_it_dials<F: Tabled>() -> Result<()> {
    let rig = sticky::<F>()?;
    for (count, protocol) in (1..).zip(Protocol::ALL) {
        let mut chosen = choices(&rig, protocol, 40_000, node_port::<F>())?;
        chosen.extend(choices(&rig, protocol, 41_000, load_balancer::<F>())?);
        chosen.extend(choices(&rig, protocol, 42_000, vip::<F>(1))?);
        assert_eq!(chosen.len(), 1, "{protocol} {chosen:?}");
        assert_eq!(rig.count(Reason::AffinityKept)?, 59 * count);
    }
    Ok(())
}

fn each_client_and_service_port_chooses_for_itself<F: Tabled>() -> Result<()> {
    let rig = sticky::<F>()?;
    let mut clients = BTreeSet::new();
    let mut ports = BTreeSet::new();
    for host in 1..250 {
        let client = SocketAddr::new(F::underlay(host), 40_000);
        let of_tcp = choice(&rig, Protocol::Tcp, client, node_port::<F>())?;
        let _: bool = clients.insert(of_tcp);
        for other in [Protocol::Udp, Protocol::Sctp] {
            let same = choice(&rig, other, client, node_port::<F>())? == of_tcp;
            let _: bool = ports.insert((other, same));
        }
    }
    assert_eq!((clients.len(), ports.len()), (8, 4));
    Ok(())
}

fn after_its_time_a_client_chooses_again<F: Tabled>() -> Result<()> {
    let mut rig = sticky::<F>()?;
    let mut chosen = BTreeSet::new();
    for port in 40_000..40_100 {
        let to = choice(&rig, Protocol::Tcp, outsider::<F>(port), node_port::<F>())?;
        let _: bool = chosen.insert(to);
        age(&mut rig, SECONDS + 1)?;
    }
    assert_eq!(chosen.len(), 8);
    assert_eq!(rig.count(Reason::AffinityKept)?, 0);
    Ok(())
}

fn a_new_flow_renews_the_time<F: Tabled>() -> Result<()> {
    let mut rig = sticky::<F>()?;
    let mut chosen = BTreeSet::new();
    for port in 40_000..40_020 {
        let to = choice(&rig, Protocol::Udp, outsider::<F>(port), node_port::<F>())?;
        let _: bool = chosen.insert(to);
        age(&mut rig, SECONDS - 2)?;
    }
    assert_eq!(chosen.len(), 1);
    Ok(())
}

/// A change of the backend that a client had.
type Change<F> = fn(&mut Backend<<F as Tabled>::Abi>);

fn a_backend_that_has_gone_is_left<F: Tabled>() -> Result<()> {
    let mut rig = sticky::<F>()?;
    let known = |rig: &Rig<F>| -> Result<(BackendId, u32)> {
        let entries = rig.affinities.iter().collect::<Result<Vec<(AffinityKey<_>, _)>, _>>()?;
        assert_eq!(entries.len(), 1);
        Ok((entries[0].1.backend, entries[0].1.generation))
    };
    let _: BTreeSet<_> = choices(&rig, Protocol::Tcp, 40_000, node_port::<F>())?;
    let mut before = known(&rig)?;
    // It is in no set any more; or its generation says so; or it is another Service port's now.
    let changes: [Change<F>; 3] = [
        |backend| backend.standing = Standing::IN_LOCAL,
        |backend| backend.generation += 1,
        |backend| backend.service = ServiceIndex(77),
    ];
    for (port, change) in (41_000..).step_by(200).zip(changes) {
        let (id, former) = (before.0, rig.tables.backend(before.0)?);
        let mut backend = former;
        change(&mut backend);
        rig.tables.put_backend(id, backend)?;
        // Its slot is still there, so chance may choose it again: as it is now, or not for long.
        let mut tries = port..port + 50;
        while known(&rig)? == before {
            let client = outsider::<F>(tries.next().context("it is not left")?);
            let _ = choice(&rig, Protocol::Tcp, client, node_port::<F>())?;
        }
        rig.tables.put_backend(id, former)?;
        let _: BTreeSet<_> = choices(&rig, Protocol::Tcp, port + 60, node_port::<F>())?;
        before = known(&rig)?;
        let chosen = choices(&rig, Protocol::Tcp, port + 80, node_port::<F>())?;
        assert_eq!(chosen.len(), 1, "{chosen:?}");
    }
    Ok(())
}

fn without_affinity_nothing_is_remembered<F: Tabled>() -> Result<()> {
    let rig = rig::<F>(&backends::<F>(8), Policy::default())?;
    for protocol in Protocol::ALL {
        assert!(choices(&rig, protocol, 40_000, node_port::<F>())?.len() > 1);
    }
    assert_eq!(rig.affinities.iter().count(), 0);
    Ok(())
}

/// At a device where most new flows take a short way.
fn a_pod_stays_too<F: Tabled>() -> Result<()> {
    let mut rig = sticky::<F>()?;
    rig.set_device(Device::routed().with_local_clients(true))?;
    for protocol in Protocol::ALL {
        let chosen = (40_000..40_020).map(|port| {
            let sent = opening(protocol, client::<F>(12, port), load_balancer::<F>());
            let packet = rig.programs.ingress(&sent)?.packet(Verdict::Pass)?;
            packet.destination_socket().context("ports")
        });
        let chosen = chosen.collect::<Result<BTreeSet<_>>>()?;
        assert_eq!(chosen.len(), 1, "{protocol:?}: {chosen:?}");
    }
    Ok(())
}
