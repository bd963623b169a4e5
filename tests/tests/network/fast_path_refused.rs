// SPDX-License-Identifier: Apache-2.0

//! The fast path is refused where rules would be missed, unless it is forced.

use std::process::Output;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use proxy_tests::agent::cgroup_root;
use proxy_tests::both_families;
use proxy_tests::cluster::{Cluster, PORT, WEB};
use proxy_tests::family::TestFamily;
use proxy_tests::protocol::Protocol;
use proxy_tests::scratch::Scratch;
use proxy_tests::topology::NodeSpec;
use proxy_tests::traffic::Client;

use super::fast_path::{iptables, table};
use super::lifecycle::binary;

both_families!(the_agent_refuses_and_can_be_forced, rules_that_come_later_end_the_agent);

/// How long an agent may take to see a rule, which the kernel does not tell of, and to end.
const SOON: Duration = Duration::from_secs(40);

/// `sixfour run` with `--fast-path` and this value, which is to end by itself.
fn run(cluster: &Cluster, value: &str) -> Result<Output> {
    let namespace = cluster.topology.node("anc-node").host().namespace();
    let scratch = Scratch::new("fast-path")?;
    let pin_root = scratch.mount_bpffs()?.join("sixfour");
    let mut command = namespace.command(binary()?);
    let _ = command.args(["run", "--fast-path", value, "--hostname-override", "anc-node"]);
    let _ = command.arg("--manifests").arg(cluster.manifests.directory());
    let _ = command.arg("--pin-root").arg(&pin_root).args(cgroup_root(namespace)?);
    let output = namespace.run(|| Ok(command.output()?))?;
    ensure!(!pin_root.exists(), "it has been made");
    Ok(output)
}

fn the_agent_refuses_and_can_be_forced<F: TestFamily>() -> Result<()> {
    let cluster = Cluster::of(NodeSpec::routed("anc-node"))?;
    let _servers = cluster.servers(&["web-1"])?;
    cluster.serve_web(&["web-1"])?;
    let client = Client::new(cluster.topology.pod("client"));
    let is_served = || -> Result<()> {
        let answer = client.ask(Protocol::Tcp, (WEB.of(F::FAMILY), PORT).into())?;
        ensure!(answer.server == "web-1");
        Ok(())
    };
    let namespace = cluster.topology.node("anc-node").host().namespace();
    let family = table::<F>();
    let rules = |verdict: &str| {
        format!(
            "flush ruleset\ntable {family} policies {{ chain pods {{ type filter hook forward \
             priority 0; meta mark 7 {verdict};\n}}\n}}"
        )
    };

    let _: String = namespace.output("nft", "-f -", &rules("accept"))?;
    let mut agent = cluster.agent("anc-node").argument("--fast-path=on").start()?;
    ensure!(agent.log()?.contains("the fast path is on"), "{}", agent.log()?);
    is_served()?;
    ensure!(agent.stop()?.success());

    let _: String = namespace.output("nft", "-f -", &rules("drop"))?;
    let output = run(&cluster, "on")?;
    let said = String::from_utf8_lossy(&output.stderr);
    let named = format!("(chain {family} policies pods: drop)");
    ensure!(output.status.code() == Some(1), "{}: {said}", output.status);
    ensure!(said.contains(&named) && said.contains("--fast-path force"), "{said}");
    ensure!(said.trim_end().lines().count() == 1, "one sentence: {said}");

    let masquerade = format!(
        "flush ruleset\ntable {family} plugin {{ chain out {{ type nat hook postrouting priority 100; \
         meta mark 7 masquerade;\n}}\n}}"
    );
    let _: String = namespace.output("nft", "-f -", &masquerade)?;
    let said = String::from_utf8_lossy(&run(&cluster, "on")?.stderr).into_owned();
    let named = format!("(chain {family} plugin out: masquerade)");
    ensure!(said.contains(&named) && said.contains("nothing is masqueraded"), "{said}");

    let address = F::FAMILY.unspecified();
    let block = format!("xfrm policy add src {address}/0 dst {address}/0 dir out action block");
    let remove = format!("xfrm policy delete src {address}/0 dst {address}/0 dir out");
    let _: String = namespace.output("nft", "-f -", "flush ruleset")?;
    let _: String = namespace.output("ip", &block, "")?;
    let said = String::from_utf8_lossy(&run(&cluster, "on")?.stderr).into_owned();
    ensure!(said.contains("(IPsec policies out: 1)"), "{said}");
    let _: String = namespace.output("ip", &remove, "")?;

    let _: String = namespace.output("nft", "-f -", &rules("drop"))?;
    for (value, told) in [("force", true), ("off", false)] {
        let argument = format!("--fast-path={value}");
        let mut agent = cluster.agent("anc-node").argument(argument).start()?;
        let log = agent.log()?;
        let warnings = log.lines().filter(|line| line.contains("the fast path"));
        let warnings: Vec<_> = warnings.filter(|line| line.contains("WARN")).collect();
        ensure!(warnings.len() == usize::from(told), "{value}: {warnings:?}");
        let chain = format!("chain {family} policies pods: drop");
        ensure!(warnings.iter().all(|line| line.contains(&chain)), "{warnings:?}");
        is_served()?;
        ensure!(agent.stop()?.success());
    }
    Ok(())
}

fn rules_that_come_later_end_the_agent<F: TestFamily>() -> Result<()> {
    let family = table::<F>();
    let address = F::FAMILY.unspecified();
    let rule = |verdict: &str| {
        format!(
            "table {family} policies {{ chain pods {{ type filter hook forward priority 0; \
             meta mark 7 {verdict};\n}}\n}}"
        )
    };
    let dropping = rule("drop");
    let policy = format!("xfrm policy add src {address}/0 dst {address}/0 dir out action block");
    let legacy = iptables::<F>("legacy");
    for (program, arguments, input, named) in [
        ("nft", "-f -", dropping.as_str(), format!("(chain {family} policies pods: drop)")),
        ("ip", &policy, "", "(IPsec policies out: 1)".to_owned()),
        (&legacy, "-A FORWARD -j DROP", "", format!("(table {family} filter of legacy")),
    ] {
        let cluster = Cluster::of(NodeSpec::routed("anc-node"))?;
        cluster.serve_web(&["web-1"])?;
        let node = cluster.topology.node("anc-node").host().namespace();
        let agent = cluster.agent("anc-node").argument("--fast-path=on").start()?;
        let process = agent.process().context("it has a process")?;
        let _: String = node.output("nft", "-f -", &rule("accept"))?;
        thread::sleep(Duration::from_secs(1));
        ensure!(process.status()?.is_none(), "a rule that accepts ends it: {}", agent.log()?);
        let _: String = node.output(program, arguments, input)?;
        let status = process.wait(SOON)?;
        let said = agent.log()?;
        ensure!(status.code() == Some(1), "{status}: {said}");
        ensure!(said.contains(&named) && said.contains("sixfour: the fast path"), "{said}");
        ensure!(!agent.pin_root().exists(), "there are pins");
        let cleaned = agent.cleanup()?;
        ensure!(cleaned.contains("nothing was there"), "{cleaned}");
    }
    Ok(())
}
