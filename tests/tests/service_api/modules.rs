// SPDX-License-Identifier: Apache-2.0

//! Uplinks that are modules of the kernel, which not every kernel has: the stage `kernels` runs these
//! in guests whose kernels do. Each takes both families, since there a network costs more than
//! anything else.

use anyhow::{Result, ensure};
use proxy_tests::family::{V4, V6};
use proxy_tests::topology::Uplink;

use super::rig::{LOCAL, REMOTE};
use super::uplinks::{nodes, serves_far, with_router};

/// Clients outside, behind a router, are served through an agent that is told nothing of devices.
fn is_served_over(uplink: Uplink) -> Result<()> {
    let rig = with_router(nodes().uplink(uplink))?;
    rig.cluster.manifests.apply(&rig.service(&[LOCAL, REMOTE]))?;
    let mut agent = rig.start()?;
    serves_far::<V4>(&rig)?;
    serves_far::<V6>(&rig)?;
    ensure!(agent.stop()?.success());
    Ok(())
}

#[test]
fn a_vlan() -> Result<()> {
    is_served_over(Uplink::Vlan)
}

#[test]
fn a_bond() -> Result<()> {
    is_served_over(Uplink::Bond)
}

#[test]
fn a_bond_in_a_bridge_that_has_the_nodes_address() -> Result<()> {
    is_served_over(Uplink::BridgedBond)
}
