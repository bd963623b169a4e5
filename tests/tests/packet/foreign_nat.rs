// SPDX-License-Identifier: Apache-2.0

//! Connections that another proxy has begun: as long as these may be there, packets of none that is known pass.

use std::net::SocketAddr;

use anyhow::Result;
use proxy_common::counter::Reason;
use proxy_common::foreign_nat::ForeignNat;
use proxy_common::frontend::ServiceIndex;
use proxy_tests::both_families;
use proxy_tests::packet::{Chunk, Packet, TcpFlags};
use proxy_tests::protocol::Protocol;

use crate::connection::Connection;
use crate::frames::{ack, backend, client, opening, sctp, tcp, vip};
use crate::programs::{At, Verdict};
use crate::rig::{Rig, Tabled};

both_families!(
    what_may_be_anothers_passes,
    later_fragments_pass,
    what_begins_is_served,
    what_nobody_owns_does_not_leave,
    what_another_version_may_have_translated_is_no_direct_connection,
    what_another_version_may_know_keeps_its_replies,
);

/// A Service without endpoints.
const EMPTY: u8 = 3;

/// A rig with a VIP, all of which is taken, that says whether there is another proxy.
fn rig<F: Tabled>(said: ForeignNat) -> Result<Rig<F>> {
    let mut rig = Rig::<F>::new()?;
    for host in [1, EMPTY] {
        rig.mark(SocketAddr::new(F::cluster_ip(host), 0), Protocol::Tcp, ServiceIndex::REFUSE)?;
    }
    for protocol in Protocol::ALL {
        let _: ServiceIndex = rig.service(vip::<F>(1), protocol, &[backend::<F>(1)])?;
        let _: ServiceIndex = rig.service(vip::<F>(EMPTY), protocol, &[])?;
    }
    rig.foreign_nat.set(0, said, 0)?;
    Ok(rig)
}

/// What is amid connections to Services, with endpoints and without, and to a port that is none.
fn amid<F: Tabled>() -> Vec<Packet> {
    let from = client::<F>(12, 40_000);
    let mut wrong = vip::<F>(1);
    wrong.set_port(81);
    let mut packets = Vec::new();
    for to in [vip::<F>(1), vip::<F>(EMPTY), wrong] {
        for flags in [TcpFlags::ACK, TcpFlags::SYN | TcpFlags::ACK, TcpFlags::FIN | TcpFlags::ACK] {
            packets.push(tcp(from, to, flags).payload(b"abc"));
        }
        packets.push(sctp(from, to, 0xabcd_ef01, Chunk::DATA));
    }
    packets
}

fn what_may_be_anothers_passes<F: Tabled>() -> Result<()> {
    let mut rig = rig::<F>(ForeignNat::POSSIBLE)?;
    let packets = amid::<F>();
    for packet in &packets {
        rig.programs.ingress(packet)?.is(Verdict::Pass, packet)?;
        rig.programs.arrives(packet)?.is(Verdict::Pass, packet)?;
    }
    let count = u64::try_from(packets.len())?;
    assert_eq!(rig.count(Reason::PassForeignNat)?, 2 * count);
    assert_eq!((rig.count(Reason::RejectNoFlow)?, rig.count(Reason::FlowCreated)?), (0, 0));
    // Nothing of that is remembered.
    rig.foreign_nat.set(0, ForeignNat::NONE, 0)?;
    for packet in &packets {
        for at in [At::Ingress, At::UplinkIngress] {
            let _: Packet = rig.programs.run(at, &packet.build()?)?.packet(Verdict::Redirect)?;
        }
    }
    assert_eq!(rig.count(Reason::RejectNoFlow)?, 2 * count);
    assert_eq!(rig.count(Reason::PassForeignNat)?, 2 * count);
    Ok(())
}

fn later_fragments_pass<F: Tabled>() -> Result<()> {
    let mut rig = rig::<F>(ForeignNat::POSSIBLE)?;
    let segment = ack(client::<F>(12, 40_000), vip::<F>(1)).payload(&[7; 1_000]);
    let fragments = segment.fragments(31)?;
    for fragment in &fragments {
        rig.programs.ingress(fragment)?.is(Verdict::Pass, fragment)?;
    }
    assert_eq!(rig.count(Reason::PassForeignNat)?, u64::try_from(fragments.len())?);
    rig.foreign_nat.set(0, ForeignNat::NONE, 0)?;
    rig.programs.ingress(&fragments[1])?.is_dropped();
    assert_eq!(rig.count(Reason::DropFragment)?, 1);
    Ok(())
}

