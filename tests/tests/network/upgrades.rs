// SPDX-License-Identifier: Apache-2.0

//! From one version of the tables to another and back, where something is otherwise than usual.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use aya::maps::{Array, MapData, MapInfo};
use proxy_agent::bpf::Version;
use proxy_agent::bpf::object::pinned;
use proxy_common::layout::DESCRIPTION;
use proxy_common::map_names;
use proxy_tests::agent::{Agent, AgentSpec, other_abi};
use proxy_tests::both_families;
use proxy_tests::cluster::{Cluster, PORT, WEB};
use proxy_tests::family::TestFamily;
use proxy_tests::protocol::Protocol;
use proxy_tests::topology::{Families, Host, NodeSpec, TopologySpec};
use proxy_tests::traffic::{Client, CountedStream, DatagramSocket};

use super::api::Fixture;
use super::inherited::{cluster, ids};
use super::lifecycle::filters;

both_families!(
    without_sockets_and_on_a_node_of_one_family,
    the_other_version_serves_a_device_that_this_one_cannot,
    the_other_version_serves_on_until_objects_are_read,
    sockets_of_another_layout_are_named_their_endpoints,
);

/// How long a version may be held up: it is looked every ten seconds.
const HELD_UP: Duration = Duration::from_secs(20);
/// After how long a start without objects would have taken over tables of its own version.
const LONG: Duration = Duration::from_secs(10);

/// Tables that are read in no time.
fn small(spec: AgentSpec<'_>) -> AgentSpec<'_> {
    spec.argument("--max-flows=8192")
        .argument("--max-services=1024")
        .argument("--max-endpoints=1024")
}

/// A client with a connection and a UDP socket that stay.
struct Staying<'a> {
    client: Client<'a>,
    target: SocketAddr,
    stream: CountedStream,
    socket: DatagramSocket,
    server: String,
}

impl<'a> Staying<'a> {
    fn new<F: TestFamily>(host: &'a Host) -> Result<Self> {
        let (client, target) = (Client::new(host), SocketAddr::new(WEB.of(F::FAMILY), PORT));
        let mut socket = client.datagrams(target)?;
        let server = socket.ask()?.server;
        Ok(Self { client, target, stream: client.stay(target)?, socket, server })
    }

    /// Both go on where they were, and new ones are served.
    fn goes_on(&mut self) -> Result<()> {
        let _ = self.stream.exchange().context("a connection that stays")?;
        let answer = self.socket.ask().context("a socket that stays")?;
        ensure!(answer.server == self.server, "it was {}'s: {answer:?}", self.server);
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let _ = self.client.ask(protocol, self.target).context("what is new")?;
        }
        Ok(())
    }
}

fn versions(agent: &Agent<'_>) -> Result<usize> {
    Ok(Version::all(agent.pin_root())?.len())
}

