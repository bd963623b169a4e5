// SPDX-License-Identifier: Apache-2.0

//! Drivers go on without an agent, and the next one takes over in place.

use anyhow::{Context as _, Result, ensure};
use proxy_agent::bpf::{LinkState, Version};
use proxy_common::counter::Reason;
use proxy_tests::agent::Agent;
use proxy_tests::both_families;
use proxy_tests::family::TestFamily;
use proxy_tests::protocol::Protocol;
use proxy_tests::scratch::Scratch;
use proxy_tests::topology::DEVICE;
use proxy_tests::traffic::Client;

use super::{count, with_cards};
use crate::rig::{Frontend, REMOTE};
use crate::uplinks::nodes;

both_families!(a_driver_serves_without_an_agent, another_mode_takes_over);

/// The links in drivers, by their names.
pub(super) fn links(agent: &Agent<'_>) -> Result<Vec<(String, LinkState)>> {
    let version = Version::all(agent.pin_root())?.pop().context("there is one")?;
    let names = version.links().names()?.into_iter().filter(|name| name.contains("-xdp-"));
    let state = |name: String| {
        let link = version.links().open(&name)?.context("it is pinned")?;
        Ok((name, link.state()?))
    };
    names.map(state).collect()
}

fn a_driver_serves_without_an_agent<F: TestFamily>() -> Result<()> {
    let (rig, _cards) = with_cards(nodes())?;
    rig.cluster.manifests.apply(&rig.service(&[REMOTE]))?;
    let ask =
        || Client::new(rig.outsider()).ask(Protocol::Tcp, Frontend::LoadBalancer.target(F::FAMILY));
    let mut agent = rig.agent().argument("--xdp").argument(format!("native={DEVICE}")).start()?;
    let _ = ask()?;
    let before = links(&agent)?;
    ensure!(before.len() == 1, "{before:?}");
    ensure!(agent.leave()?.success());
    let sent = count::<F>(&agent, Reason::XdpSent)?;
    let _ = ask().context("without an agent")?;
    ensure!(count::<F>(&agent, Reason::XdpSent)? > sent, "not by the driver");
    agent.start()?;
    let after = links(&agent)?;
    let [(name, former), (same, state)] = [&before[0], &after[0]];
    ensure!(after.len() == 1 && name == same && former.id == state.id, "{before:?} {after:?}");
    ensure!(former.program != state.program, "{before:?} {after:?}");
    let _ = ask().context("with another agent")?;
    ensure!(agent.stop()?.success());
    Ok(())
}

fn another_mode_takes_over<F: TestFamily>() -> Result<()> {
    let (rig, _cards) = with_cards(nodes())?;
    let scratch = Scratch::new("modes")?;
    let root = scratch.mount_bpffs()?.join("sixfour");
    let cases = [
        (format!("native={DEVICE}"), Some("-xdp-native")),
        (format!("generic={DEVICE}"), Some("-xdp-generic")),
        ("off".to_owned(), None),
    ];
    for (choice, expected) in cases {
        let spec = rig.agent().pin_root(&root).argument("--xdp").argument(&choice);
        let mut agent = spec.start()?;
        let links = links(&agent)?;
        ensure!(links.len() == usize::from(expected.is_some()), "{choice}: {links:?}");
        ensure!(
            links.iter().all(|(name, _)| expected.is_some_and(|hook| name.ends_with(hook))),
            "{choice}: {links:?}"
        );
        let shown = rig.node().namespace().output("ip", &format!("link show {DEVICE}"), "")?;
        ensure!(shown.contains("xdp") == expected.is_some(), "{choice}: {shown}");
        let target = Frontend::LoadBalancer.target(F::FAMILY);
        let _ = Client::new(rig.outsider()).ask(Protocol::Tcp, target).context(choice.clone())?;
        // Without drivers, nothing is left for the next one.
        ensure!(if expected.is_some() { agent.leave()? } else { agent.stop()? }.success());
    }
    Ok(())
}
