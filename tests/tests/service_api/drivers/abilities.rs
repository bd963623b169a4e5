// SPDX-License-Identifier: Apache-2.0

//! What drivers can do, and as it changes.

use anyhow::{Result, ensure};
use proxy_common::counter::Reason;
use proxy_tests::agent::Agent;
use proxy_tests::both_families;
use proxy_tests::family::TestFamily;
use proxy_tests::protocol::Protocol;
use proxy_tests::topology::DEVICE;
use proxy_tests::traffic::Client;

use super::{count, says, with_cards};
use crate::rig::{Frontend, REMOTE, Rig};
use crate::uplinks::nodes;

both_families!(an_other_end_that_takes_nothing);

/// Datagrams that are answered, and connections.
const QUESTIONS: usize = 20;

/// How many packets have left from the driver while a client outside was served.
fn sent_while_serving<F: TestFamily>(rig: &Rig, agent: &Agent<'_>) -> Result<u64> {
    let before = count::<F>(agent, Reason::XdpSent)?;
    let client = Client::new(rig.outsider());
    for _ in 0..QUESTIONS {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let answer = client.ask(protocol, Frontend::NodePort.target(F::FAMILY))?;
            ensure!(answer.server == REMOTE, "{answer:?}");
        }
    }
    Ok(count::<F>(agent, Reason::XdpSent)? - before)
}

/// A veth whose other end has neither a program nor GRO drops what a program sends: the stack serves the clients, until
/// somebody takes frames there, and again when nobody does any more.
fn an_other_end_that_takes_nothing<F: TestFamily>() -> Result<()> {
    let (rig, cards) = with_cards(nodes())?;
    drop(cards);
    rig.cluster.manifests.apply(&rig.service(&[REMOTE]))?;
    let mut agent = rig.agent().argument("--xdp").argument(format!("native={DEVICE}")).start()?;
    ensure!(says(&agent, "no XDP here", 1), "{}", agent.log()?);
    ensure!(agent.log()?.contains("would be dropped"), "{}", agent.log()?);
    ensure!(sent_while_serving::<F>(&rig, &agent)? == 0, "sent to nobody");
    for time in 1..=2 {
        let cards = rig.cluster.topology.be_like_network_cards()?;
        ensure!(says(&agent, "\"sends_for_others\":true", time), "{}", agent.log()?);
        let sent = sent_while_serving::<F>(&rig, &agent)?;
        ensure!(sent > QUESTIONS as u64, "{sent} packets have left from the driver");
        drop(cards);
        ensure!(says(&agent, "in the driver no more", time), "{}", agent.log()?);
        ensure!(sent_while_serving::<F>(&rig, &agent)? == 0, "sent to nobody");
    }
    ensure!(agent.stop()?.success());
    Ok(())
}
