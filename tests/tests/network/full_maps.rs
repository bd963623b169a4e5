// SPDX-License-Identifier: Apache-2.0

//! Tables without a flag of their own that are full: what is there goes on, what is new is told of, and served as
//! soon as there is room.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::devices::plug_in;
use anyhow::{Context as _, Result, ensure};
use aya::maps::lpm_trie::Key;
use aya::maps::{HashMap, LpmTrie, MapData, MapError};
use proxy_agent::bpf::object::{map_directory, pinned};
use proxy_common::device::{Device, MAX_DEVICES};
use proxy_common::frontend::ServiceIndex;
use proxy_common::map_names::{self, family_ending};
use proxy_common::service_cidr::{Guarded, MAX_SERVICE_CIDRS, address_bits};
use proxy_common::source_range::{Admitted, MAX_SOURCE_RANGES, Ranged};
use proxy_common::{Address as _, Family};
use proxy_tests::agent::{Agent, AgentSpec};
use proxy_tests::both_families;
use proxy_tests::cluster::{Cluster, PORT, WEB, eventually, web};
use proxy_tests::family::{DualAddress, IpFamily, TestFamily, V4, V6};
use proxy_tests::protocol::Protocol;
use proxy_tests::topology::NodeSpec;
use proxy_tests::traffic::{Client, CountedStream};
use serde_json::json;

both_families!(
    a_range_without_room_waits_for_it,
    a_service_cidr_without_room_waits_for_it,
    a_device_without_room_waits_for_it,
);

pub(super) const NODE: &str = "anc-node";
/// Addresses of load balancers.
const BALANCER: DualAddress = DualAddress::cluster_ip(201);
const LATE_BALANCER: DualAddress = DualAddress::cluster_ip(202);
const LATE: DualAddress = DualAddress::cluster_ip(77);
/// An interface index, and the row of a Service port, that nobody has.
const NOBODY: u32 = 1 << 24;
const SHORT: Duration = Duration::from_millis(300);
/// Longer than the pause before what has failed for seconds is tried again.
const PATIENCE: Duration = Duration::from_mins(1);

/// A family of the tests with that of the tables.
pub(super) trait Tabled: TestFamily {
    type Abi: Family;
}

impl Tabled for V4 {
    type Abi = proxy_common::V4;
}

impl Tabled for V6 {
    type Abi = proxy_common::V6;
}

pub(super) fn of_family<F: Tabled>(base: &str) -> String {
    format!("{base}{}", family_ending::<F::Abi>())
}

pub(super) fn pins(agent: &Agent<'_>) -> PathBuf {
    map_directory(agent.pin_root())
}

/// Takes all the room there is, and says how many entries that was.
pub(super) fn fill(most: u32, mut insert: impl FnMut(u32) -> Result<(), MapError>) -> Result<u32> {
    let count = (0..=most).find(|number| insert(*number).is_err());
    let count = count.context("there is no end of the room")?;
    ensure!(count > most / 2, "an entry cannot be written: {:?}", insert(count));
    Ok(count)
}

pub(super) fn within(mut condition: impl FnMut() -> bool) -> bool {
    let started = Instant::now();
    std::iter::from_fn(|| (started.elapsed() < PATIENCE).then(&mut condition)).any(|holds| holds)
}

/// Asserts that a line of the log has all of these.
pub(super) fn is_told(agent: &Agent<'_>, words: &[&str]) -> Result<()> {
    let is_told = || {
        agent
            .log()
            .is_ok_and(|log| log.lines().any(|line| words.iter().all(|word| line.contains(word))))
    };
    ensure!(eventually(is_told), "the log does not say {words:?}:\n{}", agent.log()?);
    Ok(())
}

fn asks(client: &Client<'_>, to: SocketAddr) -> bool {
    client.ask(Protocol::Tcp, to).is_ok()
}

fn a_range_without_room_waits_for_it<F: Tabled>() -> Result<()> {
    let cluster = Cluster::of(NodeSpec::bridge(NODE))?;
    let _servers = cluster.servers(&["web-1"])?;
    let pod = cluster.topology.pod("client");
    let own = format!("{}/{}", pod.address(F::FAMILY), F::FAMILY.host_prefix_length());
    let service = |vip, balancer: DualAddress, name| {
        web(vip, name)
            .load_balancer(IpFamily::ALL.map(|family| balancer.of(family)))
            .field("loadBalancerSourceRanges", json!([own]))
            .pods([cluster.topology.pod("web-1")])
    };
    cluster.manifests.apply(&service(WEB, BALANCER, "web"))?;
    let mut agent = cluster.agent(NODE).start()?;
    let at = |address: DualAddress| SocketAddr::new(address.of(F::FAMILY), PORT);
    let client = Client::new(pod).patience(SHORT);
    let mut stream = client.patience(PATIENCE).stay(at(BALANCER))?;
    let name = of_family::<F>(map_names::SOURCE_RANGES);
    let map = pinned(&pins(&agent), &name)?;
    let mut ranges: LpmTrie<MapData, Ranged<F::Abi>, Admitted> = map.try_into()?;
    let key = |number| {
        let client = <F::Abi as Family>::Addr::UNSPECIFIED;
        Key::new(
            Ranged::<F::Abi>::bits(0),
            Ranged { service: ServiceIndex(NOBODY + number), client },
        )
    };
    let count = fill(MAX_SOURCE_RANGES, |number| ranges.insert(&key(number), Admitted::YES, 0))?;
    cluster.manifests.apply(&service(LATE, LATE_BALANCER, "late"))?;
    is_told(&agent, &["late", F::FAMILY.name(), "admit a source range", &name, "is full"])?;
    ensure!(!asks(&client, at(LATE_BALANCER)), "it is served without its ranges");
    goes_on(&client, &mut stream, at(BALANCER))?;
    for number in 0..count {
        ranges.remove(&key(number))?;
    }
    ensure!(within(|| asks(&client, at(LATE_BALANCER))), "it is not served");
    goes_on(&client, &mut stream, at(BALANCER))?;
    ensure!(agent.stop()?.success());
    Ok(())
}

