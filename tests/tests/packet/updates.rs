// SPDX-License-Identifier: Apache-2.0

//! A backend set is one word: whoever reads it while it changes sees one set or the other.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Context as _, Result};
use proxy_common::service::BackendSet;
use proxy_tests::both_families;
use proxy_tests::protocol::Protocol;

use crate::connection::Connection;
use crate::frames::{client, vip};
use crate::loaded::Loaded;
use crate::rig::{Rig, Tabled};

both_families!(a_flow_opens_to_one_of_two_sets);

/// Slots between the beginnings of the two ranges: wider than the larger set, so that the start of
/// one with the length of the other leads to slots that nobody has filled.
const STRIDE: u32 = 16;
/// Flows that are opened.
const FLOWS: u16 = 5_000;

fn a_flow_opens_to_one_of_two_sets<F: Tabled>() -> Result<()> {
    let mut rig = Rig::<F>::new()?;
    let service = rig.service(vip::<F>(1), Protocol::Tcp, &[])?;
    // Each backend has a port of its own, so that no part of one fits
    // another's.
    let members = |node: u8, count: u8| {
        (1..=count)
            .map(|host| {
                SocketAddr::new(F::pod(node, host), 8000 + 100 * u16::from(node) + u16::from(host))
            })
            .collect::<Vec<_>>()
    };
    let members = [members(2, 2), members(3, 13)];
    let mut sets = [BackendSet::REJECT; 2];
    for (set, members) in sets.iter_mut().zip(&members) {
        *set = rig.backend_set(members)?;
        rig.next_slot = set.start() + 2 * STRIDE;
    }
    rig.tables.publish_cluster(service, sets[0])?;
    let Loaded { programs, tables, .. } = &mut *rig;
    let done = AtomicBool::new(false);
    let (opened, switches) = thread::scope(|scope| {
        let writer = scope.spawn(|| -> Result<u64> {
            let mut switches = 0;
            while !done.load(Ordering::Relaxed) {
                for set in &sets {
                    tables.publish_cluster(service, *set)?;
                    switches += 1;
                }
            }
            Ok(switches)
        });
        let opened = (0..FLOWS)
            .map(|port| {
                let client = client::<F>(12, 20_000 + port);
                let connection = Connection::open(programs, Protocol::Tcp, client, vip::<F>(1))?;
                Ok(connection.backend)
            })
            .collect::<Result<BTreeSet<SocketAddr>>>();
        done.store(true, Ordering::Relaxed);
        let switches = writer.join().ok().context("the writer panicked")??;
        anyhow::Ok((opened?, switches))
    })?;
    assert_eq!(opened, members.concat().into_iter().collect());
    assert!(switches > u64::from(FLOWS), "too few updates to show anything: {switches}");
    Ok(())
}
