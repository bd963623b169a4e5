// SPDX-License-Identifier: Apache-2.0

//! Two nodes, and clients of every kind, in both families: what a network costs, they share.

use std::net::SocketAddr;
use std::time::Instant;

use anyhow::{Result, ensure};
use proxy_tests::agent::AgentSpec;
use proxy_tests::cluster::{Cluster, PORT};
use proxy_tests::family::{DualAddress, IpFamily};
use proxy_tests::flood;
use proxy_tests::load::{Caller, Kind, Load, Report, Servers};
use proxy_tests::manifests::{Endpoint, Service};
use proxy_tests::protocol::Protocol;
use proxy_tests::topology::{Host, NodeSpec, TopologySpec};
use serde_json::json;

use super::objects::Objects;

/// The node of the clients, and of the agent. What it is asked at node ports is served elsewhere.
pub(crate) const NODE: &str = "anc-node";
/// The other one.
pub(crate) const OTHER_NODE: &str = "other-node";
/// The pod that asks.
pub(crate) const CLIENT: &str = "client";
/// A pod on the client's own bridge.
pub(crate) const NEAR: &str = "near";
/// Pods on the other node that are endpoints all the time.
pub(crate) const STAYING: [&str; 2] = ["stay-1", "stay-2"];
/// Pods there that take turns.
pub(crate) const TURNING: [&str; 3] = ["turn-1", "turn-2", "turn-3"];
/// The port of the load's servers, beside those of the tests.
const TARGET: u16 = 7070;

/// A Service of the load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    /// Pods that stay, and one that turns, on the other node.
    Web,
    /// The same, and one on the client's own bridge. It has no node port.
    Near,
    /// As [`Asked::Web`], with session affinity.
    Sticky,
    /// Two of the pods that take turns.
    Turning,
}

impl Asked {
    const ALL: [Self; 4] = [Self::Web, Self::Near, Self::Sticky, Self::Turning];

    const fn name(self) -> &'static str {
        match self {
            Self::Web => "web",
            Self::Near => "near",
            Self::Sticky => "sticky",
            Self::Turning => "turning",
        }
    }

    /// What makes its addresses and ports its own.
    const fn number(self) -> u8 {
        10 + self as u8
    }

    const fn cluster_ip(self) -> DualAddress {
        DualAddress::cluster_ip(self.number())
    }

    const fn node_port(self) -> u16 {
        30_080 + self as u16
    }

    /// Pods that are its endpoints all the time.
    const fn staying(self) -> &'static [&'static str] {
        match self {
            Self::Web | Self::Sticky => &STAYING,
            Self::Near => &[NEAR, STAYING[0]],
            Self::Turning => &[],
        }
    }

    /// Who may answer.
    fn servers(self) -> Servers {
        Servers::staying(self.staying().iter().copied()).and_leaving(TURNING)
    }

    fn target(self, family: IpFamily, from_outside: bool) -> SocketAddr {
        if from_outside {
            SocketAddr::new(DualAddress::underlay(1).of(family), self.node_port())
        } else {
            SocketAddr::new(self.cluster_ip().of(family), PORT)
        }
    }
}

/// The namespaces. The load's Services are written where the agent reads them.
pub(crate) struct Rig {
    pub(crate) cluster: Cluster,
}

impl Rig {
    pub(crate) fn new() -> Result<Self> {
        let others = STAYING.into_iter().chain(TURNING);
        let other = NodeSpec::routed(OTHER_NODE);
        let other = (21..).zip(others).fold(other, |node, (host, name)| node.pod(name, host));
        let node = NodeSpec::bridge(NODE).pod(CLIENT, 11).pod(NEAR, 12);
        let spec = TopologySpec::new().node(node).node(other).outsider("outsider", 100);
        let rig = Self { cluster: Cluster::new(&spec)? };
        rig.cluster.manifests.apply_service_cidr()?;
        rig.turn(rig.files(), 0)?;
        Ok(rig)
    }

    /// Has the nodes send what is for the sources of floods outside, to a machine that drops it.
    pub(crate) fn sink_floods(&self) -> Result<()> {
        let outsider = self.cluster.topology.outsider("outsider");
        for node in [NODE, OTHER_NODE] {
            let node = self.cluster.topology.node(node).host();
            for family in IpFamily::ALL {
                node.send_range_through(flood::sources(family), outsider)?;
            }
        }
        Ok(())
    }

