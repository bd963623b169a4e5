// SPDX-License-Identifier: Apache-2.0

//! A backend is chosen uniformly at random, once per flow.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use anyhow::Result;
use proxy_common::backend::BackendId;
use proxy_common::frontend::ServiceIndex;
use proxy_common::service::{BackendSet, Policy};
use proxy_tests::both_families;
use proxy_tests::packet::TcpFlags;
use proxy_tests::protocol::Protocol;

use crate::connection::Connection;
use crate::frames::{backend, backends, client, tcp, vip};
use crate::rig::{Rig, Tabled};

both_families!(
    backends_are_chosen_uniformly,
    all_packets_of_a_flow_reach_one_backend,
    a_tcp_flow_outlives_its_backend,
    a_udp_flow_leaves_a_backend_that_is_gone,
    a_port_that_is_used_again_is_a_new_flow,
    a_syn_amid_a_connection_does_not_move_it,
    a_local_policy_chooses_among_local_backends,
);

fn backends_are_chosen_uniformly<F: Tabled>() -> Result<()> {
    const FLOWS: u16 = 2_000;
    const BACKENDS: u8 = 5;
    let mut rig = Rig::<F>::new()?;
    for protocol in Protocol::ALL {
        let backends = backends::<F>(BACKENDS);
        // Others before it in the table, which must never be chosen.
        let _: BackendSet = rig.backend_set(&[backend::<F>(99)])?;
        let _: ServiceIndex = rig.service(vip::<F>(1), protocol, &backends)?;
        let _: BackendSet = rig.backend_set(&[backend::<F>(98)])?;
        let mut shares: BTreeMap<SocketAddr, u16> = BTreeMap::new();
        for port in 0..FLOWS {
            let client = client::<F>(12, 20_000 + port);
            let connection = Connection::open(&rig.programs, protocol, client, vip::<F>(1))?;
            *shares.entry(connection.backend).or_default() += 1;
        }
        assert!(shares.keys().eq(&backends), "{shares:?}");
        let expected = f64::from(FLOWS) / f64::from(BACKENDS);
        let deviation = |share: &u16| (f64::from(*share) - expected).powi(2) / expected;
        let chi_square: f64 = shares.values().map(deviation).sum();
        // With four degrees of freedom, one run in a million is above this.
        assert!(chi_square < 33.4, "{shares:?}: {chi_square}");
    }
    Ok(())
}

fn all_packets_of_a_flow_reach_one_backend<F: Tabled>() -> Result<()> {
    let mut rig = Rig::<F>::new()?;
    for protocol in Protocol::ALL {
        let _: ServiceIndex = rig.service(vip::<F>(1), protocol, &backends::<F>(8))?;
        for port in 40_000..40_020 {
            let client = client::<F>(12, port);
            let connection = Connection::open(&rig.programs, protocol, client, vip::<F>(1))?;
            // Repeated before the answer, after it, and after the proof.
            for _ in 0..4 {
                connection.repeat(&rig.programs)?;
            }
            connection.answer(&rig.programs)?;
            connection.repeat(&rig.programs)?;
            connection.prove(&rig.programs)?;
            connection.repeat(&rig.programs)?;
            for _ in 0..4 {
                connection.prove(&rig.programs)?;
                connection.answer(&rig.programs)?;
            }
        }
    }
    Ok(())
}

/// A Service port with one backend, in a row whose generation can be raised.
fn service_of_one<F: Tabled>(
    rig: &mut Rig<F>,
    protocol: Protocol,
) -> Result<(ServiceIndex, BackendId)> {
    let id = rig.backend(backend::<F>(1))?;
    let service = rig.service(vip::<F>(1), protocol, &[])?;
    let set = rig.slots(&[id])?;
    rig.tables.publish_cluster(service, set)?;
    Ok((service, id))
}

fn a_tcp_flow_outlives_its_backend<F: Tabled>() -> Result<()> {
    let mut rig = Rig::<F>::new()?;
    let (service, id) = service_of_one(&mut rig, Protocol::Tcp)?;
    let (first, second) = (client::<F>(12, 40_000), client::<F>(12, 40_001));
    let established = Connection::establish(&rig.programs, Protocol::Tcp, first, vip::<F>(1))?;
    let opened = Connection::open(&rig.programs, Protocol::Tcp, second, vip::<F>(1))?;

    let set = rig.backend_set(&[backend::<F>(2)])?;
    rig.tables.publish_cluster(service, set)?;
    // Out of the set, but not gone yet: a SYN that is repeated still counts.
    opened.repeat(&rig.programs)?;
    rig.put_backend(id, backend::<F>(1), 2)?;
    established.prove(&rig.programs)?;
    established.answer(&rig.programs)?;
    opened.prove(&rig.programs)?;
    // Even if nobody is left.
    rig.tables.publish_cluster(service, BackendSet::REJECT)?;
    established.prove(&rig.programs)?;
    established.answer(&rig.programs)?;
    // A SYN that the backend never answered goes elsewhere, now that it is gone.
    let third = client::<F>(12, 40_002);
    rig.put_backend(id, backend::<F>(1), 3)?;
    let set = rig.slots(&[id])?;
    rig.tables.publish_cluster(service, set)?;
    let opened = Connection::open(&rig.programs, Protocol::Tcp, third, vip::<F>(1))?;
    assert_eq!(opened.backend, backend::<F>(1));
    rig.put_backend(id, backend::<F>(1), 4)?;
    let set = rig.backend_set(&[backend::<F>(3)])?;
    rig.tables.publish_cluster(service, set)?;
    let reopened = Connection::open(&rig.programs, Protocol::Tcp, third, vip::<F>(1))?;
    assert_eq!(reopened.backend, backend::<F>(3));
    reopened.answer(&rig.programs)?;
    reopened.prove(&rig.programs)
}

