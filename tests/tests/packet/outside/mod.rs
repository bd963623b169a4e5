// SPDX-License-Identifier: Apache-2.0

//! Clients outside, and the node's uplink.

mod affinity;
mod loopback;
mod masquerade;
mod sctp;
mod source_ports;
mod source_ranges;
mod translation;

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, Result};
use proxy_common::device::Device;
use proxy_common::flow::{FlowKey, Hook};
use proxy_common::frontend::{FrontendKind, ServiceIndex};
use proxy_common::service::{BackendSet, Policy};
use proxy_tests::packet::Packet;
use proxy_tests::protocol::Protocol;

use crate::connection::tuple;
use crate::frames::{NODE_MAC, answer, opening, proof, vip};
use crate::programs::Verdict;
use crate::rig::{DEVICE, Rig, Tabled, number};

/// Another interface that a packet has come by.
const ELSEWHERE: u32 = 77;
const NODE_PORT: u16 = 30_080;

pub(crate) fn outsider<F: Tabled>(port: u16) -> SocketAddr {
    SocketAddr::new(F::underlay(100), port)
}

pub(crate) fn node<F: Tabled>() -> IpAddr {
    F::underlay(1)
}

pub(crate) fn node_port<F: Tabled>() -> SocketAddr {
    SocketAddr::new(node::<F>(), NODE_PORT)
}

pub(crate) fn load_balancer<F: Tabled>() -> SocketAddr {
    SocketAddr::new(F::underlay(200), 80)
}

/// A node with an uplink, and a Service with every kind of frontend and these backends.
fn rig<F: Tabled>(backends: &[SocketAddr], policy: Policy) -> Result<Rig<F>> {
    equip(Rig::new()?, backends, policy)
}

pub(crate) fn equip<F: Tabled>(
    mut rig: Rig<F>,
    backends: &[SocketAddr],
    policy: Policy,
) -> Result<Rig<F>> {
    rig.set_device(Device::uplink(NODE_MAC))?;
    rig.set_host_address(node::<F>())?;
    rig.mark(SocketAddr::new(node::<F>(), 0), Protocol::Tcp, ServiceIndex::NODE)?;
    rig.mark(SocketAddr::new(vip::<F>(1).ip(), 0), Protocol::Tcp, ServiceIndex::REFUSE)?;
    let anywhere = SocketAddr::new(F::FAMILY.unspecified(), NODE_PORT);
    for protocol in Protocol::ALL {
        let service = rig.service(vip::<F>(1), protocol, backends)?;
        rig.tables.publish_policy(service, policy)?;
        rig.tables.publish_local(service, BackendSet::DROP)?;
        rig.frontend(anywhere, protocol, service, FrontendKind::NodePort)?;
        rig.frontend(load_balancer::<F>(), protocol, service, FrontendKind::LoadBalancer)?;
        for backend in backends {
            rig.mark(*backend, protocol, ServiceIndex::DIRECT)?;
        }
    }
    Ok(rig)
}

/// A connection from outside to a backend elsewhere.
#[derive(Clone, Copy, Debug)]
struct Outside {
    protocol: Protocol,
    client: SocketAddr,
    frontend: SocketAddr,
    backend: SocketAddr,
    /// The client, as the backend sees it.
    source: SocketAddr,
}

impl Outside {
    fn open<F: Tabled>(
        rig: &Rig<F>,
        protocol: Protocol,
        client: SocketAddr,
        frontend: SocketAddr,
    ) -> Result<Self> {
        let sent = opening(protocol, client, frontend);
        let inside = rig.programs.arrives(&sent)?;
        let packet = inside.packet(Verdict::Pass)?;
        let backend = packet.destination_socket().context("ports")?;
        inside.is(Verdict::Pass, &sent.to(backend))?;
        let left = rig.programs.leaves(&packet, DEVICE)?;
        let source = left.packet(Verdict::Pass)?.source_socket().context("ports")?;
        left.is(Verdict::Pass, &packet.from(source))?;
        Ok(Self { protocol, client, frontend, backend, source })
    }

    /// The key of the replies to the node's address.
    fn masqueraded<F: Tabled>(&self) -> FlowKey<F::Abi> {
        let tuple = tuple::<F>(self.backend, self.source);
        FlowKey::new(tuple, number(self.protocol), Hook::INGRESS)
    }

    /// A packet of the client's must reach the backend, as of this source.
    fn request<F: Tabled>(&self, rig: &Rig<F>, packet: &Packet) -> Result<()> {
        let inside = packet.clone().to(self.backend);
        rig.programs.arrives(packet)?.is(Verdict::Pass, &inside)?;
        let expected = inside.clone().from(self.source);
        rig.programs.leaves(&inside, DEVICE)?.is(Verdict::Pass, &expected)
    }

    /// A packet of the backend's must reach the client.
    fn reply<F: Tabled>(&self, rig: &Rig<F>, packet: &Packet) -> Result<()> {
        let inside = packet.clone().to(self.client);
        rig.programs.arrives(packet)?.is(Verdict::Pass, &inside)?;
        let expected = inside.clone().from(self.frontend);
        rig.programs.leaves(&inside, DEVICE)?.is(Verdict::Pass, &expected)
    }

    /// All that a connection can do, twice.
    fn works<F: Tabled>(&self, rig: &Rig<F>) -> Result<()> {
        for _ in 0..2 {
            self.reply(rig, &answer(self.protocol, self.backend, self.source))?;
            self.request(rig, &proof(self.protocol, self.client, self.frontend))?;
            self.request(rig, &opening(self.protocol, self.client, self.frontend))?;
        }
        Ok(())
    }
}
