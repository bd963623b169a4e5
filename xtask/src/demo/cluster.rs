// SPDX-License-Identifier: Apache-2.0
//! The demo's cluster: the pods that the recorded endpoints name, with their servers, on a node
//! with a bridge and on one that routes to each pod; clients; and an agent on each node.

use std::{
    collections::BTreeSet,
    fs,
    net::{IpAddr, SocketAddr},
    path::Path,
};

use anyhow::{Context as _, Result};
use proxy_tests::{
    agent::{Agent, AgentSpec},
    family::{DualAddress, IpFamily},
    manifests::{Manifests, Service},
    process::Process,
    protocol::Protocol,
    topology::{Host, NodeSpec, Topology, TopologySpec},
    traffic::{HttpServer, UdpServer},
};

use crate::{iperf3, progress::Part};

use super::{
    connections::{self, ConnectionServer},
    outside,
    recorded::{self, Recorded},
    verdict::Problems,
};

/// The recorded nodes, the letter that the names of their pods start with, and the pod on each
/// that is a client.
pub(super) const NODES: [(&str, &str, &str); 2] =
    [("anc-node", "a", "client-a"), ("other-node", "b", "client-b")];

/// The machines outside, in the nodes' network, that ask at each of [`NODES`]; their host numbers
/// begin with the second.
pub(super) const OUTSIDE: [&str; 2] = ["outside-a", "outside-b"];
const OUTSIDE_HOST: u8 = 100;

/// The machine outside that is behind the first of these, and its host number there.
pub(super) const FAR: &str = "far-away";
const FAR_HOST: u8 = 7;

/// The host number of the client on each node.
const CLIENT: u8 = 200;

/// The pod behind the Service for measurements, on the second node, and its host number.
pub(super) const MEASURED_POD: &str = "iperf3";
const MEASURED_HOST: u8 = 201;

/// The cluster IP of the Service for measurements; the recorded ones are others.
const MEASURED_CLUSTER_IP: DualAddress = DualAddress::cluster_ip(201);

/// The cluster, running.
pub(super) struct Cluster<'a> {
    pub(super) topology: &'a Topology,
    pub(super) manifests: &'a Manifests,
    pub(super) agents: Vec<Agent<'a>>,
    _http: Vec<HttpServer>,
    _udp: Vec<UdpServer>,
    _streams: Process,
    _connections: ConnectionServer<'a>,
}

/// Makes the nodes and the pods.
///
/// # Errors
///
/// If namespaces cannot be made.
pub(super) fn topology(recorded: &Recorded) -> Result<Topology> {
    let endpoints: BTreeSet<_> = recorded.listening().into_iter().map(|l| l.address).collect();
    let mut spec = TopologySpec::new();
    let mut count = 0;
    for (number, (name, letter, client)) in (1..).zip(NODES) {
        let node = if number == 1 { NodeSpec::bridge(name) } else { NodeSpec::routed(name) };
        let mut node = node.pod(client, CLIENT);
        for host in 2..CLIENT {
            let pod = DualAddress::pod(number, host);
            if IpFamily::ALL.iter().any(|family| endpoints.contains(&pod.of(*family))) {
                node = node.pod(&format!("{letter}{host}"), host);
                count += 1;
            }
        }
        if number == 2 {
            node = node.pod(MEASURED_POD, MEASURED_HOST);
        }
        spec = spec.node(node);
        count += 2;
    }
    for (host, name) in (OUTSIDE_HOST..).zip(OUTSIDE) {
        spec = spec.outsider(name, host);
        count += 1;
    }
    let part = Part::new(
        "two nodes, pods behind a bridge on one, routed to on the other, and machines outside",
        count,
    );
    let mut topology = spec.build_with_progress(|step| {
        part.on(step);
        part.done();
    })?;
    topology.add_behind(OUTSIDE[0], FAR, FAR_HOST)?;
    Ok(topology)
}

