// SPDX-License-Identifier: Apache-2.0

//! The agent starts cleanly, and what it leaves can be removed.

use std::{
    env, fs, io,
    os::unix::fs::chown,
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use proxy_tests::agent::cgroup_root;
use proxy_tests::cluster::Cluster;
use proxy_tests::topology::NodeSpec;

/// The binary of the agent.
pub(crate) fn binary() -> Result<PathBuf> {
    Ok(env::var_os("SIXFOUR_BIN").context("SIXFOUR_BIN is not set")?.into())
}

/// The filters on the devices of a node, as `tc` shows them.
pub(crate) fn filters(cluster: &Cluster) -> Result<String> {
    let node = cluster.topology.node("anc-node").host().namespace();
    let devices = node.netlink()?.link_names()?;
    node.run(|| {
        let mut all = String::new();
        for device in devices {
            for direction in ["ingress", "egress"] {
                let mut show = Command::new("tc");
                let output = show.args(["filter", "show", "dev", &device, direction]).output()?;
                all += &String::from_utf8_lossy(&output.stdout);
            }
        }
        Ok(all)
    })
}

#[test]
fn a_cleanup_leaves_nothing_behind() -> Result<()> {
    for attach in ["--attach=tcx", "--attach=clsact"] {
        let cluster = Cluster::of(NodeSpec::bridge("anc-node"))?;
        cluster.serve_web(&["web-1"])?;
        let mut agent = cluster.agent("anc-node").argument(attach).start()?;
        let pins = agent.pin_root().to_owned();
        ensure!(pins.exists(), "the maps are pinned while it runs");
        if attach.ends_with("clsact") {
            ensure!(filters(&cluster)?.contains("bpf"), "the filters are there");
        }
        ensure!(agent.stop()?.success());
        ensure!(!pins.exists(), "the pins are gone");
        ensure!(!filters(&cluster)?.contains("bpf"), "the filters are gone");
    }
    Ok(())
}

#[test]
fn the_tables_can_be_listed() -> Result<()> {
    let cluster = Cluster::of(NodeSpec::bridge("anc-node"))?;
    cluster.serve_web(&["web-1"])?;
    let mut agent = cluster.agent("anc-node").start()?;
    let binary = binary()?;
    for (what, expected) in
        [("services", "web:tcp"), ("frontends", "web:tcp"), ("backends", "web:udp"), ("flows", "[")]
    {
        let output = Command::new(&binary)
            .args(["list", what, "-o", "json", "--pin-root"])
            .arg(agent.pin_root())
            .output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        ensure!(output.status.success() && text.contains(expected), "{what}: {text}");
    }
    let list = |program: &mut Command| {
        let _ = program.args(["list", "services", "--pin-root"]).arg(agent.pin_root());
    };
    // Whoever reads it may have read enough.
    let (reader, writer) = io::pipe()?;
    drop(reader);
    let mut unread = Command::new(&binary);
    list(&mut unread);
    let output = unread.stdout(writer).stderr(Stdio::piped()).spawn()?.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success() && said.is_empty(), "{said}");
    // Somebody else's directory, for whom being root means nothing.
    let bpffs = agent.pin_root().parent().context("it has a parent")?;
    chown(bpffs, Some(1), None)?;
    let mut powerless = Command::new("setpriv");
    list(powerless.arg("--bounding-set=-all").arg(&binary));
    let output = powerless.output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(1) && said.contains("you may not read"), "{said}");
    ensure!(agent.stop()?.success());
    Ok(())
}

#[test]
fn what_is_missing_is_said_before_anything_is_touched() -> Result<()> {
    let cluster = Cluster::of(NodeSpec::bridge("anc-node"))?;
    let binary = binary()?;
    let directory = cluster.manifests.directory();
    let root = directory.join("no-bpffs");
    let output = Command::new(&binary)
        .args(["run", "--manifests"])
        .arg(directory)
        .arg("--pin-root")
        .arg(&root)
        .args(cgroup_root(cluster.topology.node("anc-node").host().namespace())?)
        .output()?;
    let text = String::from_utf8_lossy(&output.stderr);
    ensure!(!output.status.success() && text.contains("BPF file system"), "{text}");
    ensure!(fs::exists(&root).is_ok_and(|exists| !exists), "it has been made");
    Ok(())
}

#[test]
fn missing_manifests_are_said_before_anything_is_touched() -> Result<()> {
    let cluster = Cluster::of(NodeSpec::bridge("anc-node"))?;
    let root = cluster.manifests.directory().join("root");
    let mut command = Command::new(binary()?);
    let _ = command.args(["run", "--manifests=/nowhere/at/all", "--pin-root"]).arg(&root);
    let node = cluster.topology.node("anc-node").host().namespace();
    let _ = command.args(cgroup_root(node)?);
    let output = command.output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(1) && said.contains("/nowhere/at/all"), "{said}");
    ensure!(!root.exists(), "it has been made");
    Ok(())
}