/// Waits until there is one version.
fn ends(agent: &Agent<'_>) -> Result<()> {
    let begun = Instant::now();
    while versions(agent)? != 1 {
        ensure!(begun.elapsed() < HELD_UP, "two versions are there: {}", agent.log()?);
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

fn without_sockets_and_on_a_node_of_one_family<F: TestFamily>() -> Result<()> {
    for (families, sockets) in
        [(Families::Dual, "--socket-lb=off"), (Families::Single(F::FAMILY), "--socket-lb=host")]
    {
        let node = NodeSpec::bridge("anc-node").pod("client", 11).pod("web-1", 12).pod("web-2", 13);
        let cluster = Cluster::new(&TopologySpec::new().families(families).node(node))?;
        cluster.serve_web(&["web-1", "web-2"])?;
        let _servers = cluster.servers(&["web-1", "web-2"])?;
        let mut agent = small(cluster.agent("anc-node")).argument(sockets).start()?;
        let mut clients = vec![Staying::new::<F>(cluster.topology.pod("client"))?];
        if sockets.ends_with("host") {
            clients.push(Staying::new::<F>(cluster.topology.node("anc-node").host())?);
        }
        for is_other in [true, false] {
            let case = format!("{families:?}, {sockets}, to the other version: {is_other}");
            ensure!(agent.leave()?.success());
            agent.change_abi(is_other)?;
            agent.start()?;
            ensure!(versions(&agent)? == 1, "{case}: {}", agent.log()?);
            clients.iter_mut().try_for_each(Staying::goes_on).context(case)?;
        }
        ensure!(agent.stop()?.success());
    }
    Ok(())
}

/// Somebody else's filter has the priority that comes after the other version's. One of three such devices is mended, one
/// goes, and one waits until the other version's program is no more in the way.
fn the_other_version_serves_a_device_that_this_one_cannot<F: TestFamily>() -> Result<()> {
    let cluster = cluster()?;
    let _servers = cluster.servers(&["web-1"])?;
    let node = cluster.topology.node("anc-node").host();
    let of = |device: &str| format!("dev {device} ingress prio 2");
    let tc = |line: String| node.namespace().output("tc", "-batch -", &(line + "\n")).map(drop);
    let spec = small(cluster.agent("anc-node")).argument("--attach=clsact");
    let mut agent = spec.binary(other_abi()?).start()?;
    let mut clients = Vec::new();
    for host in [cluster.topology.pod("client"), cluster.topology.pod("web-2"), node] {
        clients.push(Staying::new::<F>(host)?);
    }
    ensure!(agent.leave()?.success());
    for device in ["veth-client", "veth-web-2", "veth-web-3"] {
        let never = r#"protocol arp bpf bytecode "1,6 0 0 0""#;
        tc(format!("filter add {} {never}", of(device)))?;
    }
    agent.change_abi(false)?;
    agent.start()?;
    let log = agent.log()?;
    ensure!(log.contains("\"failed_devices\":3"), "{log}");
    ensure!(versions(&agent)? == 2, "it has not waited: {log}");
    clients.iter_mut().try_for_each(Staying::goes_on).context("while it waits")?;
    tc(format!("filter del {}", of("veth-web-2")))?;
    node.namespace().ip("link delete veth-web-3")?;
    clients.iter_mut().try_for_each(Staying::goes_on).context("while it waits for one")?;
    ends(&agent)?;
    clients.iter_mut().try_for_each(Staying::goes_on).context("once it has ended")?;
    ensure!(agent.stop()?.success());
    ensure!(!filters(&cluster)?.contains("sixfour"), "{}", filters(&cluster)?);
    Ok(())
}

/// Links are looked at by `kept_rows`, too.
fn the_other_version_serves_on_until_objects_are_read<F: TestFamily>() -> Result<()> {
    let fixture = Fixture::new::<F>(false)?;
    let topology = &fixture.cluster.topology;
    let _servers = fixture.cluster.servers(&["web-1"])?;
    fixture.serve(WEB, "web", "web-1")?;
    let kubeconfig = fixture.scratch.path().join("kubeconfig");
    let node = topology.node("anc-node").host();
    let spec = small(AgentSpec::following(node, &kubeconfig)).argument("--attach=clsact");
    let mut agent = spec.binary(other_abi()?).start()?;
    let mut clients = Vec::new();
    for host in [topology.pod("client"), node] {
        clients.push(Staying::new::<F>(host)?);
    }
    ensure!(agent.leave()?.success());
    let attached =
        |agent: &Agent<'_>| -> Result<_> { Ok((ids(agent)?, filters(&fixture.cluster)?)) };
    let before = attached(&agent)?;
    fixture.server.down();
    agent.change_abi(false)?;
    agent.begin()?;
    thread::sleep(LONG);
    let after = attached(&agent)?;
    ensure!(after == before, "{before:?} {after:?}");
    ensure!(versions(&agent)? == 2, "{}", agent.log()?);
    clients.iter_mut().try_for_each(Staying::goes_on).context("without objects")?;
    fixture.server.up()?;
    agent.wait_until_ready()?;
    ends(&agent)?;
    ensure!(attached(&agent)? != before, "the programs are the same");
    clients.iter_mut().try_for_each(Staying::goes_on).context("with objects")?;
    ensure!(agent.stop()?.success());
    Ok(())
}

/// Where the tables are that are there.
fn maps(agent: &Agent<'_>) -> Result<PathBuf> {
    let mut versions = fs::read_dir(agent.pin_root())?;
    let version = versions.next().context("there is one")??;
    ensure!(versions.next().is_none(), "there are two");
    Ok(version.path().join("maps"))
}

/// Which map holds what sockets were given.
fn storage(agent: &Agent<'_>) -> Result<u32> {
    Ok(MapInfo::from_pin(maps(agent)?.join(map_names::CONNECTED))?.id())
}

/// Has what an agent has left say that sockets' storage has a field of another name.
fn rename_a_field(agent: &Agent<'_>) -> Result<()> {
    let map = pinned(&maps(agent)?, map_names::LAYOUTS)?;
    let mut described: Array<MapData, [u8; DESCRIPTION]> = map.try_into()?;
    let text = String::from_utf8(described.get(&0, 0)?.to_vec())?;
    let own = format!("{} value asked ", map_names::CONNECTED);
    ensure!(text.contains(&own), "{text}");
    let other = text.replace(&own, &format!("{} value named ", map_names::CONNECTED));
    let other = <[u8; DESCRIPTION]>::try_from(other.into_bytes());
    described.set(0, other.ok().context("it is as long")?, 0)?;
    Ok(())
}

/// The first time both layouts are the same, the second time they are not.
fn sockets_of_another_layout_are_named_their_endpoints<F: TestFamily>() -> Result<()> {
    let cluster = cluster()?;
    let _servers = cluster.servers(&["web-1"])?;
    let node = cluster.topology.node("anc-node").host();
    let mut agent = small(cluster.agent("anc-node")).start()?;
    let mut staying = Staying::new::<F>(node)?;
    let frontend = staying.target;
    let is_named = |staying: &Staying<'_>| -> Result<[bool; 2]> {
        let peers = [staying.socket.peer()?, staying.stream.peer()?];
        Ok(peers.map(|peer| peer == frontend))
    };
    for is_another in [false, true] {
        ensure!(is_named(&staying)? == [true; 2]);
        let before = storage(&agent)?;
        ensure!(agent.leave()?.success());
        if is_another {
            rename_a_field(&agent)?;
        }
        agent.change_abi(!is_another)?;
        agent.start()?;
        ensure!((storage(&agent)? != before) == is_another, "another layout: {is_another}");
        staying.goes_on().with_context(|| format!("another layout: {is_another}"))?;
        ensure!(is_named(&staying)? == [!is_another; 2], "another layout: {is_another}");
        // What comes now has its place in the storage that is there now.
        let mut new = Staying::new::<F>(node)?;
        ensure!(is_named(&new)? == [true; 2], "another layout: {is_another}");
        new.goes_on()?;
    }
    ensure!(agent.stop()?.success());
    Ok(())
}
