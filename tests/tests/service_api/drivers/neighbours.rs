// SPDX-License-Identifier: Apache-2.0

//! Neighbours to whom drivers may send although the stack does not.

use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use proxy_common::counter::Reason;
use proxy_tests::both_families;
use proxy_tests::family::{IpFamily, TestFamily};
use proxy_tests::topology::DEVICE;

use super::changes::{is_much, under_load};
use super::{count, with_cards};
use crate::rig::{Frontend, REMOTE, Rig};
use crate::uplinks::nodes;

both_families!(permanent_neighbours_need_no_detour);

/// Long enough for several detours a neighbour, which would be one a second.
const LOAD: Duration = Duration::from_secs(4);
/// How long the agent may take to tell of neighbours: it does so once a second.
const TOLD: Duration = Duration::from_millis(2_500);

/// Has the kernel ask none of the node's neighbours any more whether they are there.
fn make_permanent(rig: &Rig, family: IpFamily) -> Result<usize> {
    let option = if family == IpFamily::V4 { "-4" } else { "-6" };
    let namespace = rig.node().namespace();
    let all = namespace.output("ip", &format!("{option} neigh show dev {DEVICE}"), "")?;
    let mut count = 0;
    for line in all.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        if let [address, "lladdr", mac, ..] = words.as_slice() {
            let neighbour = format!("{address} lladdr {mac} dev {DEVICE} nud permanent");
            namespace.ip(&format!("neigh replace {neighbour}"))?;
            count += 1;
        }
    }
    Ok(count)
}

/// The kernel would not ask them, so nothing has to go through the stack for its sake.
fn permanent_neighbours_need_no_detour<F: TestFamily>() -> Result<()> {
    let (rig, _cards) = with_cards(nodes())?;
    rig.cluster.manifests.apply(&rig.service(&[REMOTE]))?;
    let mut agent = rig.agent().argument("--xdp").argument(format!("native={DEVICE}")).start()?;
    let target = Frontend::LoadBalancer.target(F::FAMILY);
    let mut detours = 0;
    let answered = under_load(rig.outsider(), target, || {
        thread::sleep(Duration::from_millis(500));
        let neighbours = make_permanent(&rig, F::FAMILY)?;
        ensure!(neighbours >= 2, "only {neighbours} neighbours");
        thread::sleep(TOLD);
        let before = count::<F>(&agent, Reason::XdpUpNeighbour)?;
        thread::sleep(LOAD);
        detours = count::<F>(&agent, Reason::XdpUpNeighbour)? - before;
        Ok(())
    })?;
    is_much::<F>(&answered, &agent)?;
    ensure!(detours == 0, "{detours} packets have gone through the stack");
    ensure!(agent.stop()?.success());
    Ok(())
}
