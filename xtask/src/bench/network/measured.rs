// SPDX-License-Identifier: Apache-2.0
//! The Services that are measured, as the agent and as kube-proxy get them.

use std::net::{IpAddr, SocketAddr};

use anyhow::Result;
use proxy_tests::{
    family::{DualAddress, IpFamily},
    manifests::{self, Service},
    netns::{Namespace, Prefix},
    protocol::Protocol,
};

use crate::{
    bench::{
        kube_proxy::{Endpoint, ServicePort},
        peer,
    },
    iperf3,
};

/// A Service that is measured, on every node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Measured {
    name: &'static str,
    cluster_ip: DualAddress,
    /// Its ports, which are those of its endpoints.
    ports: &'static [Port],
    /// How many there are of these.
    endpoints: u8,
}

/// A name, a protocol, and a number.
type Port = (&'static str, Protocol, u16);

/// The one for iperf3, whose connections must all come to one endpoint.
pub(crate) const STREAMS: Measured = Measured {
    name: "streams",
    cluster_ip: DualAddress::cluster_ip(201),
    ports: &[("tcp", Protocol::Tcp, iperf3::PORT), ("udp", Protocol::Udp, iperf3::PORT)],
    endpoints: 1,
};

/// The one for connections and requests.
pub(crate) const EXCHANGES: Measured = Measured {
    name: "exchanges",
    cluster_ip: DualAddress::cluster_ip(202),
    ports: &[("peer", Protocol::Tcp, peer::PORT), ("beside", Protocol::Tcp, peer::PORT_BESIDE)],
    endpoints: ENDPOINTS,
};

/// Both.
pub(super) const ALL: [Measured; COUNT as usize] = [STREAMS, EXCHANGES];

/// How many they are.
pub(super) const COUNT: u32 = 2;

/// How many addresses a server has, each of which is an endpoint.
const ENDPOINTS: u8 = 10;

/// The host number of the first of them; the others follow.
pub(super) const FIRST: u8 = 12;

impl Measured {
    /// Its cluster IP in a family.
    pub(crate) const fn cluster_ip(self, family: IpFamily) -> IpAddr {
        self.cluster_ip.of(family)
    }

    /// As the agent gets it, on a node of this number.
    pub(super) fn service(self, node: u8) -> Service {
        let service = Service::dual(self.name, self.cluster_ip);
        let add = |service: Service, (name, protocol, port): &Port| {
            service.port(name, *protocol, *port, *port)
        };
        let endpoints = hosts(self.endpoints).map(|host| {
            let pod = DualAddress::pod(node, host);
            manifests::Endpoint::at(IpFamily::ALL.map(|family| pod.of(family)))
        });
        self.ports.iter().fold(service, add).endpoints(endpoints)
    }

    /// As kube-proxy gets it, on that node or on another one: each of its ports in a family.
    pub(super) fn ports(
        self,
        node: u8,
        is_local: bool,
        family: IpFamily,
    ) -> impl Iterator<Item = ServicePort> + Clone + Sync {
        self.ports.iter().map(move |(name, protocol, number)| {
            let endpoints = hosts(self.endpoints).map(|host| {
                let pod = DualAddress::pod(node, host).of(family);
                Endpoint { address: SocketAddr::new(pod, *number), is_local }
            });
            ServicePort {
                namespace: "bench".to_owned(),
                service: self.name.to_owned(),
                name: (*name).to_owned(),
                protocol: *protocol,
                frontend: SocketAddr::new(self.cluster_ip(family), *number),
                endpoints: endpoints.collect(),
            }
        })
    }
}

fn hosts(count: u8) -> impl Iterator<Item = u8> + Clone {
    FIRST..FIRST + count
}

/// Gives a server, which has the first one, all other addresses of endpoints, and has `node` find them there
/// by its `device`. They are not at the server's own device: what iperf3 sends first over UDP has the address
/// that the kernel prefers there, and has to have the one that its client knows.
pub(super) fn add_addresses(
    number: u8,
    (node, device): (&Namespace, &str),
    server: &Namespace,
) -> Result<()> {
    let (outside, inside) = (node.netlink()?, server.netlink()?);
    let (device, loopback) = (outside.link(device)?, inside.link("lo")?);
    for host in hosts(ENDPOINTS).skip(1) {
        for family in IpFamily::ALL {
            let address = |host| DualAddress::pod(number, host).of(family);
            let prefix = Prefix(address(host), family.host_prefix_length());
            inside.add_address(loopback, prefix)?;
            outside.add_route(prefix, Some(address(FIRST)), device)?;
        }
    }
    Ok(())
}
