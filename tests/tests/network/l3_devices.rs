// SPDX-License-Identifier: Apache-2.0

//! Devices whose frames have no Ethernet header: a tun device, whose other end is this test.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, AsRawFd as _};

use anyhow::{Context as _, Result, bail, ensure};
use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use proxy_tests::cluster::{Cluster, PORT, WEB, eventually};
use proxy_tests::{
    both_families,
    family::{IpFamily, TestFamily},
    netns::{Namespace, Prefix},
    packet::{Content, Packet, TcpFlags},
    protocol::Protocol,
    topology::NodeSpec,
};

both_families!(a_client_without_ethernet_is_served, a_tunnel_without_ethernet_is_guarded);

/// The device.
const DEVICE: &str = "tun64";
/// How long to wait for a packet, in milliseconds.
const PATIENCE: u16 = 3_000;

/// The other end of a tun device of a node.
struct Tun(File);

impl Tun {
    /// Makes the device, up, with a route to an address behind it.
    fn new(node: &Namespace, behind: Prefix) -> Result<Self> {
        let file = node.run(|| {
            let file = OpenOptions::new().read(true).write(true).open("/dev/net/tun")?;
            // SAFETY: all zero is a valid value of this structure.
            let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
            for (to, from) in request.ifr_name.iter_mut().zip(DEVICE.bytes()) {
                *to = from.cast_signed();
            }
            request.ifr_ifru.ifru_flags = i16::try_from(libc::IFF_TUN | libc::IFF_NO_PI)?;
            // SAFETY: the request is what this command takes, and lives for the call.
            let result =
                unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw const request) };
            let _: i32 = Errno::result(result).context("making a tun device")?;
            Ok(file)
        })?;
        let netlink = node.netlink()?;
        netlink.up(DEVICE)?;
        netlink.add_route(behind, None, netlink.link(DEVICE)?)?;
        Ok(Self(file))
    }

    /// Sends a packet to the node.
    fn send(&self, packet: &Packet) -> Result<()> {
        (&self.0).write_all(&packet.build_ip()?).context("writing to the tun device")
    }

    /// The next packet of a family and for an address that comes from the node.
    fn receive(&self, to: std::net::IpAddr) -> Result<Packet> {
        loop {
            let mut polled = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
            ensure!(poll(&mut polled, PollTimeout::from(PATIENCE))? > 0, "nothing comes");
            let mut bytes = [0; 2048];
            let length = (&self.0).read(&mut bytes)?;
            // There are router solicitations, too.
            match Packet::decode_ip(&bytes[..length]) {
                Ok(packet) if packet.destination == to => return Ok(packet),
                _ => {}
            }
        }
    }
}

const fn host_prefix(address: std::net::IpAddr) -> Prefix {
    Prefix(address, IpFamily::of(address).host_prefix_length())
}

/// A virtual machine, or somebody who has dialled in: a client by the operator's word.
fn a_client_without_ethernet_is_served<F: TestFamily>() -> Result<()> {
    let cluster = Cluster::of(NodeSpec::bridge("anc-node"))?;
    cluster.serve_web(&["web-1"])?;
    let _servers = cluster.servers(&["web-1"])?;
    let client = SocketAddr::new(F::pod(9, 77), 40_000);
    let node = cluster.topology.node("anc-node").host().namespace();
    let tun = Tun::new(node, host_prefix(client.ip()))?;
    for attach in ["--attach=auto", "--attach=clsact"] {
        let agent = cluster.agent("anc-node").argument(attach);
        let mut agent = agent.argument("--include-device=workload=tun64").start()?;
        let target = SocketAddr::new(WEB.of(F::FAMILY), PORT);

        tun.send(&Packet::udp(client, target, b"over a tun device"))?;
        let answer = tun.receive(client.ip())?;
        ensure!(answer.source_socket() == Some(target), "{answer:?}");
        let Content::Udp(datagram) = &answer.content else { bail!("{answer:?}") };
        ensure!(datagram.payload.starts_with(b"web-1 "), "{answer:?}");
        // In fragments, too.
        for fragment in Packet::udp(client, target, &[7; 2_000]).fragments(100)? {
            tun.send(&fragment)?;
        }
        let answer = tun.receive(client.ip())?;
        ensure!(answer.source == target.ip() && answer.fragment.is_some(), "{answer:?}");

        tun.send(&Packet::tcp(client, target, TcpFlags::SYN))?;
        let answered = || loop {
            match tun.receive(client.ip()) {
                // What is left of the fragments.
                Ok(packet) if packet.protocol() != Some(Protocol::Tcp) => {}
                answer => return answer,
            }
        };
        let answer = answered()?;
        let Content::Tcp(segment) = &answer.content else { bail!("{answer:?}") };
        ensure!(segment.flags == TcpFlags::SYN | TcpFlags::ACK, "{answer:?}");
        ensure!(answer.source_socket() == Some(target), "{answer:?}");
        // Or the backend would say it again.
        let end = Packet::tcp(client, target, TcpFlags::RST).numbers(segment.acknowledgment, 0);
        tun.send(&end)?;

        // What is refused goes back as it came.
        let wrong = SocketAddr::new(target.ip(), PORT + 1);
        tun.send(&Packet::tcp(client, wrong, TcpFlags::SYN))?;
        let answer = answered()?;
        let Content::Tcp(segment) = &answer.content else { bail!("{answer:?}") };
        ensure!(segment.flags.contains(TcpFlags::RST), "{answer:?}");
        ensure!(answer.source_socket() == Some(wrong), "{answer:?}");
        tun.send(&Packet::udp(client, wrong, b"?"))?;
        let answer = tun.receive(client.ip())?;
        let Content::Icmp(error) = &answer.content else { bail!("{answer:?}") };
        ensure!(error.is_port_unreachable(F::FAMILY), "{answer:?}");
        ensure!(error.quoted()?.destination == wrong, "{answer:?}");
        ensure!(agent.stop()?.success());
    }
    Ok(())
}

fn a_tunnel_without_ethernet_is_guarded<F: TestFamily>() -> Result<()> {
    let cluster = Cluster::of(NodeSpec::bridge("anc-node"))?;
    cluster.manifests.apply_service_cidr()?;
    let nobody = SocketAddr::new(F::cluster_ip(200), PORT);
    let node = cluster.topology.node("anc-node").host().namespace();
    let tun = Tun::new(node, host_prefix(nobody.ip()))?;
    let client = cluster.topology.pod("client");
    let socket = client.namespace().run(|| {
        let any = SocketAddr::new(F::FAMILY.unspecified(), 0);
        Ok(std::net::UdpSocket::bind(any)?)
    })?;
    let _: usize = socket.send_to(b"before", nobody)?;
    ensure!(tun.receive(nobody.ip())?.source == client.address(F::FAMILY));
    let mut agent = cluster.agent("anc-node").start()?;
    let dropped = || {
        let sent = socket.send_to(b"after", nobody).is_ok();
        sent && agent.log().is_ok_and(|log| log.contains("drop-service-cidr"))
    };
    ensure!(eventually(dropped), "it goes out");
    ensure!(agent.stop()?.success());
    Ok(())
}
