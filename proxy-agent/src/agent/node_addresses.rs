// SPDX-License-Identifier: Apache-2.0
//! The addresses of the own Node: those that an agent before has left, and leaving them to the next one.

use std::{collections::BTreeSet, net::IpAddr, path::Path};

use tokio::{sync::watch, task::JoinSet};
use tracing::warn;

use crate::{
    bpf::{self, NodeAddressTables},
    chain::chain,
    devices::NodeAddresses,
};

/// Has devices be judged by the Node's own addresses, once these are known, and until then by those that an agent before
/// has left.
///
/// # Errors
///
/// If a table cannot be opened or read.
pub(super) fn follow(
    pins: &Path,
    own: watch::Receiver<Option<BTreeSet<IpAddr>>>,
    tasks: &mut JoinSet<()>,
) -> Result<NodeAddresses, bpf::Error> {
    let tables = NodeAddressTables::open(pins)?;
    let former = tables.read()?;
    let _ = tasks.spawn(leave(tables, own.clone()));
    Ok(NodeAddresses::new(own, former))
}

/// Leaves to the next agent whatever the addresses are.
async fn leave(mut tables: NodeAddressTables, mut own: watch::Receiver<Option<BTreeSet<IpAddr>>>) {
    loop {
        let known = own.borrow_and_update().clone();
        if let Some(Err(error)) = known.map(|addresses| tables.put(&addresses)) {
            warn!(error = chain(&error), "cannot leave the Node's addresses to the next agent");
        }
        if own.changed().await.is_err() {
            return;
        }
    }
}
