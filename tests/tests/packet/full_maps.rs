// SPDX-License-Identifier: Apache-2.0

//! Tables that are full. Of what the programs themselves remember, who has been silent for longest makes room, and is
//! known again when he is heard again; of what the agent writes, what fits is served. See `many_clients` for session
//! affinity, and `endless` and `overload` for flows.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

use anyhow::{Context as _, Result, ensure};
use proxy_agent::bpf::{Capacity, Tables};
use proxy_agent::reconcile::Rows;
use proxy_agent::reconcile::allocator::REST;
use proxy_common::counter::Reason;
use proxy_common::fragment::MAX_FRAGMENTED;
use proxy_common::frontend::ServiceIndex;
use proxy_common::map_names::{self, family_ending};
use proxy_common::name::text;
use proxy_common::service_cidr::MAX_OUTSIDERS;
use proxy_common::shortfall::{Cause, MAX_SHORTFALLS, OTHERS};
use proxy_tests::both_families;
use proxy_tests::packet::{Packet, TcpFlags};
use proxy_tests::protocol::Protocol;

use crate::cluster::Cluster;
use crate::connection::Connection;
use crate::frames::{backend, backends, client, opening, tcp, udp, vip};
use crate::programs::{At, Verdict};
use crate::rig::{CAPACITY, Rig, Tabled};

both_families!(
    fragments_of_a_flood_push_out_those_of_before,
    outsiders_of_a_flood_push_out_the_silent,
    a_set_without_slots_is_served_by_what_fits,
    more_shortfalls_than_rows_are_counted,
);

/// How often more come than there is room for.
const TIMES: u32 = 2;
/// Between two looks at what goes on.
const BETWEEN: u32 = 64;

/// The first of these, who came before a flood, that is forgotten. The kernel keeps up to 128 entries of each
/// processor out of what is displaced: a thread that the scheduler has moved leaves some of its first there.
pub(crate) fn silent(
    mut early: Range<u32>,
    is_forgotten: impl Fn(u32) -> Result<bool>,
) -> Result<u32> {
    let silent = early.find_map(|number| match is_forgotten(number) {
        Ok(true) => Some(Ok(number)),
        Ok(false) => None,
        Err(error) => Some(Err(error)),
    });
    silent.context("all of them are remembered")?
}

/// A datagram that is long enough to be cut, with this identification.
fn long(from: SocketAddr, to: SocketAddr, number: u32) -> Packet {
    Packet { label: number, ..udp(from, to, &[7; 1_000]) }
}

fn fragments_of_a_flood_push_out_those_of_before<F: Tabled>() -> Result<()> {
    let mut rig = Rig::<F>::new()?;
    let at = vip::<F>(1);
    rig.mark(SocketAddr::new(at.ip(), 0), Protocol::Tcp, ServiceIndex::REFUSE)?;
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        let _: ServiceIndex = rig.service(at, protocol, &[backend::<F>(1)])?;
    }
    let establish = |rig: &Rig<F>, protocol, host| {
        Connection::establish(&rig.programs, protocol, client::<F>(host, 40_000), at)
    };
    let stream = establish(&rig, Protocol::Tcp, 12)?;
    let datagrams = establish(&rig, Protocol::Udp, 12)?;
    let flooder = establish(&rig, Protocol::Udp, 13)?;
    // All of a packet goes where its first fragment goes.
    let goes_on = |number: u32| -> Result<()> {
        let sent = long(datagrams.client, at, number);
        let expected = sent.clone().to(datagrams.backend).fragments(31)?;
        for (fragment, expected) in sent.fragments(31)?.iter().zip(&expected) {
            rig.programs.ingress(fragment)?.is(Verdict::Pass, expected)?;
        }
        stream.prove(&rig.programs)?;
        stream.answer(&rig.programs)
    };
    let flood = |number: u32| long(flooder.client, at, number).fragments(31);
    for number in 1..=TIMES * MAX_FRAGMENTED {
        assert_eq!(rig.programs.ingress(&flood(number)?[0])?.verdict, Verdict::Pass);
        if number % BETWEEN == 0 {
            goes_on(number).with_context(|| format!("after {number}"))?;
        }
    }
    let known = rig.fragments.keys().collect::<Result<Vec<_>, _>>()?.len();
    ensure!(known <= MAX_FRAGMENTED as usize && known > MAX_FRAGMENTED as usize / 4, "{known}");
    // The rest of what came first is lost, and told of as such; sent once more, it gets there.
    assert_eq!(rig.count(Reason::DropFragment)?, 0);
    let is_lost = |number| -> Result<bool> {
        Ok(rig.programs.ingress(&flood(number)?[1])?.verdict == Verdict::Drop)
    };
    let early = silent(1..MAX_FRAGMENTED / 2, is_lost)?;
    assert_eq!(rig.count(Reason::DropFragment)?, 1);
    for fragment in flood(early)? {
        assert_eq!(rig.programs.ingress(&fragment)?.verdict, Verdict::Pass);
    }
    goes_on(TIMES * MAX_FRAGMENTED + 1)?;
    assert!(establish(&rig, Protocol::Tcp, 14)?.is_confirmed(&rig)?);
    Ok(())
}

