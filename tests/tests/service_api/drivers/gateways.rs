// SPDX-License-Identifier: Apache-2.0

//! Routes over two gateways (ECMP) to the backends: the other node itself, and a router that leads there, too.

use std::fs;
use std::net::IpAddr;
use std::ops::Range;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use proxy_common::counter::Reason;
use proxy_tests::agent::Agent;
use proxy_tests::both_families;
use proxy_tests::cluster::{PATIENCE, eventually};
use proxy_tests::family::{DualAddress, IpFamily, TestFamily};
use proxy_tests::netns::{Card, Prefix};
use proxy_tests::topology::{DEVICE, Host, subnet_length};
use proxy_tests::traffic::{Client, CountedStream, DatagramSocket};

use super::changes::{is_much, under_load};
use super::{count, with_cards};
use crate::rig::{Frontend, OTHER_NODE, REMOTE, Rig};
use crate::uplinks::{nodes, pods_behind_the_router};

both_families!(
    clients_spread_over_two_gateways,
    flows_spread_over_two_gateways,
    a_gateway_goes_and_comes_back,
);

/// The client's addresses, by host number, or as many flows: all would have one gateway once in 2^31 times.
const CLIENTS: Range<u8> = 110..142;
/// How often each of them asks.
const ROUNDS: u64 = 20;
/// How often each gateway goes and comes back, and how long is asked between.
const CHANGES: usize = 3;
const BETWEEN: Duration = Duration::from_millis(200);

/// A node whose way to the backends is over both gateways, the network of these, and the route.
fn with_gateways(family: IpFamily) -> Result<(Rig, Vec<Card>, Prefix)> {
    let (rig, cards) = with_cards(nodes())?;
    let pods = pods_behind_the_router(&rig, family)?;
    // It would tell the node of the shorter way.
    let router = rig.cluster.topology.outsider("router").namespace();
    let device = format!("ipv4/conf/{DEVICE}/send_redirects");
    router.sysctl([("ipv4/conf/all/send_redirects", "0"), (device.as_str(), "0")])?;
    route_over(&rig, pods, &gateways(&rig))?;
    rig.cluster.manifests.apply(&rig.service(&[REMOTE]))?;
    Ok((rig, cards, pods))
}

/// The other node, and the router.
fn gateways(rig: &Rig) -> [&Host; 2] {
    let topology = &rig.cluster.topology;
    [topology.node(OTHER_NODE).host(), topology.outsider("router")]
}

/// Has the node send what is for this network over these.
fn route_over(rig: &Rig, network: Prefix, gateways: &[&Host]) -> Result<()> {
    let family = IpFamily::of(network.0);
    let option = if family == IpFamily::V4 { "-4" } else { "-6" };
    let hops = gateways
        .iter()
        .map(|gateway| format!(" nexthop via {} dev {DEVICE}", gateway.address(family)));
    let hops: String = hops.collect();
    rig.node().namespace().ip(&format!("{option} route replace {network}{hops}"))
}

/// How many packets the router has forwarded.
fn forwarded<F: TestFamily>(rig: &Rig) -> Result<u64> {
    let router = rig.cluster.topology.outsider("router").namespace();
    router.run(|| {
        let sum = match F::FAMILY {
            IpFamily::V4 => {
                let text = fs::read_to_string("/proc/thread-self/net/snmp")?;
                let mut rows = text.lines().filter_map(|line| line.strip_prefix("Ip: "));
                let (names, values) = rows.next().zip(rows.next()).context("two lines of IP")?;
                let mut columns = names.split(' ').zip(values.split(' '));
                columns
                    .find(|(name, _)| *name == "ForwDatagrams")
                    .map(|(_, value)| value.to_owned())
            }
            IpFamily::V6 => {
                let text = fs::read_to_string("/proc/thread-self/net/snmp6")?;
                let mut rows = text.lines().filter_map(|line| line.split_once(char::is_whitespace));
                let row = rows.find(|(name, _)| *name == "Ip6OutForwDatagrams");
                row.map(|(_, value)| value.trim().to_owned())
            }
        };
        Ok(sum.context("no counter of forwarded packets")?.parse()?)
    })
}

/// A connection and a socket of one of the client's addresses.
struct Flows {
    connection: CountedStream,
    socket: DatagramSocket,
}

impl Flows {
    fn open(from: &Host, address: IpAddr, family: IpFamily) -> Result<Self> {
        let target = Frontend::LoadBalancer.target(family);
        let client = Client::new(from).source(address);
        Ok(Self { connection: client.stay(target)?, socket: client.datagrams(target)? })
    }

    /// By which gateway each of the two goes, as far as that is clear.
    fn gateways<F: TestFamily>(
        &mut self,
        rig: &Rig,
        agent: &Agent<'_>,
    ) -> Result<[Option<bool>; 2]> {
        let Self { connection, socket } = self;
        let exchange = || connection.exchange().map(drop).context("on a connection");
        let ask = || socket.ask().map(drop).context("by datagrams");
        Ok([goes_by_router::<F>(rig, agent, exchange)?, goes_by_router::<F>(rig, agent, ask)?])
    }
}