impl<'a> Cluster<'a> {
    /// Writes the objects, and starts the servers and the agents.
    ///
    /// # Errors
    ///
    /// If a server or an agent does not start.
    pub(super) fn start(
        topology: &'a Topology,
        manifests: &'a Manifests,
        recorded: &Recorded,
        sixfour: &Path,
    ) -> Result<Self> {
        let part = Part::new("servers in the pods, and an agent on each node", NODES.len() + 1);
        part.on("servers");
        for pod in topology.pods() {
            // A client meets the same port of a pod again and again, through other Services and
            // directly; what the pod remembers of closed connections must not get in its way.
            pod.namespace().sysctl([("ipv4/tcp_max_tw_buckets", "0")])?;
        }
        let (mut http, mut udp) = (BTreeSet::new(), BTreeSet::new());
        for listening in recorded.listening() {
            let Some(pod) = pod_at(topology, listening.address) else { continue };
            let _ = match protocol(&listening.protocol) {
                Some(Protocol::Tcp) => http.insert((pod.name(), listening.port)),
                Some(Protocol::Udp) => udp.insert((pod.name(), listening.port)),
                Some(Protocol::Sctp) | None => false,
            };
        }
        let start_http = |(pod, port)| HttpServer::start(topology.pod(pod), port);
        let start_udp = |(pod, port)| UdpServer::start(topology.pod(pod), port);
        let http = http.into_iter().map(start_http).collect::<Result<_>>()?;
        let udp = udp.into_iter().map(start_udp).collect::<Result<_>>()?;
        let measured = topology.pod(MEASURED_POD);
        let streams = iperf3::serve(measured)?;
        let connections = ConnectionServer::start(measured)?;
        part.done();

        write_objects(manifests, measured)?;
        let start_agent = |(node, _, _): (&str, _, _)| {
            part.on(format_args!("agent on {node}"));
            let agent = AgentSpec::new(topology.node(node).host(), manifests.directory())
                .log_level("info")
                .binary(sixfour)
                .start();
            part.done();
            agent
        };
        let agents = NODES.into_iter().map(start_agent).collect::<Result<_>>()?;
        Ok(Self {
            topology,
            manifests,
            agents,
            _http: http,
            _udp: udp,
            _streams: streams,
            _connections: connections,
        })
    }

    /// The pod that has `address`.
    pub(super) fn pod_at(&self, address: IpAddr) -> Option<&'a Host> {
        pod_at(self.topology, address)
    }

    /// A port of the pod for measurements: directly, and through its Service.
    pub(super) fn measured(&self, family: IpFamily, port: u16) -> [SocketAddr; 2] {
        let pod = self.topology.pod(MEASURED_POD).address(family);
        [pod, MEASURED_CLUSTER_IP.of(family)].map(|address| SocketAddr::new(address, port))
    }

    /// The pod that measures: on the other node than the one it measures.
    pub(super) fn measuring(&self) -> &'a Host {
        self.topology.pod(NODES[0].2)
    }

    /// Ends the agents.
    pub(super) fn stop(&mut self, problems: &mut Problems) {
        for agent in &mut self.agents {
            match agent.stop() {
                Ok(status) if status.success() => {}
                Ok(status) => problems.add(format!("an agent ended with {status}")),
                Err(error) => problems.add(format!("an agent did not end: {error:#}")),
            }
        }
    }
}

/// The protocol of a name, if the demo speaks it.
pub(super) fn protocol(name: &str) -> Option<Protocol> {
    Protocol::OF_SOCKETS.into_iter().find(|protocol| protocol.name() == name)
}

fn pod_at(topology: &Topology, address: IpAddr) -> Option<&Host> {
    topology.pods().find(|pod| pod.addresses().any(|own| own == address))
}

/// Writes the recorded objects as they are, and the demo's own Services beside them.
fn write_objects(manifests: &Manifests, measured: &Host) -> Result<()> {
    for file in recorded::FILES {
        let path = recorded::folder().join(file);
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        manifests.write(file, &text)?;
    }
    let service = Service::dual(MEASURED_POD, MEASURED_CLUSTER_IP)
        .port("tcp", Protocol::Tcp, iperf3::PORT, iperf3::PORT)
        .port("udp", Protocol::Udp, iperf3::PORT, iperf3::PORT)
        .port("connections", Protocol::Tcp, connections::PORT, connections::PORT)
        .pods([measured]);
    manifests.apply(&service)?;
    manifests.apply(&outside::service())
}