fn a_udp_flow_leaves_a_backend_that_is_gone<F: Tabled>() -> Result<()> {
    let mut rig = Rig::<F>::new()?;
    let (service, id) = service_of_one(&mut rig, Protocol::Udp)?;
    let (first, second) = (client::<F>(12, 40_000), client::<F>(12, 40_001));
    let established = Connection::establish(&rig.programs, Protocol::Udp, first, vip::<F>(1))?;
    let opened = Connection::open(&rig.programs, Protocol::Udp, second, vip::<F>(1))?;

    let set = rig.backend_set(&[backend::<F>(2)])?;
    rig.tables.publish_cluster(service, set)?;
    established.prove(&rig.programs)?;
    opened.prove(&rig.programs)?;
    rig.put_backend(id, backend::<F>(1), 2)?;
    for before in [established, opened] {
        let after =
            Connection::establish(&rig.programs, Protocol::Udp, before.client, vip::<F>(1))?;
        assert_eq!(after.backend, backend::<F>(2));
        after.prove(&rig.programs)?;
    }
    Ok(())
}

fn a_port_that_is_used_again_is_a_new_flow<F: Tabled>() -> Result<()> {
    let rst = TcpFlags::RST | TcpFlags::ACK;
    let fin = TcpFlags::FIN | TcpFlags::ACK;
    // What the client says and what the backend says at the end, and who serves what comes then: a
    // RST may have been forged, and the SYN after it as well.
    let ends = [
        (Some(rst), None, 1),
        (None, Some(rst), 1),
        (Some(rst), Some(rst), 1),
        (Some(fin), Some(fin), 2),
    ];
    let mut rig = Rig::<F>::new()?;
    let service = rig.service(vip::<F>(1), Protocol::Tcp, &[])?;
    for (port, (client_says, backend_says, server)) in (40_000..).zip(ends) {
        let client = client::<F>(12, port);
        let set = rig.backend_set(&[backend::<F>(1)])?;
        rig.tables.publish_cluster(service, set)?;
        let connection = Connection::establish(&rig.programs, Protocol::Tcp, client, vip::<F>(1))?;
        assert_eq!(connection.backend, backend::<F>(1));
        if let Some(flags) = client_says {
            connection.request(&rig.programs, &tcp(client, vip::<F>(1), flags))?;
        }
        if let Some(flags) = backend_says {
            connection.reply(&rig.programs, &tcp(backend::<F>(1), client, flags))?;
        }
        let set = rig.backend_set(&[backend::<F>(2)])?;
        rig.tables.publish_cluster(service, set)?;
        let next = Connection::establish(&rig.programs, Protocol::Tcp, client, vip::<F>(1))?;
        let server = backend::<F>(server);
        assert_eq!(next.backend, server, "after {client_says:?} and {backend_says:?}");
        assert!(next.is_confirmed(&rig)?);
    }
    Ok(())
}

fn a_syn_amid_a_connection_does_not_move_it<F: Tabled>() -> Result<()> {
    let rst = TcpFlags::RST | TcpFlags::ACK;
    let fin = TcpFlags::FIN | TcpFlags::ACK;
    let mut rig = Rig::<F>::new()?;
    let service = rig.service(vip::<F>(1), Protocol::Tcp, &[backend::<F>(1)])?;
    let client = client::<F>(12, 40_000);
    let connection = Connection::establish(&rig.programs, Protocol::Tcp, client, vip::<F>(1))?;
    let set = rig.backend_set(&[backend::<F>(2)])?;
    rig.tables.publish_cluster(service, set)?;
    connection.repeat(&rig.programs)?;
    // A RST may be forged; if the other side goes on, it was.
    connection.request(&rig.programs, &tcp(client, vip::<F>(1), rst))?;
    connection.reply(&rig.programs, &tcp(backend::<F>(1), client, TcpFlags::ACK))?;
    connection.repeat(&rig.programs)?;
    // Half closed is not closed.
    connection.request(&rig.programs, &tcp(client, vip::<F>(1), fin))?;
    connection.repeat(&rig.programs)
}

fn a_local_policy_chooses_among_local_backends<F: Tabled>() -> Result<()> {
    let mut rig = Rig::<F>::new()?;
    for protocol in Protocol::ALL {
        let service = rig.service(vip::<F>(1), protocol, &backends::<F>(5))?;
        let set = rig.backend_set(&[backend::<F>(6)])?;
        rig.tables.publish_local(service, set)?;
        rig.tables.publish_policy(service, Policy::INTERNAL_LOCAL)?;
        for port in 40_000..40_020 {
            let client = client::<F>(12, port);
            let connection = Connection::open(&rig.programs, protocol, client, vip::<F>(1))?;
            assert_eq!(connection.backend, backend::<F>(6));
        }
    }
    Ok(())
}