/// Whether the packets of a flow go by the router, from the driver; all of them must, or none.
fn goes_by_router<F: TestFamily>(
    rig: &Rig,
    agent: &Agent<'_>,
    mut ask: impl FnMut() -> Result<()>,
) -> Result<Option<bool>> {
    let (before, sent) = (forwarded::<F>(rig)?, count::<F>(agent, Reason::XdpSent)?);
    for _ in 0..ROUNDS {
        ask()?;
    }
    if count::<F>(agent, Reason::XdpSent)? - sent < 3 * ROUNDS / 2 {
        return Ok(None);
    }
    Ok(match forwarded::<F>(rig)? - before {
        // Acknowledgements of the client before may come late.
        few if few < ROUNDS / 2 => Some(false),
        all if all >= ROUNDS => Some(true),
        _ => None,
    })
}

/// Each flow has one of the gateways, until that is taken away.
fn keep_their_gateways<F: TestFamily>(
    rig: &Rig,
    agent: &Agent<'_>,
    pods: Prefix,
    clients: &mut [Flows],
) -> Result<()> {
    let mut by_router = 0;
    for (number, flows) in (0..).zip(&mut *clients) {
        for goes in flows.gateways::<F>(rig, agent)? {
            by_router += usize::from(goes.with_context(|| format!("flow {number} has both"))?);
        }
    }
    let all = 2 * clients.len();
    ensure!((1..all).contains(&by_router), "{by_router} of {all} flows go by the router");
    for (left, is_router) in gateways(rig).iter().zip([false, true]) {
        route_over(rig, pods, &[left])?;
        for (number, flows) in (0..).zip(&mut *clients) {
            let start = Instant::now();
            while flows.gateways::<F>(rig, agent)? != [Some(is_router); 2] {
                let name = left.name();
                ensure!(start.elapsed() < PATIENCE, "flow {number} does not go by {name}");
            }
        }
    }
    Ok(())
}

/// The kernel chooses by addresses.
fn clients_spread_over_two_gateways<F: TestFamily>() -> Result<()> {
    let (rig, _cards, pods) = with_gateways(F::FAMILY)?;
    let mut agent = rig.agent().argument("--xdp").argument(format!("native={DEVICE}")).start()?;
    let netlink = rig.outsider().namespace().netlink()?;
    let mut clients = Vec::new();
    for number in CLIENTS {
        let address = DualAddress::underlay(number).of(F::FAMILY);
        let own = Prefix(address, subnet_length(F::FAMILY));
        netlink.add_address(netlink.link(DEVICE)?, own)?;
        clients.push(Flows::open(rig.outsider(), address, F::FAMILY)?);
    }
    keep_their_gateways::<F>(&rig, &agent, pods, &mut clients)?;
    ensure!(agent.stop()?.success());
    Ok(())
}

/// Where it is told to, the kernel chooses by ports, too (`fib_multipath_hash_policy`).
fn flows_spread_over_two_gateways<F: TestFamily>() -> Result<()> {
    let (rig, _cards, pods) = with_gateways(F::FAMILY)?;
    let protocol = if F::FAMILY == IpFamily::V4 { "ipv4" } else { "ipv6" };
    let policy = format!("{protocol}/fib_multipath_hash_policy");
    rig.node().namespace().sysctl([(policy.as_str(), "1")])?;
    let mut agent = rig.agent().argument("--xdp").argument(format!("native={DEVICE}")).start()?;
    let from = rig.outsider();
    let open = |_| Flows::open(from, from.address(F::FAMILY), F::FAMILY);
    let mut flows = CLIENTS.map(open).collect::<Result<Vec<_>>>()?;
    let mut of_connections = Vec::new();
    for flows in &mut flows {
        let [connection, _] = flows.gateways::<F>(&rig, &agent)?;
        of_connections.push(connection.context("a connection goes by both")?);
    }
    ensure!([false, true].iter().all(|way| of_connections.contains(way)), "{of_connections:?}");
    keep_their_gateways::<F>(&rig, &agent, pods, &mut flows)?;
    ensure!(agent.stop()?.success());
    Ok(())
}

/// One of them at a time, in turns. The other one has all that it had.
fn a_gateway_goes_and_comes_back<F: TestFamily>() -> Result<()> {
    let (rig, _cards, pods) = with_gateways(F::FAMILY)?;
    let mut agent = rig.agent().argument("--xdp").argument(format!("native={DEVICE}")).start()?;
    let target = Frontend::LoadBalancer.target(F::FAMILY);
    let both = gateways(&rig);
    let some_go_by_router = || {
        let before = forwarded::<F>(&rig).unwrap_or_default();
        thread::sleep(Duration::from_millis(50));
        forwarded::<F>(&rig).is_ok_and(|now| now > before)
    };
    let answered = under_load(rig.outsider(), target, || {
        for _ in 0..CHANGES {
            thread::sleep(BETWEEN);
            route_over(&rig, pods, &both[1..])?;
            ensure!(eventually(some_go_by_router), "nothing goes by the router");
            thread::sleep(BETWEEN);
            route_over(&rig, pods, &both)?;
            thread::sleep(BETWEEN);
            route_over(&rig, pods, &both[..1])?;
            ensure!(eventually(|| !some_go_by_router()), "something goes by the router");
            route_over(&rig, pods, &both)?;
        }
        Ok(())
    })?;
    is_much::<F>(&answered, &agent)?;
    ensure!(agent.stop()?.success());
    Ok(())
}
