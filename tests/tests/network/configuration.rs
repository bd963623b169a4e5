// SPDX-License-Identifier: Apache-2.0

//! kube-proxy's configuration: a file as kubeadm writes it in the place of flags, and the questions about such files.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use proxy_tests::both_families;
use proxy_tests::cluster::{Cluster, PORT, WEB};
use proxy_tests::family::TestFamily;
use proxy_tests::protocol::Protocol;
use proxy_tests::scratch::Scratch;
use proxy_tests::topology::NodeSpec;
use proxy_tests::traffic::Client;
use serde_json::Value;

use super::lifecycle::binary;

both_families!(a_file_of_kubeadms_holds_until_it_changes);

/// Every field, and most of them left to the defaults, as kubeadm 1.36 writes them.
const OF_KUBEADM: &str = include_str!("../../../proxy-agent/src/config/tests/kubeadm.yaml");

/// How long the kernel tracks a connection that is silent, in seconds; each network namespace has its own.
const ESTABLISHED: &str = "/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_established";

/// How long an agent may take to end.
const END: Duration = Duration::from_mins(1);

/// A file, as an option that names it.
fn file(scratch: &Scratch, text: &str) -> Result<String> {
    let path = scratch.path().join("config.conf");
    fs::write(&path, text)?;
    Ok(path.to_str().context("a path of this machine")?.to_owned())
}

/// What kubeadm's pod says: the file, and the node's name beside it.
fn a_file_of_kubeadms_holds_until_it_changes<F: TestFamily>() -> Result<()> {
    let cluster = Cluster::of(NodeSpec::bridge("anc-node"))?;
    cluster.serve_web(&["web-1"])?;
    let _servers = cluster.servers(&["web-1"])?;
    let scratch = Scratch::new("configuration")?;
    // A process without rights may say that it can be ended sooner.
    let text = OF_KUBEADM
        .replace("enableProfiling: false\n", "enableProfiling: true\n")
        .replace("oomScoreAdj: null\n", "oomScoreAdj: 500\n");
    let path = file(&scratch, &text)?;
    let agent = cluster.agent("anc-node").argument("--config").argument(&path);
    // What means something here, and does not count beside a file.
    let mut agent = agent.argument("--cluster-cidr=10.0.0.0/8,11.0.0.0/8").start()?;
    let client = Client::new(cluster.topology.pod("client"));
    for protocol in Protocol::OF_SOCKETS {
        let _ = client.ask(protocol, SocketAddr::new(WEB.of(F::FAMILY), PORT))?;
    }
    let log = agent.log()?;
    let said = |message: &str, more: &str| {
        log.lines().any(|line| line.contains(message) && line.contains(more))
    };
    ensure!(said("mean nothing beside --config", "\"flags\":\"cluster-cidr\""), "{log}");
    ensure!(
        said("of the configuration mean nothing here", "\"fields\":\"enableProfiling\""),
        "{log}"
    );

    // What is asked of the process and of the kernel. How many connections it tracks is the whole machine's.
    let process = agent.process().context("it was started")?;
    let score = fs::read_to_string(format!("/proc/{}/oom_score_adj", process.id()))?;
    ensure!(score.trim() == "500", "{score}");
    let node = cluster.topology.node("anc-node").host().namespace();
    let established = node.run(|| Ok(fs::read_to_string(ESTABLISHED)?))?;
    ensure!(established.trim() == "86400", "{established}");

    // Nobody supervises it here.
    fs::write(&path, format!("{text}# another one\n"))?;
    ensure!(!process.wait(END)?.success(), "it has ended well");
    let log = agent.log()?;
    ensure!(log.contains("configuration file") && log.contains("was updated"), "{log}");
    let _ = client.ask(Protocol::Tcp, SocketAddr::new(WEB.of(F::FAMILY), PORT))?;
    agent.start()?;
    let _ = client.ask(Protocol::Udp, SocketAddr::new(WEB.of(F::FAMILY), PORT))?;
    ensure!(agent.stop()?.success());
    Ok(())
}

