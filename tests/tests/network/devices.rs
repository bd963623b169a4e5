// SPDX-License-Identifier: Apache-2.0

//! Pods come and go while the agent runs.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use proxy_tests::{
    both_families,
    family::{DualAddress, IpFamily, TestFamily},
    netns::{Namespace, Prefix, Veth},
    topology::NodeSpec,
};

use super::cluster::{Cluster, PORT, WEB, eventually};

both_families!(a_pod_that_appears_is_served);

/// A namespace that is plugged into the bridge of a node at once, as a CNI plugin does it.
fn plug_in<F: TestFamily>(cluster: &Cluster, number: u8) -> Result<Namespace> {
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
    let mut agents = cluster.agents()?;
    let _servers = cluster.servers(&["web-1"])?;
    let target = SocketAddr::new(WEB.of(F::FAMILY), PORT);
    for number in 40..44 {
        let pod = plug_in::<F>(&cluster, number)?;
        let connects = || pod.run(|| Ok(std::net::TcpStream::connect(target).map(drop)?)).is_ok();
        ensure!(eventually(connects), "pod {number} is not served");
    }
    ensure!(agents.pop().context("there is an agent")?.stop()?.success());
    Ok(())
}
