// SPDX-License-Identifier: Apache-2.0
//! A node, with what runs on it.

use std::{
    fs,
    net::{IpAddr, SocketAddr, TcpStream},
};

use anyhow::{Context as _, Result, ensure};
use proxy_tests::{
    agent::{Agent, AgentSpec},
    family::IpFamily,
    flood::sources,
    manifests::Manifests,
    process::Process,
    protocol::Protocol,
    topology::{self, Host, pod_device},
};

use super::{EXCHANGES, Kind, Layout, Measured, Proxy, filler, measured, others, outside};
use crate::{
    bench::{
        evidence,
        kube_proxy::{self, Rules, ServicePort},
        peer::{self, Server},
        processors::Place,
        setup::Setup,
    },
    iperf3,
};

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Client {
    /// A pod, whose packets are translated on its device or by the node.
    Pod,
    /// A process of the node.
    Node,
    /// A machine outside.
    Outside,
}

/// A node with its client, its server and its proxy.
pub(crate) struct Node<'a> {
    pub(super) kind: Kind,
    layout: Layout,
    number: u8,
    host: &'a Host,
    client: &'a Host,
    server: &'a Host,
    agent: Option<Agent<'a>>,
    _iperf3: Process,
    _peers: [Server; 2],
}

impl<'a> Node<'a> {
    /// Starts what runs on it.
    pub(super) fn start(
        (layout, kind): (Layout, Kind),
        node: &'a topology::Node,
        [client, server]: [&'a Host; 2],
        manifests: &'a Manifests,
        setup: &Setup,
    ) -> Result<Self> {
        let peer = |place, port| setup.processors.run(place, || Server::start(server, port));
        let host = node.host();
        evidence::ensure_no_rules(host)?;
        let agent = match kind.proxy {
            Proxy::None => None,
            Proxy::Sixfour | Proxy::FastSixfour | Proxy::XdpSixfour => {
                manifests.apply_node(node, None)?;
                for measured in measured::ALL {
                    manifests.apply(&measured.service(layout.servers(node.number())))?;
                }
                others::write(manifests, kind.others())?;
                let fast = if kind.proxy == Proxy::FastSixfour { "on" } else { "off" };
                let uplinks = outside::ALL;
                let mut agent = AgentSpec::new(host, manifests.directory())
                    .argument(format!("--fast-path={fast}"))
                    .argument(format!("--include-device=uplink={uplinks}"));
                if let Some(room) = kind.room {
                    agent = agent.argument(format!("--max-flows={room}"));
                }
                if kind.proxy == Proxy::XdpSixfour {
                    agent = agent.argument(format!("--xdp=native={uplinks}"));
                }
                Some(agent.log_level("info").binary(&setup.sixfour).start()?)
            }
            Proxy::Rules(mode) => {
                load(mode, (layout, kind), node)?;
                None
            }
        };
        let node = Self {
            kind,
            layout,
            number: node.number(),
            host,
            client,
            server,
            agent,
            _iperf3: setup.processors.run(Place::Server, || iperf3::serve(server))?,
            _peers: [peer(Place::Server, peer::PORT)?, peer(Place::First, peer::PORT_BESIDE)?],
        };
        node.fill()?;
        Ok(node)
    }

    /// Fills the flow tables, if the kind wants that.
    fn fill(&self) -> Result<()> {
        let Some(agent) = self.agent.as_ref().filter(|_| self.kind.flows > 0) else {
            return Ok(());
        };
        for family in IpFamily::ALL {
            let frontend = SocketAddr::new(EXCHANGES.cluster_ip(family), peer::PORT);
            let client = self.client.namespace();
            let mut stream = client.run(|| Ok(TcpStream::connect(frontend)?))?;
            peer::ask_once_more(&mut stream)?;
            filler::fill(agent, stream.local_addr()?, frontend, self.kind.flows)?;
        }
        Ok(())
    }

    /// Has what is for the sources of floods sent to the pod that asks, which drops it.
    ///
    /// # Errors
    ///
    /// If there is no such route.
    pub(crate) fn return_floods(&self) -> Result<()> {
        let netlink = self.host.namespace().netlink()?;
        let device = netlink.link(&pod_device(self.client.name()))?;
        IpFamily::ALL.into_iter().try_for_each(|family| {
            netlink.add_route(sources(family), Some(self.client.address(family)), device)
        })
    }

    /// Who asks.
    pub(crate) const fn client(&self, client: Client) -> &'a Host {
        match client {
            Client::Pod | Client::Outside => self.client,
            Client::Node => self.host,
        }
    }

