// SPDX-License-Identifier: Apache-2.0

//! The program in the uplink's driver, and the programs of the stack behind it.

mod changes;
mod jumbo;
mod local;
mod sent;
mod untouched;
mod wires;

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, Result, ensure};
use nix::net::if_::if_nametoindex;
use proxy_agent::bpf::clock;
use proxy_common::clock::{Tick, seconds};
use proxy_common::counter::Reason;
use proxy_common::device::{Device, DeviceTraits, Wire};
use proxy_common::service::Policy;
use proxy_common::ways::Hop;
use proxy_tests::cluster::eventually;
use proxy_tests::family::IpFamily;
use proxy_tests::netns::{Namespace, Prefix, Veth};
use proxy_tests::packet::Packet;
use proxy_tests::protocol::Protocol;
use proxy_tests::topology::subnet_length;

use crate::frames::{NODE_MAC, answer, backend, opening, proof};
use crate::outside::{equip, node, node_port, outsider};
use crate::programs::{Outcome, Verdict};
use crate::rig::{DEVICE, Rig, Tabled, address};

/// The protocols that drivers handle.
const PROTOCOLS: [Protocol; 2] = [Protocol::Tcp, Protocol::Udp];

/// The device of a pod.
const POD: &str = "pod";
/// The device by which everything else leaves.
const OUT: &str = "out";
/// Its address, and those of whom it leads to.
const OUT_MAC: [u8; 6] = [2, 0, 0, 0, 1, 0];
const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 1, 1];
const ROUTER_MAC: [u8; 6] = [2, 0, 0, 0, 1, 2];
const OTHER_ROUTER_MAC: [u8; 6] = [2, 0, 0, 0, 1, 3];
/// The machines by which backends are reached.
const ROUTER: u8 = 2;
const OTHER_ROUTER: u8 = 3;

/// A node with a way to clients, and by routers to backends.
///
/// All frames come by the loopback device, since that is where the kernel runs a program for a test.
struct Node<'a, F: Tabled> {
    rig: &'a mut Rig<F>,
    namespace: &'a Namespace,
    out: u32,
}

impl<F: Tabled> Node<'_, F> {
    /// Does something on a node with a Service of these backends, which are elsewhere.
    fn run(
        backends: &[SocketAddr],
        policy: Policy,
        work: impl FnOnce(&mut Node<'_, F>) -> Result<()> + Send,
    ) -> Result<()> {
        let (namespace, beyond) = (Namespace::new("driver")?, Namespace::new("beyond")?);
        let out = Veth { mac: Some(OUT_MAC), ..Veth::named(OUT) };
        namespace.netlink()?.add_veth(out, Veth::named("in"), &beyond)?;
        // A route takes what the device by which packets come can be sent.
        namespace.ip("link set lo mtu 1500")?;
        namespace.netlink()?.add_veth(Veth::named(POD), Veth::named("pod-in"), &beyond)?;
        let forwarding = [("ipv4/ip_forward", "1"), ("ipv6/conf/all/forwarding", "1")];
        namespace.sysctl(forwarding)?;
        let netlink = namespace.netlink()?;
        let link = netlink.link(OUT)?;
        netlink.add_address(link, Prefix(node::<F>(), subnet_length(F::FAMILY)))?;
        // The kernel gives an IPv6 address its route a moment later.
        let own = format!("route get {}", node::<F>());
        let is_there = || namespace.output("ip", &own, "").is_ok_and(|it| it.starts_with("local"));
        ensure!(eventually(is_there), "the node has no route to itself");
        let neighbours =
            [(100, CLIENT_MAC), (ROUTER, ROUTER_MAC), (OTHER_ROUTER, OTHER_ROUTER_MAC)];
        for (host, mac) in neighbours {
            netlink.add_neighbour(link, F::underlay(host), mac)?;
        }
        namespace.run(|| {
            let rig = equip(Rig::in_this_network()?, backends, policy)?;
            let mut rig = with_drivers(rig)?;
            let out = if_nametoindex(OUT)?;
            rig.devices.insert(out, with_driver(out, DeviceTraits::default()), 0)?;
            rig.host_addresses.insert(out, address::<F>(SocketAddr::new(node::<F>(), 0)), 0)?;
            let mut node = Node { rig: &mut rig, namespace: &namespace, out };
            node.route(F::underlay(ROUTER))?;
            work(&mut node)
        })
    }

    /// The same, with backends elsewhere, by next hops that the stack uses all the time.
    fn with_hops(work: impl FnOnce(&mut Node<'_, F>) -> Result<()> + Send) -> Result<()> {
        Self::run(&elsewhere::<F>(), Policy::default(), |node| {
            node.use_hops()?;
            work(node)
        })
    }

    /// Has backends reached by this router.
    fn route(&self, router: IpAddr) -> Result<()> {
        self.route_to(&format!("via {router} dev {OUT}"))
    }

    /// Has backends reached like this.
    fn route_to(&self, way: &str) -> Result<()> {
        self.namespace.ip(&format!("{} route replace {} {way}", option(F::FAMILY), pods::<F>()))
    }

    /// The packet must leave from the driver like this, by the next hop with this address.
    #[track_caller]
    fn sends(&self, sent: &Packet, expected: &Packet, mac: [u8; 6]) -> Result<()> {
        let mut expected = aged(expected);
        (expected.link.source, expected.link.destination) = (OUT_MAC, mac);
        self.rig
            .programs
            .in_driver(sent)?
            .is(Verdict::Redirect, &expected)
            .with_context(|| format!("{sent:?}, after {:?}", self.counts()))
    }

    /// What has been counted in drivers.
    fn counts(&self) -> Vec<(&'static str, u64)> {
        let counts = Reason::ALL.iter().filter(|reason| reason.name().starts_with("xdp-"));
        counts.map(|it| (it.name(), self.rig.count(*it).unwrap_or(u64::MAX))).collect()
    }

    /// The driver must leave it to the stack, which sends it on like this.
    #[track_caller]
    fn leaves_to_stack(&self, sent: &Packet, expected: &Packet) -> Result<()> {
        self.rig.programs.in_driver(sent)?.is(Verdict::Pass, sent)?;
        self.rig.programs.arrives(sent)?.is(Verdict::Redirect, &aged(expected))
    }

    /// Makes both next hops ones that the stack uses all the time.
    fn use_hops(&mut self) -> Result<()> {
        self.use_hops_by(DeviceTraits::default())
    }

    /// The same by a device whose driver is like this.
    fn use_hops_by(&mut self, traits: DeviceTraits) -> Result<()> {
        let used = Tick(clock::now().0.wrapping_add(seconds(3_600)));
        for mac in [CLIENT_MAC, ROUTER_MAC] {
            let hop = Hop { device: self.out, used, mac, own: OUT_MAC, traits, reserved: 0 };
            self.rig.hops.set(Hop::row(hop.device, &mac), hop, 0)?;
        }
        Ok(())
    }
}

/// Has the device by which everything comes be one whose driver has a program.
fn with_drivers<F: Tabled>(mut rig: Rig<F>) -> Result<Rig<F>> {
    rig.forget_hops()?;
    let device = Device::uplink(NODE_MAC);
    rig.set_device(device.with_xdp(Wire::new(DEVICE, 0)))?;
    Ok(rig)
}

/// The device by which everything leaves, with a program in a driver that is like this.
const fn with_driver(index: u32, driver: DeviceTraits) -> Device {
    Device::uplink(OUT_MAC).with_xdp(Wire::new(index, 0)).with(driver)
}

/// The option of `ip` for a family.
const fn option(family: IpFamily) -> &'static str {
    match family {
        IpFamily::V4 => "-4",
        IpFamily::V6 => "-6",
    }
}

