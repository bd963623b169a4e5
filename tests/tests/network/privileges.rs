// SPDX-License-Identifier: Apache-2.0

//! The agent runs with the capabilities that it asks for, and says which it lacks.

use std::fs::{self, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;

use super::lifecycle::binary;
use anyhow::{Result, ensure};
use proxy_tests::agent::cgroup_root;
use proxy_tests::both_families;
use proxy_tests::cgroup::Cgroup;
use proxy_tests::cluster::{Cluster, PORT, WEB};
use proxy_tests::family::TestFamily;
use proxy_tests::netns::Namespace;
use proxy_tests::protocol::Protocol;
use proxy_tests::scratch::Scratch;
use proxy_tests::topology::NodeSpec;
use proxy_tests::traffic::Client;

both_families!(the_named_capabilities_are_enough);

/// What `sixfour run` asks for.
const NEEDED: [&str; 3] = ["bpf", "net_admin", "perfmon"];

/// A program that runs the agent with these capabilities and no other.
fn with_capabilities(scratch: &Scratch, capabilities: &[&str]) -> Result<PathBuf> {
    let path = scratch.path().join("sixfour");
    let set = capabilities.join(",+");
    let binary = binary()?;
    let text =
        format!("#!/bin/sh\nexec setpriv --bounding-set=-all,+{set} {} \"$@\"\n", binary.display());
    fs::write(&path, text)?;
    fs::set_permissions(&path, Permissions::from_mode(0o755))?;
    Ok(path)
}

fn the_named_capabilities_are_enough<F: TestFamily>() -> Result<()> {
    for attach in ["--attach=tcx", "--attach=clsact"] {
        let cluster = Cluster::of(NodeSpec::bridge("anc-node"))?;
        let scratch = Scratch::new("capabilities")?;
        let _servers = cluster.servers(&["web-1"])?;
        cluster.serve_web(&["web-1"])?;
        let agent = cluster.agent("anc-node").argument(attach);
        let mut agent = agent.binary(with_capabilities(&scratch, &NEEDED)?).start()?;
        let target = SocketAddr::new(WEB.of(F::FAMILY), PORT);
        let client = Client::new(cluster.topology.pod("client"));
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            ensure!(client.ask(protocol, target)?.server == "web-1", "{attach}");
        }
        ensure!(agent.stop()?.success());
    }
    Ok(())
}

#[test]
fn each_capability_that_is_missing_is_named() -> Result<()> {
    let scratch = Scratch::new("capabilities")?;
    let pin_root = scratch.mount_bpffs()?.join("sixfour");
    let cgroup = Cgroup::new("capabilities")?;
    let namespace = Namespace::new("capabilities")?.in_cgroup(cgroup);
    for missing in NEEDED {
        let others: Vec<_> = NEEDED.into_iter().filter(|name| *name != missing).collect();
        let mut command = Command::new(with_capabilities(&scratch, &others)?);
        let _ = command.arg("run").arg("--manifests").arg(scratch.path());
        let _ = command.arg("--pin-root").arg(&pin_root).args(cgroup_root(&namespace)?);
        let output = namespace.run(|| Ok(command.output()?))?;
        let said = String::from_utf8_lossy(&output.stderr);
        let expected = format!(
            "sixfour: root here lacks CAP_{}: run as root, or grant CAP_BPF, CAP_NET_ADMIN and \
             CAP_PERFMON.\n",
            missing.to_uppercase()
        );
        ensure!(output.status.code() == Some(1) && said.ends_with(&expected), "{said}");
        ensure!(!pin_root.exists(), "it has been made");
    }
    Ok(())
}
