// SPDX-License-Identifier: Apache-2.0

//! A node on which two versions of the ABI serve, as an upgrade was interrupted.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use proxy_agent::bpf::Version;
use proxy_tests::agent::Agent;
use proxy_tests::both_families;
use proxy_tests::cluster::Cluster;
use proxy_tests::family::TestFamily;

use super::inherited::{cluster, ids, is_served};
use super::lifecycle::filters;

both_families!(both_serve_until_all_is_removed);

/// How long a start may take until its tables are complete.
const PATIENCE: Duration = Duration::from_mins(1);

const WAYS: [&str; 2] = ["--attach=tcx", "--attach=clsact"];

/// How often an upgrade is begun until its agent is killed soon enough: it says so a moment before it goes on.
const ATTEMPTS: usize = 5;

/// Has an agent of another version be killed while both serve.
fn interrupt_an_upgrade(agent: &mut Agent<'_>) -> Result<()> {
    for _ in 0..ATTEMPTS {
        ensure!(agent.leave()?.success());
        agent.change_abi(true)?;
        agent.begin()?;
        agent.wait_for("another version's flows and session affinity went over", PATIENCE)?;
        agent.kill();
        if Version::all(agent.pin_root())?.len() == 2 {
            return Ok(());
        }
        agent.change_abi(false)?;
        agent.start()?;
    }
    bail!("it has gone on {ATTEMPTS} times: {}", agent.log()?);
}

fn nothing_is_left(cluster: &Cluster, agent: &Agent<'_>) -> Result<()> {
    let (links, filters) = (ids(agent)?, filters(cluster)?);
    ensure!(links.is_empty() && !filters.contains("bpf"), "{links:?} {filters}");
    ensure!(Version::all(agent.pin_root())?.is_empty());
    Ok(())
}

fn both_serve_until_all_is_removed<F: TestFamily>() -> Result<()> {
    let cluster = cluster()?;
    let _servers = cluster.servers(&["web-1"])?;
    for way in WAYS {
        let mut agent = cluster.agent("anc-node").argument(way).start()?;
        interrupt_an_upgrade(&mut agent)?;
        is_served::<F>(&cluster)?;
        // It would drain its own version alone, and the other one comes first.
        let drained = agent.command(&["drain", "--force"])?;
        let said = String::from_utf8_lossy(&drained.stderr);
        ensure!(!drained.status.success() && said.contains("interrupted"), "{way}: {said}");
        is_served::<F>(&cluster)?;
        agent.change_abi(false)?;
        let _: String = agent.cleanup()?;
        nothing_is_left(&cluster, &agent)?;
    }
    Ok(())
}
