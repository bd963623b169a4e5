// SPDX-License-Identifier: Apache-2.0

//! In drivers, behind drivers, and where there is none.

use anyhow::{Context as _, Result, ensure};
use proxy_common::counter::Reason;
use proxy_tests::both_families;
use proxy_tests::cluster::eventually;
use proxy_tests::family::TestFamily;
use proxy_tests::netns::Card;
use proxy_tests::protocol::Protocol;
use proxy_tests::topology::DEVICE;
use proxy_tests::traffic::Client;

use super::{count, with_cards};
use crate::rig::{Frontend, LOCAL, REMOTE, Rig, is_served};
use crate::uplinks::nodes;

both_families!(
    clients_are_served_by_drivers,
    clients_are_served_behind_drivers,
    a_veth_must_be_named,
    a_program_of_somebody_else_stays,
    large_transfers,
);

/// What each client gets from each frontend, and how many packets have left from a driver.
fn serve<F: TestFamily>((rig, _cards): (Rig, Vec<Card>), choice: &str) -> Result<u64> {
    let mut agent = rig.agent().argument("--xdp").argument(choice).start()?;
    let node = rig.node().address(F::FAMILY);
    for from in [rig.outsider(), rig.cluster.topology.outsider("far")] {
        for frontend in Frontend::ALL {
            // As each sees the client.
            let expected = [(LOCAL, from.address(F::FAMILY)), (REMOTE, node)];
            is_served(from, frontend.target(F::FAMILY), &expected)
                .with_context(|| format!("{frontend:?} with {choice}"))?;
        }
    }
    let sent = count::<F>(&agent, Reason::XdpSent)?;
    ensure!(agent.stop()?.success());
    let links = rig.node().namespace().output("ip", &format!("link show {DEVICE}"), "")?;
    ensure!(!links.contains("xdp"), "the program is left: {links}");
    Ok(sent)
}

/// Four frontends, two protocols and 40 questions, of which a half goes to the other node, with at least four packets
/// each; of two clients.
const PACKETS: u64 = 1_000;

fn clients_are_served_by_drivers<F: TestFamily>() -> Result<()> {
    let sent = serve::<F>(with_cards(nodes())?, &format!("native={DEVICE}"))?;
    ensure!(sent > PACKETS, "{sent} packets have left from the driver");
    Ok(())
}

/// Frames have less room before them there than programs want, as most drivers make them: the kernel has to move them.
fn clients_are_served_behind_drivers<F: TestFamily>() -> Result<()> {
    let (rig, _) = with_cards(nodes())?;
    let sent = serve::<F>((rig, Vec::new()), &format!("generic={DEVICE}"))?;
    ensure!(sent > PACKETS, "{sent} packets have left from behind the driver");
    Ok(())
}

fn a_veth_must_be_named<F: TestFamily>() -> Result<()> {
    let sent = serve::<F>(with_cards(nodes())?, "native")?;
    ensure!(sent == 0, "{sent} packets have left from the driver");
    Ok(())
}

/// A driver has one program.
fn a_program_of_somebody_else_stays<F: TestFamily>() -> Result<()> {
    let (rig, _cards) = with_cards(nodes())?;
    let somebody = rig.agent().argument("--xdp").argument(format!("native={DEVICE}")).start()?;
    let mut agent = rig.agent().argument("--xdp").argument(format!("native={DEVICE}")).start()?;
    ensure!(agent.log()?.contains("no XDP here"), "{}", agent.log()?);
    ensure!(agent.stop()?.success());
    let links = rig.node().namespace().output("ip", &format!("link show {DEVICE}"), "")?;
    ensure!(links.contains("xdp"), "the program is gone: {links}");
    let mut somebody = somebody;
    ensure!(somebody.stop()?.success());
    let served = eventually(|| {
        Client::new(rig.outsider())
            .ask(Protocol::Tcp, Frontend::NodePort.target(F::FAMILY))
            .is_err()
    });
    ensure!(served, "nobody serves, and yet somebody answers");
    Ok(())
}

/// A connection with much to say, in both directions at once.
fn large_transfers<F: TestFamily>() -> Result<()> {
    let (rig, _cards) = with_cards(nodes())?;
    rig.cluster.manifests.apply(&rig.service(&[REMOTE]))?;
    let mut agent = rig.agent().argument("--xdp").argument(format!("native={DEVICE}")).start()?;
    let before = count::<F>(&agent, Reason::XdpSent)?;
    Client::new(rig.outsider()).transfer(Frontend::LoadBalancer.target(F::FAMILY), 8 << 20)?;
    let sent = count::<F>(&agent, Reason::XdpSent)? - before;
    // In segments of 1,500 bytes at the most.
    ensure!(sent > 2 * (8 << 20) / 1_500, "{sent} packets have left from the driver");
    ensure!(agent.stop()?.success());
    Ok(())
}
