// SPDX-License-Identifier: Apache-2.0
//! Serving processes at their sockets.

use std::convert::Infallible;

use anyhow::{Context as _, bail};
use tokio::{
    sync::watch,
    task::{JoinError, JoinSet},
};
use tracing::{info, warn};

use crate::{
    bpf::Object,
    sockets::{CgroupRoot, LeftSockets, OtherNetns, SocketPrograms, diag::Diag, forgetful},
};

/// Serves the processes of a control group at their sockets, for as long as what is returned is
/// kept, and has a task end UDP sockets whenever `left` says that some may have been left.
pub(super) fn serve(
    object: &mut Object,
    root: &CgroupRoot,
    tasks: &mut JoinSet<Result<Infallible, JoinError>>,
    left: watch::Receiver<()>,
) -> anyhow::Result<SocketPrograms> {
    let programs = SocketPrograms::attach(object, &root.path)?;
    info!(cgroup = %root.path.display(), "serving processes at their sockets");
    if let Some(forgetful) = forgetful() {
        warn!("{forgetful}");
    }
    match left_sockets(object) {
        Ok(sockets) => drop(tasks.spawn(sockets.run(left))),
        Err(error) => warn!(
            error = format!("{error:#}"),
            "UDP sockets stay connected to endpoints that have gone, until their processes connect anew"
        ),
    }
    Ok(programs)
}

/// The sockets that can be left, if this node and this process have what it takes to end them.
fn left_sockets(object: &mut Object) -> anyhow::Result<LeftSockets> {
    if let Some(lacking) = Diag::probe().context("cannot ask the kernel for its sockets")? {
        bail!(lacking);
    }
    let others = object.serves_all_netns().then(OtherNetns::new).transpose()?;
    let lacks = others.as_ref().map_or(Ok(Vec::new()), OtherNetns::lacks)?;
    if !lacks.is_empty() {
        let lacks = lacks.join(", ");
        warn!(lacks, "UDP sockets of pods stay connected to endpoints that have gone");
    }
    Ok(LeftSockets::new(object, others)?)
}
