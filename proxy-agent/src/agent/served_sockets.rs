// SPDX-License-Identifier: Apache-2.0
//! Serving processes at their sockets.

use std::convert::Infallible;

use anyhow::Context as _;
use tokio::{
    sync::watch,
    task::{JoinError, JoinSet},
};
use tracing::{info, warn};

use crate::{
    bpf::Object,
    sockets::{CgroupRoot, LeftSockets, OtherNetns, SocketPrograms, diag::Diag},
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
    if let Some(lacking) = Diag::probe().context("cannot ask the kernel for its sockets")? {
        warn!("{lacking}");
        return Ok(programs);
    }
    let others = object.serves_all_netns().then(OtherNetns::new).transpose()?;
    let sockets = LeftSockets::new(object, others)?;
    let _ = tasks.spawn(sockets.run(left));
    Ok(programs)
}