/// What is new is nobody else's, nor is what is known.
fn what_begins_is_served<F: Tabled>() -> Result<()> {
    let rig = rig::<F>(ForeignNat::POSSIBLE)?;
    for (port, protocol) in (40_000..).zip(Protocol::ALL) {
        let from = client::<F>(12, port);
        let connection = Connection::establish(&rig.programs, protocol, from, vip::<F>(1))?;
        connection.answer(&rig.programs)?;
        let empty = opening(protocol, from, vip::<F>(EMPTY));
        let _: Packet = rig.programs.ingress(&empty)?.packet(Verdict::Redirect)?;
    }
    assert_eq!(rig.count(Reason::FlowCreated)?, 3);
    assert_eq!(rig.count(Reason::RejectNoEndpoints)?, 3);
    assert_eq!(rig.count(Reason::PassForeignNat)?, 0);
    Ok(())
}

fn what_nobody_owns_does_not_leave<F: Tabled>() -> Result<()> {
    let mut rig = rig::<F>(ForeignNat::POSSIBLE)?;
    rig.guard(F::cluster_ip(0), if F::FAMILY.host_prefix_length() == 32 { 16 } else { 112 })?;
    let packets = amid::<F>();
    for packet in &packets {
        rig.programs.ingress(packet)?.is(Verdict::Pass, packet)?;
        rig.programs.run(At::UplinkEgress, &packet.build()?)?.is_dropped();
    }
    assert_eq!(rig.count(Reason::DropServiceCidr)?, u64::try_from(packets.len())?);
    Ok(())
}

/// A rig with VIPs of one endpoint, beside another version that comes first.
fn beside_another_version<F: Tabled>() -> Result<Rig<F>> {
    let mut rig = Rig::<F>::new()?;
    for protocol in Protocol::ALL {
        for host in [1, 2] {
            let _: ServiceIndex = rig.service(vip::<F>(host), protocol, &[backend::<F>(1)])?;
        }
        rig.mark(backend::<F>(1), protocol, ServiceIndex::DIRECT)?;
    }
    rig.foreign_nat.set(0, ForeignNat::FORMER, 0)?;
    Ok(rig)
}

fn what_another_version_may_have_translated_is_no_direct_connection<F: Tabled>() -> Result<()> {
    let mut rig = beside_another_version::<F>()?;
    let opens = |rig: &Rig<F>| {
        let mut opened = 0;
        for (port, protocol) in (40_000..).zip(Protocol::ALL) {
            let sent = opening(protocol, client::<F>(12, port), backend::<F>(1));
            let before = rig.count(Reason::FlowCreated)?;
            rig.programs.ingress(&sent)?.is(Verdict::Pass, &sent)?;
            opened += rig.count(Reason::FlowCreated)? - before;
        }
        anyhow::Ok(opened)
    };
    assert_eq!(opens(&rig)?, 0);
    // Nor is anything remembered of it.
    rig.foreign_nat.set(0, ForeignNat::POSSIBLE, 0)?;
    assert_eq!(opens(&rig)?, 3);
    Ok(())
}

/// What begins gets another port instead: as it is answered, it would be taken for what has ended.
fn what_another_version_may_know_keeps_its_replies<F: Tabled>() -> Result<()> {
    let mut rig = beside_another_version::<F>()?;
    for (said, port) in [(ForeignNat::FORMER, 40_000), (ForeignNat::NONE, 40_001)] {
        rig.foreign_nat.set(0, said, 0)?;
        let client = client::<F>(12, port);
        let ended = Connection::establish(&rig.programs, Protocol::Tcp, client, vip::<F>(1))?;
        let fin = TcpFlags::FIN | TcpFlags::ACK;
        ended.request(&rig.programs, &tcp(client, ended.frontend, fin))?;
        ended.reply(&rig.programs, &tcp(ended.backend, ended.source, fin))?;
        let new = Connection::establish(&rig.programs, Protocol::Tcp, client, vip::<F>(2))?;
        assert_eq!(new.source == client, said == ForeignNat::NONE, "{said:?} {new:?}");
        new.answer(&rig.programs)?;
    }
    Ok(())
}
