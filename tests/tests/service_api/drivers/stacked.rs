// SPDX-License-Identifier: Apache-2.0

//! Uplinks that are stacked on other devices, which have no generic mode: the operator is told, and the host's stack
//! serves.

use anyhow::{Context as _, Result, ensure};
use proxy_agent::devices::Xdp;
use proxy_common::counter::Reason;
use proxy_tests::agent::Agent;
use proxy_tests::both_families;
use proxy_tests::family::TestFamily;
use proxy_tests::topology::{DEVICE, Uplink};
use serde_json::Value;

use super::count;
use crate::rig::{LOCAL, REMOTE};
use crate::uplinks::{nodes, serves_far, with_router};

both_families!(a_bridge_has_no_generic_mode, a_macvlan_has_no_generic_mode);

/// What the agent has warned of about a device's driver: the devices, and why.
pub(crate) fn refusals(agent: &Agent<'_>) -> Result<Vec<(String, String)>> {
    let log = agent.log()?;
    let entries = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let fields =
        entries.filter(|entry| entry["level"] == "WARN").map(|entry| entry["fields"].clone());
    let refused = fields
        .filter(|fields| fields["message"] == "no XDP here: packets go through the host's stack");
    let text = |value: &Value| value.as_str().map(ToOwned::to_owned).context("no text");
    refused.map(|fields| Ok((text(&fields["device"])?, text(&fields["error"])?))).collect()
}

fn has_no_generic_mode<F: TestFamily>(uplink: Uplink) -> Result<()> {
    let rig = with_router(nodes().uplink(uplink))?;
    rig.cluster.manifests.apply(&rig.service(&[LOCAL, REMOTE]))?;
    let choice = format!("{}={DEVICE}", Xdp::Generic.name());
    // A bridge's port is a veth here, which is taken for a pod's.
    let agent = rig.agent().argument("--exclude-device").argument("port");
    let mut agent = agent.argument("--xdp").argument(choice).start()?;
    serves_far::<F>(&rig)?;
    let refused = refusals(&agent)?;
    ensure!(refused.len() == 1 && refused[0].0 == DEVICE, "{refused:?}");
    ensure!(refused[0].1.contains("stacked on others"), "{refused:?}");
    let sent = count::<F>(&agent, Reason::XdpSent)?;
    ensure!(sent == 0, "{sent} packets have left from behind the driver");
    let links = rig.node().namespace().output("ip", "link show", "")?;
    ensure!(!links.contains("xdp"), "there is a program: {links}");
    ensure!(agent.stop()?.success());
    Ok(())
}

fn a_bridge_has_no_generic_mode<F: TestFamily>() -> Result<()> {
    has_no_generic_mode::<F>(Uplink::Bridge)
}

fn a_macvlan_has_no_generic_mode<F: TestFamily>() -> Result<()> {
    has_no_generic_mode::<F>(Uplink::Macvlan)
}
