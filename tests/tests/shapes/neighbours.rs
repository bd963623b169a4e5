// SPDX-License-Identifier: Apache-2.0

//! Backends on the client's bridge whose address the node does not know, or does not know any
//! more.

use anyhow::{Result, ensure};
use proxy_tests::both_families;
use proxy_tests::family::TestFamily;
use proxy_tests::topology::{BetweenNodes, POD_BRIDGE, PodNetwork};
use proxy_tests::traffic::Client;

use super::firewall;
use super::rig::{NODE, Place, Rig, vip};

both_families!(forgotten_neighbours);

/// The first segment goes through the node, which asks for the backend then; the rest is switched.
/// If one went through the node again when it has forgotten the backend, conntrack, which has seen
/// a SYN and no answer, would call it INVALID.
fn forgotten_neighbours<F: TestFamily>() -> Result<()> {
    let pods = PodNetwork::Bridge { netfilter: false };
    let rig = Rig::joined(pods, BetweenNodes::Direct)?;
    let mut agent = rig.start()?;
    let node = rig.topology.node(NODE).host().namespace();
    firewall::WORST.apply(node)?;
    let forget = || node.ip(&format!("neighbour flush dev {POD_BRIDGE}"));
    forget()?;
    let mut stream = Client::new(rig.client()).stay(vip::<F>(Place::Near))?;
    for _ in 0..3 {
        let _ = stream.exchange()?;
        forget()?;
    }
    let counts = firewall::counts(node)?;
    ensure!(counts.forwarded == 1 && !counts.has_drops(), "{counts:?}");
    ensure!(agent.stop()?.success());
    Ok(())
}