fn sixfour(arguments: &[&str]) -> Result<Output> {
    Ok(Command::new(binary()?).args(arguments).output()?)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn files_with_faults_are_refused_with_the_line() -> Result<()> {
    let scratch = Scratch::new("configuration")?;
    for (more, says) in
        [("nodePortAdresses: null\n", "nodePortAdresses"), ("mode: nftables\n", "mode")]
    {
        let path = file(&scratch, &format!("{OF_KUBEADM}{more}"))?;
        let line = OF_KUBEADM.lines().count() + 1;
        for arguments in [&["run", "--config", &path][..], &["config", "check", &path]] {
            let Output { status, stderr, .. } = sixfour(arguments)?;
            let error = text(&stderr);
            ensure!(!status.success() && error.contains(&path), "{arguments:?}: {error}");
            ensure!(error.contains(says) && error.contains(&format!("line {line}")), "{error}");
        }
    }
    let path = file(&scratch, &OF_KUBEADM.replace("oomScoreAdj: null", "oomScoreAdj: 1001"))?;
    let Output { status, stderr, .. } = sixfour(&["run", "--config", &path])?;
    let error = text(&stderr);
    ensure!(!status.success() && error.contains("oomScoreAdj: \"1001\" must be"), "{error}");
    Ok(())
}

#[test]
fn a_check_says_what_holds_and_what_means_nothing() -> Result<()> {
    let scratch = Scratch::new("configuration")?;
    let path = file(&scratch, &OF_KUBEADM.replace("portRange: \"\"", "portRange: 100-200"))?;
    let Output { status, stdout, stderr } = sixfour(&["config", "check", &path, "-o", "json"])?;
    ensure!(status.success(), "{}", text(&stderr));
    let findings: Vec<Value> = serde_json::from_slice(&stdout)?;
    let is = |field: &str, value: Value, fate: &str| {
        findings.iter().any(|it| it["field"] == field && it["value"] == value && it["fate"] == fate)
    };
    ensure!(is("clusterCIDR", "10.244.0.0/16,fd00:10:244::/56".into(), "used"), "{findings:?}");
    ensure!(is("conntrack.min", 131_072.into(), "default"), "{findings:?}");
    ensure!(is("portRange", "100-200".into(), "ignored"), "{findings:?}");
    let Output { stdout, .. } = sixfour(&["config", "check", &path])?;
    let table = text(&stdout);
    let row = table.lines().find(|line| line.contains("portRange")).context("a row")?;
    ensure!(row.contains("ignored") && row.contains("mode that there is no more"), "{table}");
    let path = file(&scratch, &OF_KUBEADM.replace("mode: \"\"", "mode: userspace"))?;
    let Output { status, stdout, .. } = sixfour(&["config", "check", &path])?;
    ensure!(!status.success() && text(&stdout).contains("wrong"), "{}", text(&stdout));
    Ok(())
}

#[test]
fn what_holds_is_written_to_a_file() -> Result<()> {
    let scratch = Scratch::new("configuration")?;
    let written = scratch.path().join("written");
    let to = format!("--write-config-to={}", written.display());
    let flags = [
        "--cluster-cidr=fd00:10:244::/56",
        "--proxy-mode=iptables",
        "--masquerade-all",
        "--conntrack-udp-timeout=90s",
    ];
    let read = |path: &Path| -> Result<Vec<Value>> {
        let path = path.to_str().context("a path of this machine")?;
        let Output { status, stdout, stderr } = sixfour(&["config", "check", path, "-o", "json"])?;
        ensure!(status.success(), "{}", text(&stderr));
        Ok(serde_json::from_slice(&stdout)?)
    };
    let Output { status, stderr, .. } = sixfour(&[&["run", &to][..], &flags].concat())?;
    ensure!(status.success(), "{}", text(&stderr));
    let findings = read(&written)?;
    for (field, value) in [
        ("clusterCIDR", Value::from("fd00:10:244::/56")),
        ("iptables.masqueradeAll", true.into()),
        ("conntrack.udpTimeout", "1m30s".into()),
    ] {
        let is = findings.iter().any(|it| it["field"] == field && it["value"] == value);
        ensure!(is, "{field}: {findings:?}");
    }
    // The file's, whatever flags say beside it.
    let path = file(&scratch, OF_KUBEADM)?;
    let Output { status, stderr, .. } =
        sixfour(&[&["run", &to, "--config", &path][..], &flags].concat())?;
    ensure!(status.success(), "{}", text(&stderr));
    ensure!(fs::read_to_string(&written)?.contains("clusterCIDR: 10.244.0.0/16,fd00:10:244::/56"));
    Ok(())
}
