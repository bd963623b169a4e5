// SPDX-License-Identifier: Apache-2.0

//! More clients than there are ports to masquerade them with.

use anyhow::{Context as _, Result, ensure};
use proxy_tests::both_families;
use proxy_tests::cluster::eventually;
use proxy_tests::family::TestFamily;
use proxy_tests::protocol::Protocol;
use proxy_tests::topology::{NodeSpec, TopologySpec};
use proxy_tests::traffic::{Client, is_refused_at_once};

use super::rig::{Frontend, LOCAL, NODE, OTHER_NODE, REMOTE, Rig};

both_families!(who_finds_no_port_is_refused);

/// The ports, and how many there are.
pub(super) const RANGE: [&str; 2] = ["--snat-port-range", "61000-61003"];
const PORTS: usize = 4;
/// The first source port of the clients of datagrams.
const FIRST: u16 = 47_000;

pub(super) fn nodes() -> TopologySpec {
    TopologySpec::new()
        .node(NodeSpec::bridge(NODE).pod(LOCAL, 12))
        .node(NodeSpec::routed(OTHER_NODE).pod(REMOTE, 22))
}

/// One more is told so at once; those that are there go on; a connection that ends makes room.
pub(super) fn is_refused_without_a_port<F: TestFamily>(rig: &Rig) -> Result<()> {
    let client = Client::new(rig.outsider());
    let target = Frontend::NodePort.target(F::FAMILY);
    let mut streams = (0..PORTS).map(|_| client.stay(target)).collect::<Result<Vec<_>, _>>()?;
    for _ in 0..3 {
        let asked = is_refused_at_once(|| client.ask(Protocol::Tcp, target));
        let _ = asked.context("without a port")?;
        for stream in &mut streams {
            let _ = stream.exchange()?;
        }
    }
    drop(streams.pop());
    let is_served = || client.ask(Protocol::Tcp, target).is_ok();
    ensure!(eventually(is_served), "a connection that has ended keeps its port");
    // Datagrams have the same ports to themselves.
    let datagrams = |port: usize| -> Result<_> {
        let client = client.source_port(FIRST + u16::try_from(port)?);
        Ok(client.datagrams(target)?)
    };
    let mut sockets = (0..PORTS).map(datagrams).collect::<Result<Vec<_>>>()?;
    for _ in 0..3 {
        for socket in &mut sockets {
            let _ = socket.ask()?;
        }
    }
    let one_more = || {
        let failure = datagrams(PORTS).map(|mut socket| socket.ask());
        failure.is_ok_and(|asked| asked.is_err_and(|failure| failure.is_refusal()))
    };
    ensure!(eventually(one_more), "it is not refused");
    for socket in &mut sockets {
        let _ = socket.ask()?;
    }
    Ok(())
}

fn who_finds_no_port_is_refused<F: TestFamily>() -> Result<()> {
    let rig = Rig::new(nodes())?;
    rig.cluster.manifests.apply(&rig.service(&[REMOTE]))?;
    let mut agent = RANGE.iter().fold(rig.agent(), |agent, word| agent.argument(*word)).start()?;
    is_refused_without_a_port::<F>(&rig)?;
    ensure!(agent.stop()?.success());
    Ok(())
}