/// One of many addresses of the Service CIDR that are no VIP's.
fn stranger<F: Tabled>(number: u32) -> SocketAddr {
    let ip = match F::cluster_ip(0) {
        IpAddr::V4(ip) => IpAddr::V4((ip.to_bits() + 256 + number).into()),
        IpAddr::V6(ip) => IpAddr::V6((ip.to_bits() + u128::from(0x1000 + number)).into()),
    };
    SocketAddr::new(ip, 80)
}

fn outsiders_of_a_flood_push_out_the_silent<F: Tabled>() -> Result<()> {
    let mut rig = Rig::<F>::new()?;
    let length = 8 * u32::try_from(if F::cluster_ip(0).is_ipv4() { 2 } else { 14 })?;
    rig.guard(F::cluster_ip(0), length)?;
    rig.mark(SocketAddr::new(F::cluster_ip(1), 0), Protocol::Tcp, ServiceIndex::REFUSE)?;
    let _: ServiceIndex = rig.service(vip::<F>(1), Protocol::Tcp, &[backend::<F>(1)])?;
    let pod = client::<F>(12, 40_000);
    let is_heard = |from: SocketAddr| -> Result<()> {
        let packet = udp(from, pod, b"hello");
        rig.programs.run(At::UplinkIngress, &packet.build()?)?.is(Verdict::Pass, &packet)
    };
    let leaves = |packet: Packet| -> Result<bool> {
        Ok(rig.programs.run(At::UplinkEgress, &packet.build()?)?.verdict == Verdict::Pass)
    };
    let begins = |to| leaves(opening(Protocol::Tcp, pod, to));
    let peer = stranger::<F>(0);
    ensure!(!begins(peer)?, "it has not been heard of");
    is_heard(peer)?;
    ensure!(begins(peer)?, "it is outside");
    for number in 1..TIMES * MAX_OUTSIDERS {
        is_heard(stranger::<F>(number))?;
        if number % BETWEEN == 0 {
            ensure!(begins(peer)?, "{number}: whom the node talks to is forgotten");
            is_heard(peer)?;
        }
    }
    // Who has been silent is asked nothing new until he is heard again; what has begun goes on.
    let dropped = rig.count(Reason::DropServiceCidr)?;
    let is_forgotten = |number| Ok(!begins(stranger::<F>(number))?);
    let silent = stranger::<F>(silent(1..MAX_OUTSIDERS / 2, is_forgotten)?);
    assert_eq!(rig.count(Reason::DropServiceCidr)?, dropped + 1);
    ensure!(leaves(tcp(pod, silent, TcpFlags::ACK))?);
    is_heard(silent)?;
    ensure!(begins(silent)? && begins(peer)?);
    // Nobody of them has made an outsider of a VIP, or of who has not been heard of.
    let refused =
        rig.programs.run(At::UplinkEgress, &opening(Protocol::Udp, pod, vip::<F>(1)).build()?)?;
    assert_eq!(refused.verdict, Verdict::Redirect);
    ensure!(!begins(stranger::<F>(TIMES * MAX_OUTSIDERS))?);
    Ok(())
}

/// What the listing says to be missing, by the rows of its table: why, and where.
fn missing<F: Tabled>(
    cluster: &mut Cluster<F>,
    tables: &mut Tables<F::Abi>,
) -> Result<Vec<(u32, Cause, String)>> {
    cluster.tell(tables)?;
    let rows = tables.shortfalls().map(|entry| {
        let (row, said) = entry?;
        Ok((row, said.cause, text(&said.table).context("no text")?.to_owned()))
    });
    rows.collect()
}

