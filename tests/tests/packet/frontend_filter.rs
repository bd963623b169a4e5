// SPDX-License-Identifier: Apache-2.0

//! The filter of frontends: an address that is none's is not looked up, and several addresses share a bit
//! of it.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use proxy_common::frontend::{FrontendKey, FrontendKind, ServiceIndex};
use proxy_common::frontend_filter::{FILTER_ROWS, FilterBit, FilterRow};
use proxy_tests::api::crowd::Crowd;
use proxy_tests::both_families;
use proxy_tests::protocol::Protocol;

use crate::connection::Connection;
use crate::frames::{backend, client, opening, vip};
use crate::programs::Verdict;
use crate::rig::{Rig, Tabled, address, frontend_key};

both_families!(
    addresses_that_share_a_bit_come_and_go_alone,
    bits_are_those_of_all_frontends,
    what_has_no_bit_is_not_looked_up,
);

/// Port 80 of two addresses that share a bit.
fn sharing<F: Tabled>() -> Result<[SocketAddr; 2]> {
    let mut known = HashMap::new();
    let found = (0..1 << 16).find_map(|number| {
        let socket = SocketAddr::new(Crowd::cluster_ip(number, F::FAMILY), 80);
        let other = known.insert(FilterBit::of(&address::<F>(socket)), socket)?;
        Some([other, socket])
    });
    found.context("no two addresses share a bit")
}

/// A flow to a frontend opens, or its first packet passes as any other.
fn opens<F: Tabled>(rig: &Rig<F>, port: u16, frontend: SocketAddr, is_served: bool) -> Result<()> {
    let client = client::<F>(12, port);
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        if is_served {
            let connection = Connection::open(&rig.programs, protocol, client, frontend)?;
            assert_eq!(connection.backend, backend::<F>(1));
        } else {
            let first = opening(protocol, client, frontend);
            rig.programs.ingress(&first)?.is(Verdict::Pass, &first)?;
        }
    }
    Ok(())
}

fn addresses_that_share_a_bit_come_and_go_alone<F: Tabled>() -> Result<()> {
    let mut rig = Rig::<F>::new()?;
    let protocols = [Protocol::Tcp, Protocol::Udp];
    let sharing = sharing::<F>()?;
    let mut are_there = [false; 2];
    // Both come, both go, one comes again; and either is the first to go.
    for (port, at) in (40_000..).zip([0, 1, 0, 0, 1, 0, 1, 0, 1, 1]) {
        for protocol in protocols {
            if are_there[at] {
                rig.tables.remove_frontend(&frontend_key::<F>(sharing[at], protocol))?;
            } else {
                let _: ServiceIndex = rig.service(sharing[at], protocol, &[backend::<F>(1)])?;
            }
        }
        are_there[at] = !are_there[at];
        for (frontend, is_there) in sharing.into_iter().zip(are_there) {
            opens(&rig, port, frontend, is_there)?;
        }
    }
    Ok(())
}

/// The rows of the filter that have a bit.
fn rows<F: Tabled>(rig: &Rig<F>) -> Result<Vec<(u32, FilterRow)>> {
    let rows = (0..FILTER_ROWS).map(|row| Ok((row, rig.filter.get(&row, 0)?)));
    let is_set = |row: &Result<_>| row.as_ref().is_ok_and(|(_, row)| *row != FilterRow::default());
    rows.filter(|row| row.is_err() || is_set(row)).collect()
}

/// Of all kinds, and of all marks.
fn bits_are_those_of_all_frontends<F: Tabled>() -> Result<()> {
    let mut rig = Rig::<F>::new()?;
    assert_eq!(rows(&rig)?, []);
    let node_port = SocketAddr::new(F::FAMILY.unspecified(), 30_080);
    let node = SocketAddr::new(F::underlay(1), 0);
    let service = rig.service(vip::<F>(1), Protocol::Tcp, &[backend::<F>(1)])?;
    rig.frontend(node_port, Protocol::Tcp, service, FrontendKind::NodePort)?;
    rig.frontend(vip::<F>(2), Protocol::Tcp, service, FrontendKind::LoadBalancer)?;
    rig.mark(node, Protocol::Tcp, ServiceIndex::NODE)?;
    rig.mark(SocketAddr::new(F::cluster_ip(1), 0), Protocol::Tcp, ServiceIndex::REFUSE)?;
    rig.mark(backend::<F>(1), Protocol::Tcp, ServiceIndex::DIRECT)?;
    let sockets = [vip::<F>(1), vip::<F>(2), node_port, node, backend::<F>(1)];
    let mut expected = HashMap::<u32, FilterRow>::new();
    for socket in sockets {
        let bit = FilterBit::of(&address::<F>(socket));
        let row = expected.entry(bit.row()).or_default();
        *row = row.with(bit, true);
    }
    assert_eq!(rows(&rig)?.into_iter().collect::<HashMap<_, _>>(), expected);
    let keys = rig.tables.frontends().map(|entry| Ok(entry?.0)).collect::<Result<BTreeSet<_>>>()?;
    assert!(keys.contains(&FrontendKey::whole(address::<F>(node))) && keys.len() == 6);
    for key in keys {
        rig.tables.remove_frontend(&key)?;
    }
    assert_eq!(rows(&rig)?, []);
    Ok(())
}

/// Which shows that the programs ask the filter.
fn what_has_no_bit_is_not_looked_up<F: Tabled>() -> Result<()> {
    let mut rig = Rig::<F>::new()?;
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        let _: ServiceIndex = rig.service(vip::<F>(1), protocol, &[backend::<F>(1)])?;
    }
    let row = FilterBit::of(&address::<F>(vip::<F>(1))).row();
    opens(&rig, 40_000, vip::<F>(1), true)?;
    rig.filter.set(row, FilterRow::default(), 0)?;
    opens(&rig, 40_001, vip::<F>(1), false)
}
