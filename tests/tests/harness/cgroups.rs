// SPDX-License-Identifier: Apache-2.0

//! What runs in a node or pod is in its control group, sockets above all.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc;
use std::thread;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use proxy_tests::both_families;
use proxy_tests::family::TestFamily;
use proxy_tests::topology::{Host, NodeSpec, Topology, TopologySpec};
use proxy_tests::traffic::{Client, TcpServer, UdpServer};

const PORT: u16 = 7000;

both_families!(sockets_belong_to_the_groups_of_their_hosts);

fn topology() -> Result<Topology> {
    TopologySpec::new()
        .node(NodeSpec::bridge("anc-node").pod("web-1", 12))
        .node(NodeSpec::routed("other-node"))
        .outsider("outside", 100)
        .build()
}

/// The group in the text of a `/proc/.../cgroup`.
fn group(text: &str) -> Result<&str> {
    text.lines().find_map(|line| line.strip_prefix("0::")).context("no group of cgroup2")
}

/// `group` is that of `host`; that of this process, if `host` has none.
fn is_of(group: &str, host: &Host) -> Result<bool> {
    let Some(path) = host.cgroup() else {
        return Ok(group == self::group(&fs::read_to_string("/proc/self/cgroup")?)?);
    };
    let below = group.trim_start_matches('/');
    Ok(!below.is_empty() && path.ends_with(below))
}

/// What the kernel says of the sockets of `host` at `local` belongs to its group.
fn has_socket(host: &Host, local: SocketAddr) -> Result<()> {
    let sockets = host.namespace().output("ss", "-Htuan --cgroup", "")?;
    let name = local.to_string();
    let of_it = |line: &&str| line.split_whitespace().nth(4) == Some(&name);
    let lines: Vec<_> = sockets.lines().filter(of_it).collect();
    ensure!(!lines.is_empty(), "no socket is at {local}: {sockets}");
    for line in lines {
        let group = line.split_whitespace().find_map(|word| word.strip_prefix("cgroup:"));
        ensure!(is_of(group.context("ss shows no group")?, host)?, "{}: {line}", host.name());
    }
    Ok(())
}

fn sockets_belong_to_the_groups_of_their_hosts<F: TestFamily>() -> Result<()> {
    let topology = topology()?;
    let server = topology.node("other-node").host();
    let _servers = [TcpServer::start(server, PORT)?];
    let _datagrams = UdpServer::start(server, PORT)?;
    has_socket(server, server.socket::<F>(PORT))?;
    let node = topology.node("anc-node").host();
    for host in [node, topology.pod("web-1"), topology.outsider("outside")] {
        let client = Client::new(host);
        let stream = client.stay(server.socket::<F>(PORT))?;
        has_socket(host, stream.local()?)?;
        has_socket(host, client.udp_socket(server.socket::<F>(PORT))?.local_addr()?)?;
    }
    Ok(())
}

#[test]
fn threads_and_processes_are_in_the_groups_of_their_hosts() -> Result<()> {
    let topology = topology()?;
    let (node, pod) = (topology.node("anc-node").host(), topology.pod("web-1"));
    let other = topology.node("other-node").host();
    assert_eq!(pod.cgroup().and_then(Path::parent), node.cgroup());
    ensure!(node.cgroup() != other.cgroup());
    for host in [node, pod, other, topology.outsider("outside")] {
        let thread =
            host.namespace().run(|| Ok(fs::read_to_string("/proc/thread-self/cgroup")?))?;
        ensure!(is_of(group(&thread)?, host)?, "a thread of {}: {thread}", host.name());
        let process = host.namespace().output("cat", "/proc/self/cgroup", "")?;
        ensure!(is_of(group(&process)?, host)?, "a process of {}: {process}", host.name());
    }
    Ok(())
}

#[test]
fn a_group_goes_with_whatever_is_left_in_it() -> Result<()> {
    let topology = topology()?;
    let own = fs::read_to_string("/proc/self/cgroup")?;
    let node = topology.node("anc-node").host().namespace();
    let groups: Vec<_> =
        topology.nodes().map(|node| node.host().cgroup().map(Path::to_owned)).collect();
    let (gone, wait) = mpsc::channel::<()>();
    let thread = node.run(|| {
        Ok(thread::spawn(move || {
            // It ends when the sender is dropped.
            let _ = wait.recv();
            fs::read_to_string("/proc/thread-self/cgroup")
        }))
    })?;
    let mut process = topology.pod("web-1").namespace().run(|| {
        // Nothing else tells whose it is.
        Ok(Command::new("sleep").arg("1000").spawn()?)
    })?;
    drop(topology);
    for path in groups {
        let path = path.context("nodes have groups")?;
        ensure!(!path.exists(), "{} is left", path.display());
    }
    assert_eq!(process.wait()?.signal(), Some(Signal::SIGKILL as i32));
    drop(gone);
    let after = thread.join().ok().context("the thread panicked")??;
    assert_eq!(group(&after)?, group(&own)?);
    Ok(())
}