/// The network of the backends.
fn pods<F: Tabled>() -> Prefix {
    Prefix(F::pod(2, 0), subnet_length(F::FAMILY))
}

/// A packet that has been forwarded.
fn aged(packet: &Packet) -> Packet {
    let mut packet = packet.clone();
    packet.hop_limit -= 1;
    packet
}

/// A flow of a client outside to a backend elsewhere.
#[derive(Clone, Copy, Debug)]
struct Flow {
    protocol: Protocol,
    client: SocketAddr,
    frontend: SocketAddr,
    backend: SocketAddr,
    /// The client, as the backend sees it.
    source: SocketAddr,
}

impl Flow {
    /// Opens one from this port of the client's. Its first packet may leave from the driver, or from the stack.
    fn open<F: Tabled>(node: &Node<'_, F>, protocol: Protocol, port: u16) -> Result<Self> {
        let (client, frontend) = (outsider::<F>(port), node_port::<F>());
        let sent = opening(protocol, client, frontend);
        let mut outcome = node.rig.programs.in_driver(&sent)?;
        if outcome.verdict == Verdict::Pass {
            outcome.is(Verdict::Pass, &sent)?;
            outcome = node.rig.programs.arrives(&sent)?;
        }
        Self::of(&sent, &outcome, protocol)
    }

    /// That of a packet which has opened it.
    fn of(sent: &Packet, outcome: &Outcome, protocol: Protocol) -> Result<Self> {
        let left = outcome.packet(Verdict::Redirect)?;
        let socket = |socket: Option<SocketAddr>| socket.context("ports");
        Ok(Self {
            protocol,
            client: socket(sent.source_socket())?,
            frontend: socket(sent.destination_socket())?,
            backend: socket(left.destination_socket())?,
            source: socket(left.source_socket())?,
        })
    }

    /// The backend's answer to its first packet.
    fn first_reply(&self) -> Packet {
        answer(self.protocol, self.backend, self.source)
    }

    /// What the client sends once it has that.
    fn request(&self) -> Packet {
        proof(self.protocol, self.client, self.frontend)
    }

    /// What the backend sends after that.
    fn reply(&self) -> Packet {
        proof(self.protocol, self.backend, self.source)
    }

    /// A packet of the client's as the backend gets it.
    fn translated(&self, request: &Packet) -> Packet {
        request.clone().from(self.source).to(self.backend)
    }

    /// A packet of the backend's as the client gets it.
    fn restored(&self, reply: &Packet) -> Packet {
        reply.clone().from(self.frontend).to(self.client)
    }

    /// Has both sides know that the other one is there, by either way.
    fn confirm<F: Tabled>(&self, node: &Node<'_, F>) -> Result<()> {
        for packet in [self.first_reply(), self.request()] {
            let outcome = node.rig.programs.in_driver(&packet)?;
            if outcome.verdict == Verdict::Pass {
                let _ = node.rig.programs.arrives(&packet)?.packet(Verdict::Redirect)?;
            }
        }
        Ok(())
    }

    /// Packets in both directions must leave from the driver.
    #[track_caller]
    fn is_sent<F: Tabled>(&self, node: &Node<'_, F>) -> Result<()> {
        self.confirm(node)?;
        for _ in 0..2 {
            let reply = self.reply();
            node.sends(&reply, &self.restored(&reply), CLIENT_MAC)?;
            let request = self.request();
            node.sends(&request, &self.translated(&request), ROUTER_MAC)?;
        }
        Ok(())
    }
}

/// The backends.
fn elsewhere<F: Tabled>() -> [SocketAddr; 1] {
    [backend::<F>(1)]
}
