// SPDX-License-Identifier: Apache-2.0

//! Pods come and go while the agent runs.

use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use super::lifecycle::filters;
use anyhow::{Result, ensure};
use proxy_agent::bpf::object::INGRESS;
use proxy_tests::cluster::{Cluster, PATIENCE, PORT, TARGET, WEB, eventually};
use proxy_tests::{
    both_families,
    family::{DualAddress, IpFamily, TestFamily},
    median::median,
    netns::{Namespace, Prefix, Veth},
    protocol::Protocol,
    topology::{NodeSpec, TopologySpec, pod_device},
    traffic::Client,
};
use serde_json::json;

both_families!(a_pod_that_appears_is_served, an_address_of_the_node_makes_an_uplink);

/// How soon most pods must be served: 100 ms are promised, on a machine that is not as busy as those
/// that run tests.
const AT_ONCE: Duration = Duration::from_secs(1);
/// How soon each must be: without the kernel's word it would be at the next look around, after ten seconds.
const SOON: Duration = Duration::from_secs(5);
/// How long to wait for an answer from a pod beside.
const ATTEMPT: Duration = Duration::from_millis(100);

/// A namespace that is plugged into the bridge of a node at once, as a CNI plugin does it.
pub(super) fn plug_in<F: TestFamily>(cluster: &Cluster, number: u8) -> Result<Namespace> {
    let pod = Namespace::new("late")?;
    let node = cluster.topology.node("anc-node").host().namespace().netlink()?;
    let device = format!("late-{number}");
    node.add_veth(Veth::named(&device), Veth::named("eth0"), &pod)?;
    node.enslave(&device, node.link("cni0")?)?;
    let inside = pod.netlink()?;
    let eth0 = inside.link("eth0")?;
    let length = if F::FAMILY == IpFamily::V4 { 24 } else { 64 };
    inside.add_address(eth0, Prefix(DualAddress::pod(1, number).of(F::FAMILY), length))?;
    let gateway = DualAddress::pod(1, 1).of(F::FAMILY);
    inside.add_route(Prefix(F::FAMILY.unspecified(), 0), Some(gateway), eth0)?;
    Ok(pod)
}

fn a_pod_that_appears_is_served<F: TestFamily>() -> Result<()> {
    let cluster = Cluster::of(NodeSpec::bridge("anc-node"))?;
    cluster.serve_web(&["web-1"])?;
    let mut agent = cluster.agent("anc-node").start()?;
    let running = &agent;
    let _servers = cluster.servers(&["web-1"])?;
    let direct = cluster.topology.pod("web-1").socket::<F>(TARGET);
    let target = SocketAddr::new(WEB.of(F::FAMILY), PORT);
    let mut took = Vec::new();
    for number in 40..45 {
        let start = Instant::now();
        let (attached, reachable, served) = thread::scope(|scope| {
            let name = format!("\"device\":\"late-{number}\"");
            let attached = scope.spawn(move || {
                while !running.log()?.lines().any(|line| is_attached(line, &name)) {
                    ensure!(start.elapsed() < PATIENCE, "pod {number} gets no programs");
                    thread::sleep(Duration::from_millis(1));
                }
                Ok(start.elapsed())
            });
            let pod = plug_in::<F>(&cluster, number)?;
            // The kernel takes up to a second until a new port of the bridge is one; what is sent
            // meanwhile is lost. So each attempt is a new connection.
            let connected = |to: SocketAddr| {
                pod.run(|| {
                    while TcpStream::connect_timeout(&to, ATTEMPT).is_err() {
                        ensure!(start.elapsed() < PATIENCE, "pod {number} does not reach {to}");
                    }
                    Ok(start.elapsed())
                })
            };
            let (reachable, served) = (connected(direct)?, connected(target)?);
            let attached = attached.join().map_err(|_| anyhow::anyhow!("the log's reader died"))?;
            anyhow::Ok((attached?, reachable, served))
        })?;
        let name = F::FAMILY.name();
        eprintln!("{name}: attached {attached:?}, reaches {reachable:?}, served {served:?}");
        ensure!(attached < SOON && served < reachable + SOON, "pod {number} waits for long");
        took.push(attached.max(served.saturating_sub(reachable)));
    }
    ensure!(median(&mut took) < AT_ONCE, "they have waited for {took:?}");
    ensure!(agent.stop()?.success());
    Ok(())
}

