// SPDX-License-Identifier: Apache-2.0
//! What concerns clients outside, beside the tables of Services.

use std::ops::RangeInclusive;

use ipnet::IpNet;
use tokio::{sync::watch, task::JoinSet};
use tracing::warn;

use crate::{
    bpf::{self, HopsTable, LocalityTables},
    chain::chain,
    devices::{Reachable, watch_reachable},
    events::Events,
    health_check::Server,
    local_clients::{Detection, LocalClients},
    runner::Runner,
    source_ports::SocketPorts,
};

/// Says so if sockets of the node may get ports that masqueraded flows have.
pub(super) fn check_source_ports(source_ports: &RangeInclusive<u16>) {
    match SocketPorts::read() {
        Ok(sockets) => {
            if let Some(overlap) = sockets.among(source_ports) {
                warn!("{overlap}");
            }
        }
        Err(error) => {
            warn!(error = chain(&error), "cannot tell which ports the kernel gives to sockets");
        }
    }
}

/// Answers the health checks of load balancers.
pub(super) fn answer_health_checks(
    runner: &Runner,
    node: &str,
    events: Events,
    tasks: &mut JoinSet<()>,
) {
    // With a part of the objects there is nothing to be said of any Service: it is not well then.
    let healthy = runner.healthy();
    let checks = runner.health_checks();
    let addresses = runner.health_check_addresses();
    let _ = tasks.spawn(Server::new(checks, healthy, addresses, node, events).run());
}

/// Tells the programs of neighbours whom the kernel would not ask whether they are there.
pub(super) fn tell_of_hops(mut table: HopsTable, tasks: &mut JoinSet<()>) -> anyhow::Result<()> {
    watch_reachable(tasks, move |neighbours| {
        for Reachable { device, mac } in neighbours {
            if let Err(error) = table.trust(device, mac) {
                warn!(device, error = chain(&error), "cannot say that a neighbour is there");
            }
        }
    })?;
    Ok(())
}

/// Tells the programs which clients count as the node's own pods, now and whenever the ranges of
/// these change. Once objects are known: programs of before go by what they have been told.
pub(super) fn tell_local_clients(
    mut tables: LocalityTables,
    detection: Detection,
    mut pod_cidrs: watch::Receiver<Option<Vec<IpNet>>>,
    tasks: &mut JoinSet<()>,
) -> Result<(), bpf::Error> {
    let follows_node = detection.local == LocalClients::WithinNode;
    let known = pod_cidrs.borrow_and_update().clone();
    // What an earlier agent has told them holds until it is known.
    if !follows_node || known.is_some() {
        tables.put(&detection, &known.unwrap_or_default())?;
    }
    if follows_node {
        let _ = tasks.spawn(async move {
            while pod_cidrs.changed().await.is_ok() {
                let Some(known) = pod_cidrs.borrow_and_update().clone() else { continue };
                if let Err(error) = tables.put(&detection, &known) {
                    warn!(
                        error = chain(&error),
                        "cannot say which clients are the node's own pods"
                    );
                }
            }
        });
    }
    Ok(())
}