/// Asserts that who is there is served, and others are as well.
fn goes_on(client: &Client<'_>, stream: &mut CountedStream, at: SocketAddr) -> Result<()> {
    let _ = stream.exchange()?;
    let _ = client.patience(PATIENCE).ask(Protocol::Tcp, at)?;
    Ok(())
}

/// The addresses of no Service.
pub(super) fn filler<F: Tabled>(number: u32) -> <F::Abi as Family>::Addr {
    let ip = match F::FAMILY {
        IpFamily::V4 => IpAddr::V4(Ipv4Addr::from_bits(0xc612_0000 + number)),
        IpFamily::V6 => IpAddr::V6(Ipv6Addr::from_bits((0x2001_0db8 << 96) + u128::from(number))),
    };
    <F::Abi as Family>::Addr::from_ip(ip).expect("an address of the family")
}

/// A node with an agent, and a connection to a Service that is to go on.
pub(super) struct Scene<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) agent: &'a Agent<'a>,
    client: Client<'a>,
    stream: CountedStream,
    target: SocketAddr,
}

impl Scene<'_> {
    /// Does something there.
    fn run<F: Tabled>(work: impl FnOnce(&mut Scene<'_>) -> Result<()>) -> Result<()> {
        Self::with::<F>(&[], work)
    }

    /// The same with these arguments for the agent.
    pub(super) fn with<F: Tabled>(
        arguments: &[&str],
        work: impl FnOnce(&mut Scene<'_>) -> Result<()>,
    ) -> Result<()> {
        let cluster = Cluster::of(NodeSpec::bridge(NODE))?;
        cluster.serve_web(&["web-1"])?;
        let _servers = cluster.servers(&["web-1"])?;
        let mut agent = arguments.iter().fold(cluster.agent(NODE), AgentSpec::argument).start()?;
        let client = Client::new(cluster.topology.pod("client"));
        let target = SocketAddr::new(WEB.of(F::FAMILY), PORT);
        let stream = client.stay(target)?;
        work(&mut Scene { cluster: &cluster, agent: &agent, client, stream, target })?;
        ensure!(agent.stop()?.success());
        Ok(())
    }

    pub(super) fn goes_on(&mut self) -> Result<()> {
        goes_on(&self.client, &mut self.stream, self.target)
    }
}

fn a_service_cidr_without_room_waits_for_it<F: Tabled>() -> Result<()> {
    Scene::run::<F>(|scene| {
        let name = of_family::<F>(map_names::SERVICE_CIDRS);
        let map = pinned(&pins(scene.agent), &name)?;
        let mut cidrs: LpmTrie<MapData, <F::Abi as Family>::Addr, Guarded> = map.try_into()?;
        let key = |number| Key::new(address_bits::<F::Abi>(), filler::<F>(number));
        let count = fill(MAX_SERVICE_CIDRS, |number| cidrs.insert(&key(number), Guarded::YES, 0))?;
        scene.cluster.manifests.apply_service_cidr()?;
        is_told(scene.agent, &["guard a Service CIDR", F::FAMILY.name(), &name, "is full"])?;
        scene.goes_on()?;
        for number in 0..count {
            cidrs.remove(&key(number))?;
        }
        ensure!(within(|| cidrs.keys().count() == 1), "it is not guarded");
        scene.goes_on()?;
        Ok(())
    })
}

fn a_device_without_room_waits_for_it<F: Tabled>() -> Result<()> {
    Scene::run::<F>(|scene| {
        let target = scene.target;
        let host_addresses = of_family::<F>(map_names::HOST_ADDRESSES);
        let mut devices: HashMap<MapData, u32, Device> =
            pinned(&pins(scene.agent), map_names::DEVICES)?.try_into()?;
        let mut addresses: HashMap<MapData, u32, <F::Abi as Family>::Addr> =
            pinned(&pins(scene.agent), &host_addresses)?.try_into()?;
        // Who goes would make room.
        let mut stay = Vec::new();
        for (number, table) in [(40, map_names::DEVICES), (41, &host_addresses)] {
            let is_devices = table == map_names::DEVICES;
            let count = fill(MAX_DEVICES, |number| {
                if is_devices {
                    devices.insert(NOBODY + number, Device::routed(), 0)
                } else {
                    addresses.insert(NOBODY + number, filler::<F>(number), 0)
                }
            })?;
            let late = plug_in::<F>(scene.cluster, number)?;
            let reaches =
                || late.run(|| Ok(std::net::TcpStream::connect_timeout(&target, SHORT)?)).is_ok();
            let device = format!("late-{number}");
            is_told(scene.agent, &["cannot serve the device", &device, table, "is full"])?;
            ensure!(!reaches(), "{device} has programs");
            scene.goes_on()?;
            for number in 0..count {
                if is_devices {
                    devices.remove(&(NOBODY + number))?;
                } else {
                    addresses.remove(&(NOBODY + number))?;
                }
            }
            ensure!(within(reaches), "{device} is not served");
            scene.goes_on()?;
            stay.push(late);
        }
        Ok(())
    })
}
