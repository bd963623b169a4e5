// SPDX-License-Identifier: Apache-2.0

//! Backends that have their node's address, as pods with `hostNetwork` do.

use anyhow::{Context as _, Result, ensure};
use proxy_tests::both_families;
use proxy_tests::cluster::TARGET;
use proxy_tests::family::TestFamily;
use proxy_tests::protocol::Protocol;
use proxy_tests::topology::{NodeSpec, TopologySpec};
use proxy_tests::traffic::{Client, TcpServer, UdpServer};

use super::rig::{Frontend, NODE, OTHER_NODE, Rig, ask, is_served};

both_families!(
    backends_with_the_addresses_of_bridge_nodes,
    backends_with_the_addresses_of_routed_nodes,
);

/// One on the node that is asked and one on the other, by each frontend: for a pod, for a client
/// outside, and for a process of the node itself.
fn serve_at_the_nodes_addresses<F: TestFamily>(nodes: [NodeSpec; 2]) -> Result<()> {
    let [here, there] = nodes;
    let spec = TopologySpec::new()
        .node(here.pod("client", 11).pod("web-1", 12))
        .node(there.pod("web-2", 22));
    let rig = Rig::new(spec)?;
    let other = rig.cluster.topology.node(OTHER_NODE).host();
    let backends = [rig.node(), other];
    let servers = backends
        .map(|host| anyhow::Ok((TcpServer::start(host, TARGET)?, UdpServer::start(host, TARGET)?)));
    let _servers = servers.into_iter().collect::<Result<Vec<_>>>()?;
    let (pod, outsider) = (rig.pod("client"), rig.outsider());
    let [of_pod, of_outsider, of_node] =
        [pod, outsider, rig.node()].map(|host| host.address(F::FAMILY));
    rig.under_each_policy(&rig.service(&[]).pods(backends), |policy| {
        for frontend in Frontend::ALL {
            let target = frontend.target(F::FAMILY);
            let what = || format!("{frontend:?}");
            is_served(pod, target, &[(NODE, of_pod), (OTHER_NODE, of_pod)]).with_context(what)?;
            let is_local = policy == "Local" && frontend != Frontend::ClusterIp;
            let for_outsider = [(NODE, of_outsider), (OTHER_NODE, of_node)];
            let for_outsider = if is_local { &for_outsider[..1] } else { &for_outsider[..] };
            is_served(outsider, target, for_outsider).with_context(what)?;
            for protocol in Protocol::OF_SOCKETS {
                let seen = ask(rig.node(), protocol, target).with_context(what)?;
                ensure!(seen.keys().eq([NODE, OTHER_NODE]), "{protocol}, {}: {seen:?}", what());
            }
            let mut streams =
                [pod, outsider, rig.node()].map(|host| Client::new(host).stay(target));
            for stream in &mut streams {
                let stream = stream.as_mut().map_err(|error| anyhow::anyhow!("{error}"))?;
                for _ in 0..100 {
                    let _ = stream.exchange().with_context(what)?;
                }
            }
        }
        // They are reached directly beside that.
        for (backend, name) in backends.into_iter().zip([NODE, OTHER_NODE]) {
            for (from, address) in [(pod, of_pod), (outsider, of_outsider)] {
                is_served(from, backend.socket::<F>(TARGET), &[(name, address)])?;
            }
        }
        Ok(())
    })
}

fn backends_with_the_addresses_of_bridge_nodes<F: TestFamily>() -> Result<()> {
    serve_at_the_nodes_addresses::<F>([NodeSpec::bridge(NODE), NodeSpec::bridge(OTHER_NODE)])
}

fn backends_with_the_addresses_of_routed_nodes<F: TestFamily>() -> Result<()> {
    serve_at_the_nodes_addresses::<F>([NodeSpec::routed(NODE), NodeSpec::routed(OTHER_NODE)])
}