    /// The server's own address.
    pub(crate) const fn server(&self, family: IpFamily) -> IpAddr {
        self.layout.server(self.number).of(family)
    }

    /// The agent, if it has one.
    pub(crate) const fn agent(&self) -> Option<&Agent<'a>> {
        self.agent.as_ref()
    }

    /// That what reached a port of the Service by now was translated by rules of netfilter.
    ///
    /// # Errors
    ///
    /// If it was not.
    pub(crate) fn check_rules(
        &self,
        family: IpFamily,
        protocol: Protocol,
        number: u16,
    ) -> Result<()> {
        let port = measured_ports(self.layout, self.number, family)
            .find(|port| (port.protocol, port.frontend.port()) == (protocol, number))
            .context("no Service has such a port")?;
        kube_proxy::check_translated(self.host.namespace(), &port)
    }

    /// That the server remembers no closed connections, and still does not want to: new ones from the
    /// same port would be turned away, and what is measured would be the wait of clients. Closed ones
    /// are remembered for a minute: look more often.
    ///
    /// # Errors
    ///
    /// If it does.
    pub(crate) fn ensure_no_time_wait(&self) -> Result<()> {
        let (sockets, most) = self.server.namespace().run_beside_cgroup(|| {
            let read = |path| fs::read_to_string(path).context("counting sockets");
            let most = read("/proc/sys/net/ipv4/tcp_max_tw_buckets")?;
            Ok((read("/proc/thread-self/net/sockstat")?, most))
        })?;
        ensure!(most.trim() == "0", "a server may have {most} sockets in TIME_WAIT");
        ensure!(in_time_wait(&sockets) == Some(0), "a server has some in TIME_WAIT: {sockets}");
        Ok(())
    }

    /// Ends the agent.
    pub(super) fn stop(mut self) -> Result<()> {
        let Some(agent) = &mut self.agent else { return Ok(()) };
        let status = agent.stop()?;
        ensure!(status.success(), "an agent ended with {status}");
        Ok(())
    }
}

/// All ports of the Services that are measured on a node, as kube-proxy gets them.
fn measured_ports(
    layout: Layout,
    node: u8,
    family: IpFamily,
) -> impl Iterator<Item = ServicePort> + Clone + Sync {
    let servers = layout.servers(node);
    let ports = move |service: Measured| service.ports(servers, servers == node, family);
    measured::ALL.into_iter().flat_map(ports)
}

/// How many sockets are in `TIME_WAIT`, of both families, by what the kernel says of a namespace.
fn in_time_wait(sockets: &str) -> Option<u32> {
    let tcp = sockets.lines().find_map(|line| line.strip_prefix("TCP:"))?;
    tcp.split_whitespace().skip_while(|word| *word != "tw").nth(1)?.parse().ok()
}

/// Loads the rules for all Services in both families; those that are measured come last, where
/// iptables finds them latest.
fn load(
    mode: kube_proxy::Mode,
    (layout, kind): (Layout, Kind),
    node: &topology::Node,
) -> Result<()> {
    for family in IpFamily::ALL {
        let measured = measured_ports(layout, node.number(), family);
        let ports = kube_proxy::many(family, kind.others()).chain(measured);
        let host = node.host();
        let rules = Rules { mode, node: kube_proxy::Node::at(host.address(family)), ports };
        let _ = rules.load_into(host.namespace())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::in_time_wait;

    #[test]
    fn time_wait_is_told_by_the_kernel() {
        let sockets = "sockets: used 12\nTCP: inuse 5 orphan 0 tw 17 alloc 8 mem 1\nUDP: inuse 1\n";
        assert_eq!(in_time_wait(sockets), Some(17));
        assert_eq!(in_time_wait("UDP: inuse 0 tw 0"), None);
    }
}
