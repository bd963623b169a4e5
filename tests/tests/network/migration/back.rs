// SPDX-License-Identifier: Apache-2.0

//! And back again: kube-proxy's rules are there, and Sixfour is drained and removed.

use anyhow::{Context as _, Result, ensure};
use proxy_tests::agent::Agent;
use proxy_tests::both_families;
use proxy_tests::cluster::WEB;
use proxy_tests::family::TestFamily;
use proxy_tests::protocol::Protocol;
use proxy_tests::topology::NodeSpec;
use proxy_tests::traffic::Client;

use super::rig::{CLIENT, Kind, ONE, Rig, Sent, vip};

both_families!(what_is_known_goes_on_and_what_begins_is_left);

/// What begins once it is drained.
const NEW: [Sent; 2] = [(Protocol::Tcp, 40_090, WEB), (Protocol::Udp, 40_091, ONE)];

/// Drains, and returns what is said: of what went on, or why nothing did.
fn drain(agent: &Agent<'_>) -> Result<Result<String, String>> {
    let output = agent.command(&["drain"])?;
    let text = |bytes| String::from_utf8(bytes).context("it is no text");
    Ok(if output.status.success() { Ok(text(output.stdout)?) } else { Err(text(output.stderr)?) })
}

fn what_is_known_goes_on_and_what_begins_is_left<F: TestFamily>() -> Result<()> {
    let rig = Rig::<F>::new(NodeSpec::routed("anc-node"), Kind::Nftables)?;
    let mut agent = rig.cluster.agent("anc-node").start()?;
    let node = Client::new(rig.cluster.topology.node("anc-node").host());
    let client = Client::new(rig.cluster.topology.pod(CLIENT));
    let same = client.source_port(40_070);
    let (mut stream, mut datagrams) = (same.stay(vip::<F>(WEB))?, same.datagrams(vip::<F>(ONE))?);
    let _ = datagrams.ask()?;
    for sent in [(Protocol::Tcp, 40_070, WEB), (Protocol::Udp, 40_070, ONE)] {
        ensure!(!rig.translates(sent)?, "{sent:?} by kube-proxy's rules");
    }
    let refusal = drain(&agent)?.expect_err("an agent is running");
    ensure!(refusal.contains("stop it first"), "{refusal}");
    ensure!(agent.leave()?.success());
    rig.remove_rules()?;
    let refusal = drain(&agent)?.expect_err("nobody would serve");
    ensure!(
        refusal.contains("no rules of kube-proxy for") && refusal.contains("--force"),
        "{refusal}"
    );
    let _ = client.ask(Protocol::Tcp, vip::<F>(WEB)).context("nothing has been drained")?;

    rig.load_rules()?;
    // The rules of the other family, which has the same Services.
    let output = agent.command(&["drain", "--force"])?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let [(_, tcp, to), (_, udp, at)] = NEW;
    let mut new = client.source_port(tcp).stay(vip::<F>(to))?;
    let _ = client.source_port(udp).datagrams(vip::<F>(at))?.ask()?;
    for sent in NEW {
        ensure!(rig.translates(sent)?, "{sent:?} not by kube-proxy's rules");
    }
    for protocol in Protocol::OF_SOCKETS {
        let _ = node.ask(protocol, vip::<F>(WEB)).context("from the node")?;
    }
    let _ = stream.exchange()?;
    let _ = datagrams.ask()?;
    ensure!(!rig.translates((Protocol::Udp, 40_070, ONE))?, "a known flow goes on as it was");

    // Who changes their mind gets all of it back, and what goes on goes on.
    agent.start()?;
    let _ = (stream.exchange()?, new.exchange()?, datagrams.ask()?);
    rig.forget(NEW[1])?;
    let _ = client.source_port(udp).datagrams(vip::<F>(at))?.ask()?;
    ensure!(!rig.translates(NEW[1])?, "served again");
    ensure!(agent.leave()?.success());
    ensure!(agent.command(&["drain", "--force"])?.status.success());
    let _: String = agent.cleanup()?;
    let _ = new.exchange()?;
    let _ = datagrams.ask().context("by kube-proxy's rules now")?;
    for protocol in Protocol::OF_SOCKETS {
        let _ = client.ask(protocol, vip::<F>(WEB))?;
    }
    Ok(())
}
