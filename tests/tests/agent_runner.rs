// SPDX-License-Identifier: Apache-2.0

//! The runner of agents, with shell scripts in the agent's place.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use proxy_tests::agent::AgentSpec;
use proxy_tests::family::DualAddress;
use proxy_tests::manifests::{Manifests, Service};
use proxy_tests::protocol::Protocol;
use proxy_tests::scratch::Scratch;
use proxy_tests::topology::{NodeSpec, Topology, TopologySpec};

const READY: &str = r#"echo '{"level":"INFO","fields":{"message":"ready"}}'"#;

struct Fixture {
    scratch: Scratch,
    topology: Topology,
    manifests: Manifests,
}

impl Fixture {
    fn new() -> Result<Self> {
        let node = NodeSpec::bridge("anc-node").pod("web-1", 12);
        Ok(Self {
            scratch: Scratch::new("script")?,
            topology: TopologySpec::new().node(node).build()?,
            manifests: Manifests::new()?,
        })
    }

    fn spec(&self, script: &str) -> Result<AgentSpec<'_>> {
        let path: PathBuf = self.scratch.path().join("sixfour");
        fs::write(&path, format!("#!/bin/sh\n{script}\n"))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        let node = self.topology.node("anc-node").host();
        let spec = AgentSpec::new(node, self.manifests.directory());
        Ok(spec.binary(path).patience(Duration::from_secs(20)))
    }
}

#[test]
fn agent_runs_on_its_node_with_its_pins_and_manifests() -> Result<()> {
    let fixture = Fixture::new()?;
    let node = fixture.topology.node("anc-node");
    let service = Service::dual("web", DualAddress::cluster_ip(10))
        .port("http", Protocol::Tcp, 80, 8080)
        .pods(fixture.topology.pods());
    fixture.manifests.apply(&service)?;
    fixture.manifests.apply_node(node, Some("zone-a"))?;
    let script = format!(
        "trap 'exit 3' TERM; echo \"$@\"; cat /proc/net/dev; ls \"$9\" \"$9/web.json\"; {READY}; \
         while :; do sleep 0.01; done"
    );
    let mut agent = fixture.spec(&script)?.argument("--xdp=off").start()?;
    let log = agent.log()?;
    let arguments = log.lines().next().unwrap_or_default();
    assert!(arguments.contains("run --log-level debug --log-format json"), "{log}");
    assert!(arguments.contains("--hostname-override anc-node"), "{log}");
    let cgroup = node.host().cgroup().context("nodes have one")?;
    assert!(arguments.contains(&format!("--cgroup-root {}", cgroup.display())), "{log}");
    assert!(arguments.ends_with("--xdp=off"), "{log}");
    assert!(log.contains("veth-web-1"), "it is in the node's namespace: {log}");
    assert!(log.contains("anc-node.json"), "it sees the manifests: {log}");
    fs::create_dir(agent.pin_root())?;
    assert_eq!(agent.leave()?.code(), Some(3));
    agent.start()?;
    assert!(agent.pin_root().exists(), "pins stay when an agent is stopped");
    agent.kill();
    Ok(())
}

#[test]
fn agent_that_ends_or_hangs_is_an_error() -> Result<()> {
    let fixture = Fixture::new()?;
    let ended = fixture.spec("echo no such kernel; exit 1")?.start();
    let ended = ended.expect_err("it ended").to_string();
    assert!(ended.contains("exit status: 1"), "{ended}");
    let hung = fixture.spec("sleep 100")?.patience(Duration::from_millis(100)).start();
    let hung = hung.expect_err("it is not ready").to_string();
    assert!(hung.contains("has not said \"ready\""), "{hung}");
    Ok(())
}