/// Both the table and what the reconciler knows of it have twelve slots.
fn a_set_without_slots_is_served_by_what_fits<F: Tabled>() -> Result<()> {
    const SLOTS: u32 = 12;
    let mut rig =
        Rig::<F>::with_tables(Capacity { flows: CAPACITY, slots: SLOTS, ..Capacity::default() })?;
    let rows = Rows { services: 16, slots: SLOTS, backends: 64 };
    let mut cluster = Cluster::<F>::new(rows);
    let all = backends::<F>(16);
    let (early, other, late) = (vip::<F>(1), vip::<F>(2), vip::<F>(3));
    cluster.put(early, Protocol::Tcp, &all[..3]);
    cluster.put(other, Protocol::Tcp, &all[3..10]);
    cluster.write(&mut rig.tables)?;
    let establish = |rig: &Rig<F>, port, to| {
        Connection::establish(&rig.programs, Protocol::Tcp, client::<F>(12, port), to)
    };
    let known = [establish(&rig, 1, early)?, establish(&rig, 2, other)?];
    let mut ports = 1_000_u16..;
    // Which backends new connections get: each is missed once in 10^7 runs.
    let mut chosen = |rig: &Rig<F>, to| -> Result<Vec<SocketAddr>> {
        let opened = ports.by_ref().take(120).map(|port| {
            let from = client::<F>(12, port);
            Ok(Connection::open(&rig.programs, Protocol::Tcp, from, to)?.backend)
        });
        let mut chosen = opened.collect::<Result<Vec<_>>>()?;
        chosen.sort_unstable();
        chosen.dedup();
        Ok(chosen)
    };
    let goes_on = |rig: &Rig<F>| -> Result<()> {
        for connection in &known {
            connection.prove(&rig.programs)?;
            connection.answer(&rig.programs)?;
        }
        Ok(())
    };
    let full =
        |row| (row, Cause::FULL, format!("{}{}", map_names::SLOTS, family_ending::<F::Abi>()));

    // Two slots are left for four endpoints.
    cluster.put(late, Protocol::Tcp, &all[10..14]);
    assert!(!cluster.try_write(&mut rig.tables));
    assert_eq!(chosen(&rig, late)?, all[10..12]);
    assert_eq!(missing(&mut cluster, &mut rig.tables)?, [full(1)]);
    // An endpoint that is replaced by another goes, though the other does not come.
    cluster.put(early, Protocol::Tcp, &[all[0], all[1], all[14]]);
    assert!(!cluster.try_write(&mut rig.tables));
    assert_eq!(chosen(&rig, early)?, all[..2]);
    assert_eq!(chosen(&rig, other)?, all[3..10]);
    assert_eq!(missing(&mut cluster, &mut rig.tables)?.len(), 2);
    goes_on(&rig)?;

    // What another Service needs no more makes room, after its rest.
    cluster.put(other, Protocol::Tcp, &[]);
    let _: bool = cluster.try_write(&mut rig.tables);
    for _ in 0..4 {
        cluster.now += 2 * REST;
        let _: bool = cluster.try_write(&mut rig.tables);
    }
    cluster.write(&mut rig.tables)?;
    assert_eq!(chosen(&rig, early)?, [all[0], all[1], all[14]]);
    assert_eq!(chosen(&rig, late)?, all[10..14]);
    assert_eq!(missing(&mut cluster, &mut rig.tables)?, []);
    goes_on(&rig)
}

fn more_shortfalls_than_rows_are_counted<F: Tabled>() -> Result<()> {
    const MORE: u32 = 20;
    let mut rig = Rig::<F>::new()?;
    let mut cluster = Cluster::<F>::new(Rows { services: 1, slots: 16, backends: 16 });
    cluster.put(vip::<F>(1), Protocol::Tcp, &[backend::<F>(1)]);
    cluster.write(&mut rig.tables)?;
    let connection =
        Connection::establish(&rig.programs, Protocol::Tcp, client::<F>(12, 1), vip::<F>(1))?;
    for number in 0..MAX_SHORTFALLS + MORE {
        cluster.put(stranger::<F>(number), Protocol::Tcp, &[backend::<F>(2)]);
    }
    assert!(!cluster.try_write(&mut rig.tables));
    cluster.tell(&mut rig.tables)?;
    let others = |rig: &Rig<F>| -> Result<Option<u32>> {
        let mut rows = rig.tables.shortfalls().filter_map(Result::ok);
        Ok(rows.find(|(row, _)| *row == OTHERS).map(|(_, said)| said.count))
    };
    assert_eq!(rig.tables.shortfalls().count(), MAX_SHORTFALLS as usize + 1);
    assert_eq!(others(&rig)?, Some(MORE));
    connection.prove(&rig.programs)?;
    connection.answer(&rig.programs)?;
    for number in 0..MAX_SHORTFALLS + MORE {
        cluster.remove(stranger::<F>(number), Protocol::Tcp);
    }
    cluster.write(&mut rig.tables)?;
    assert_eq!(missing(&mut cluster, &mut rig.tables)?, []);
    Ok(())
}
