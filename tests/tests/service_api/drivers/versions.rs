// SPDX-License-Identifier: Apache-2.0

//! Agents of versions of the ABI whose tables differ, one after the other, where drivers have programs.

use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use proxy_agent::bpf::Version;
use proxy_common::counter::Reason;
use proxy_tests::both_families;
use proxy_tests::family::TestFamily;
use proxy_tests::topology::DEVICE;

use super::changes::under_load;
use super::restarts::links;
use super::{count, with_cards};
use crate::rig::{Frontend, REMOTE};
use crate::uplinks::nodes;

both_families!(clients_outside_outlive_an_upgrade_and_a_rollback);

/// How long is asked between two changes.
const BETWEEN: Duration = Duration::from_millis(400);

/// In the driver, programs are replaced in place: one takes one.
fn clients_outside_outlive_an_upgrade_and_a_rollback<F: TestFamily>() -> Result<()> {
    for mode in ["native", "generic"] {
        let (rig, _cards) = with_cards(nodes())?;
        rig.cluster.manifests.apply(&rig.service(&[REMOTE]))?;
        let choice = format!("{mode}={DEVICE}");
        // They are read in no time.
        let spec = rig.agent().argument("--max-flows=8192").argument("--max-endpoints=1024");
        let mut agent = spec.argument("--xdp").argument(choice).start()?;
        let before = links(&agent)?;
        ensure!(before.len() == 1, "{before:?}");
        let target = Frontend::LoadBalancer.target(F::FAMILY);
        let answered = under_load(rig.outsider(), target, || {
            thread::sleep(BETWEEN);
            let mut former = before.clone();
            for is_other in [true, false] {
                ensure!(agent.leave()?.success());
                agent.change_abi(is_other)?;
                agent.start()?;
                ensure!(Version::all(agent.pin_root())?.len() == 1, "{}", agent.log()?);
                let now = links(&agent)?;
                let is_replaced = now.len() == 1
                    && now[0].0 == former[0].0
                    && now[0].1.id == former[0].1.id
                    && now[0].1.program != former[0].1.program;
                ensure!(is_replaced, "{mode}, {is_other}: {former:?} {now:?}");
                former = now;
                thread::sleep(BETWEEN);
            }
            Ok(())
        })?;
        // Counted since the rollback, which has made the counters anew.
        let sent = count::<F>(&agent, Reason::XdpSent)?;
        ensure!(sent > 100, "{mode}: {sent} packets have left from the driver: {answered:?}");
        ensure!(agent.stop()?.success());
    }
    Ok(())
}