    /// A Service, as pods or machines outside ask it.
    pub(crate) fn web(family: IpFamily, from_outside: bool) -> SocketAddr {
        Asked::Web.target(family, from_outside)
    }

    /// The directory of manifests, as the place of objects.
    pub(crate) const fn files(&self) -> Objects<'_> {
        Objects::Files(&self.cluster.manifests)
    }

    /// An agent that reads it. What befalls packets is told by the load.
    pub(crate) fn agent(&self) -> AgentSpec<'_> {
        self.cluster.agent(NODE).log_level("info")
    }

    pub(crate) fn node(&self) -> &Host {
        self.cluster.topology.node(NODE).host()
    }

    pub(crate) fn pod(&self, name: &str) -> &Host {
        self.cluster.topology.pod(name)
    }

    /// Has the next of the pods that take turns do so, in all Services. The one that leaves is gone at
    /// even turns, and terminating until the next turn at odd ones; it goes on answering all the time.
    pub(crate) fn turn(&self, objects: Objects<'_>, turn: usize) -> Result<()> {
        let pod = |ahead: usize| self.pod(TURNING[(turn + ahead) % TURNING.len()]);
        let leaving = || Endpoint::of(pod(2)).conditions(false, true, true);
        for asked in Asked::ALL {
            let mut endpoints = vec![Endpoint::of(pod(0))];
            endpoints.extend(asked.staying().iter().map(|pod| Endpoint::of(self.pod(pod))));
            if asked == Asked::Turning {
                endpoints.push(Endpoint::of(pod(1)));
            }
            if turn % 2 == 1 {
                endpoints.push(leaving());
            }
            objects.apply(&service(asked).endpoints(endpoints))?;
        }
        Ok(())
    }

    /// Starts the load: a pod, a process of the node, and a machine outside. An agent must be running.
    pub(crate) fn load(&self) -> Result<Load> {
        let names = [NEAR].into_iter().chain(STAYING).chain(TURNING);
        let servers: Vec<_> = names.map(|name| self.pod(name)).collect();
        let outsider = self.cluster.topology.outsider("outsider");
        let clients = [(self.pod(CLIENT), false), (self.node(), false), (outsider, true)];
        let mut callers = Vec::new();
        for (family, (host, outside)) in
            IpFamily::ALL.into_iter().flat_map(|family| clients.map(|client| (family, client)))
        {
            let mut call = |kind, asked: Asked| {
                let (target, servers) = (asked.target(family, outside), asked.servers());
                callers.push(Caller { kind, host, target, servers });
            };
            call(Kind::Affinity, Asked::Sticky);
            for kind in [Kind::Short, Kind::Long, Kind::Connected, Kind::Unconnected] {
                call(kind, if outside { Asked::Web } else { Asked::Near });
                // Connections stay, whoever turns.
                if kind != Kind::Long {
                    call(kind, Asked::Turning);
                }
            }
        }
        Load::start(&servers, TARGET, &callers)
    }
}

/// Ends a load of which nothing may be lost, nor anything have to be sent again.
pub(crate) fn ends_well(load: Load, begun: Instant) -> Result<Report> {
    let report = ends(load, begun)?;
    ensure!(report.sent_again().next().is_none(), "segments were lost:\n{report}");
    Ok(report)
}

/// Ends a load of which nothing may be lost; but a SYN may have been sent again.
pub(crate) fn ends(load: Load, begun: Instant) -> Result<Report> {
    let report = load.stop()?;
    report.ensure_nothing_lost()?;
    // A tenth of what they do on a machine that is not busy.
    let few = begun.elapsed().as_millis() / 20 / 10;
    let busy = report.rows.iter().all(|row| u128::from(row.seen) >= few);
    ensure!(busy, "too few requests:\n{report}");
    eprintln!("{report}");
    Ok(report)
}

/// A Service of the load, without endpoints.
fn service(asked: Asked) -> Service {
    let mut service = Service::dual(asked.name(), asked.cluster_ip());
    for (name, protocol) in [("tcp", Protocol::Tcp), ("udp", Protocol::Udp)] {
        service = service.port(name, protocol, PORT, TARGET);
    }
    match asked {
        Asked::Near => service,
        Asked::Sticky => {
            service.node_port(asked.node_port()).field("sessionAffinity", json!("ClientIP"))
        }
        Asked::Web | Asked::Turning => service.node_port(asked.node_port()),
    }
}
