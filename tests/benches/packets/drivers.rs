// SPDX-License-Identifier: Apache-2.0

//! Packets in the driver of an uplink: of clients outside, to backends elsewhere.

use std::net::{IpAddr, SocketAddr};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use nix::net::if_::if_nametoindex;
use proxy_agent::bpf::clock;
use proxy_common::counter::Reason;
use proxy_common::device::{Device, Wire};
use proxy_common::flow::{Flow, FlowKey, Hook, Kind};
use proxy_common::gauge::Recipe;
use proxy_common::ways::Hop;
use proxy_common::{Family, Protocol};
use proxy_tests::packet::{Packet, TcpFlags};

use crate::entries::{confirmed, tuple};
use crate::opened;
use crate::peers::{address, client, client_of, endpoint, last_word, vip};
use crate::scenario::{SENT_BACK, Scenario, packets};
use crate::subject::{LOOPBACK, Subject};

/// `XDP_REDIRECT`.
const SENT_ON: i32 = 4;

/// The kind of flows that drivers handle.
const FOLDED: u8 = Kind::FAST | Kind::OUTSIDE;

/// The frontend of flows that drivers handle.
const FRONTEND: u8 = 12;

/// The device by which everything leaves, a veth, its address, its other end, and the address of the next hop.
pub(crate) const OUT: &str = "out";
pub(crate) const OUT_MAC: [u8; 6] = [2, 0, 0, 0, 1, 0];
pub(crate) const OUT_PEER: &str = "in";
const HOP_MAC: [u8; 6] = [2, 0, 0, 0, 1, 1];

/// Gives this network namespace a way to everybody, by a device that is another one than that of the frames.
pub(crate) fn join_network() -> Result<()> {
    for words in [
        "link set lo up mtu 1500",
        "link add out address 02:00:00:00:01:00 up type veth peer name in",
        "link set in up",
        "-4 address add 192.0.2.1/24 dev out",
        "-6 address add 2001:db8::1/64 dev out nodad",
        "-4 neigh add 192.0.2.2 lladdr 02:00:00:00:01:01 dev out",
        "-6 neigh add 2001:db8::2 lladdr 02:00:00:00:01:01 dev out",
        "-4 route add default via 192.0.2.2",
        "-6 route add default via 2001:db8::2",
    ] {
        let status = Command::new("ip").args(words.split_whitespace()).status()?;
        ensure!(status.success(), "ip {words}");
    }
    for key in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
        std::fs::write(format!("/proc/sys/net/{key}"), "1").context(key)?;
    }
    Ok(())
}

/// Makes both devices uplinks whose drivers have programs, and the next hop one that the stack uses all the time.
pub(crate) fn equip<F: Family>(subject: &mut Subject<F>) -> Result<()> {
    let out = if_nametoindex(OUT)?;
    let (in_wire, out_wire) = (Wire::new(LOOPBACK, 0), Wire::new(out, 0));
    let traits = Device::uplink([0; 6]).with_xdp(in_wire);
    subject.devices.insert(LOOPBACK, traits, 0)?;
    subject.devices.insert(out, Device::uplink(OUT_MAC).with_xdp(out_wire), 0)?;
    let own = SocketAddr::new(node::<F>(), 0);
    subject.host_addresses.insert(out, address::<F>(own), 0)?;
    let hour = proxy_common::clock::seconds(3_600);
    let used = proxy_common::clock::Tick(clock::now().0.wrapping_add(hour));
    let hop = Hop { device: out_wire.number(), used, mac: HOP_MAC, own: OUT_MAC, ..Hop::default() };
    Ok(subject.hops.set(Hop::row(hop.device, &hop.mac), hop, 0)?)
}

/// The node, as backends see it.
fn node<F: Family>() -> IpAddr {
    if F::INDEX == 0 { [192, 0, 2, 1].into() } else { [0x2001, 0xdb8, 0, 0, 0, 0, 0, 1].into() }
}

/// The frontend.
pub(crate) fn frontend<F: Family>() -> SocketAddr {
    vip::<F>(FRONTEND)
}

/// The scenarios with so many flows.
pub(crate) fn scenarios<F: Family>(flows: u32) -> Result<[Scenario; 3]> {
    let data = |from, to| Packet::tcp(from, to, TcpFlags::ACK).payload(b"").numbers(1, 1);
    let request = packets::<F>(&data(client::<F>(0), frontend::<F>()), false, flows, SENT_ON)?;
    let reply = data(endpoint::<F>(0), source::<F>(0));
    let mut reply = packets::<F>(&reply, true, flows, SENT_ON)?;
    reply.recipe.address = last_word(source::<F>(0).ip());
    let new = Packet::tcp(client::<F>(0), frontend::<F>(), TcpFlags::SYN).numbers(1, 0);
    let mut new = packets::<F>(&new, false, flows, SENT_ON)?;
    new.recipe.address = new.recipe.address.wrapping_add(1 << 10);
    new.recipe.clients = u32::MAX;
    let anywhere = |socket: SocketAddr| SocketAddr::new(socket.ip(), 0);
    let scenario = |name, packets, floors, to| Scenario {
        name,
        packets,
        program: proxy_agent::bpf::object::XDP,
        in_driver: true,
        floors,
        frontend: frontend::<F>(),
        counted: Some(Reason::XdpSent),
        to,
        most: u32::MAX,
    };
    let follow: &[_] = &[("stamp_xdp", SENT_BACK), ("follow_xdp", SENT_BACK)];
    Ok([
        scenario("in the driver, request", request, follow, endpoint::<F>(0)),
        scenario("in the driver, reply", reply, follow, anywhere(client::<F>(0))),
        Scenario {
            counted: Some(Reason::FlowCreated),
            most: opened::MOST,
            ..scenario(
                "in the driver, new flow",
                new,
                &[("open_xdp", SENT_BACK)],
                anywhere(endpoint::<F>(0)),
            )
        },
    ])
}

/// A client, as its backend sees it: the node, under many addresses, as one has too few ports for that.
fn source<F: Family>(number: u32) -> SocketAddr {
    let first = last_word(client::<F>(0).ip()).wrapping_add(1 << 12);
    client_of::<F>(&Recipe::new(first), number)
}

/// The entries of so many flows, each with the frontend that it asks and the endpoint that it got.
pub(crate) fn entries<F: Family>(
    flows: u32,
    ends: impl Fn(u32) -> (SocketAddr, SocketAddr),
) -> impl Iterator<Item = (FlowKey<F>, Flow<F>)> {
    let now = clock::now();
    (0..flows).flat_map(move |number| {
        let (frontend, endpoint) = ends(number);
        let own = tuple::<F>(client::<F>(number), frontend);
        let sent = tuple::<F>(source::<F>(number), endpoint);
        let key = |tuple| FlowKey::new(tuple, Protocol::TCP, Hook::INGRESS);
        [
            confirmed(key(own), sent, Kind(FOLDED), now),
            confirmed(key(sent.reversed()), own.reversed(), Kind(FOLDED | Kind::REPLY), now),
        ]
    })
}