/// Whether a line of the agent's log says that the device of this name has its programs.
fn is_attached(line: &str, name: &str) -> bool {
    line.contains("\"message\":\"attached\"") && line.contains(name)
}

/// A device that looks like a pod's, but has an address that the Node object names.
fn an_address_of_the_node_makes_an_uplink<F: TestFamily>() -> Result<()> {
    let cluster = Cluster::new(&TopologySpec::new().node(NodeSpec::bridge("anc-node")))?;
    let other = Namespace::new("other")?;
    let node = cluster.topology.node("anc-node").host().namespace().netlink()?;
    node.add_veth(Veth::named("up1"), Veth::named("eth0"), &other)?;
    let address = DualAddress::pod(77, 1).of(F::FAMILY);
    node.add_address(node.link("up1")?, Prefix(address, F::FAMILY.host_prefix_length()))?;
    let mut agent = cluster.agent("anc-node").argument("--attach=clsact").start()?;
    // It is the only device that could be a pod's, and uplinks have another program.
    let attached = || filters(&cluster).is_ok_and(|filters| filters.contains(INGRESS));
    ensure!(attached(), "it looks like a pod's");
    let addresses = json!([{ "type": "InternalIP", "address": address }]);
    let object = json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": { "name": "anc-node" },
        "status": { "addresses": addresses },
    });
    cluster.manifests.write_list("anc-node", &[object])?;
    ensure!(eventually(|| !attached()), "it is taken for a pod's");
    cluster.manifests.apply_node(cluster.topology.node("anc-node"), None)?;
    ensure!(eventually(attached), "it is not taken for a pod's again");
    ensure!(agent.stop()?.success());
    Ok(())
}

/// Somebody else's filter has the priority, with another protocol, so that ours is refused.
#[test]
fn a_device_that_cannot_be_served_is_tried_again() -> Result<()> {
    let cluster = Cluster::of(NodeSpec::bridge("anc-node"))?;
    cluster.serve_web(&["web-1"])?;
    let _servers = cluster.servers(&["web-1"])?;
    let device = pod_device("client");
    let tc = |words: &[&str]| {
        cluster.topology.node("anc-node").host().namespace().run(|| {
            let output = Command::new("tc").args(words).output()?;
            ensure!(output.status.success(), "tc: {}", String::from_utf8_lossy(&output.stderr));
            Ok(())
        })
    };
    let first = ["dev", &device, "ingress", "prio", "1"];
    tc(&["qdisc", "add", "dev", &device, "clsact"])?;
    let never = ["protocol", "arp", "bpf", "bytecode", "1,6 0 0 0"];
    tc(&[&["filter", "add"], &first[..], &never].concat())?;
    let mut agent = cluster.agent("anc-node").argument("--attach=clsact").start()?;
    let log = agent.log()?;
    ensure!(log.contains("\"failed_devices\":1"), "{log}");
    ensure!(log.contains("cannot serve the device"), "{log}");
    let client = Client::new(cluster.topology.pod("client")).patience(Duration::from_millis(100));
    let target = SocketAddr::new(WEB.v4.into(), PORT);
    let connects = || client.ask(Protocol::Tcp, target).is_ok();
    ensure!(!connects(), "it is served nevertheless");
    tc(&[&["filter", "del"], &first[..]].concat())?;
    ensure!(eventually(connects), "it is not tried again");
    ensure!(agent.stop()?.success());
    Ok(())
}
