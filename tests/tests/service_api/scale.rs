// SPDX-License-Identifier: Apache-2.0

//! A Service of a thousand endpoints.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener};
use std::ops::Range;
use std::thread::{self, JoinHandle};

use anyhow::{Context as _, Result, ensure};
use proxy_tests::both_families;
use proxy_tests::cluster::{Cluster, TARGET, eventually, web};
use proxy_tests::family::{IpFamily, TestFamily};
use proxy_tests::manifests::Endpoint;
use proxy_tests::netns::Prefix;
use proxy_tests::topology::{Host, NodeSpec, TopologySpec, pod_device};
use proxy_tests::traffic::Client;
use socket2::SockRef;

use super::rig::{Frontend, NODE};

both_families!(a_thousand_endpoints_in_many_slices);

/// As many as a slice of the API has by default.
const PER_SLICE: usize = 100;
const ENDPOINTS: Range<u16> = 0..1_000;

/// The address of an endpoint: all of them are one pod's.
fn address(family: IpFamily, endpoint: u16) -> IpAddr {
    match family {
        IpFamily::V4 => IpAddr::V4(Ipv4Addr::from_bits(
            Ipv4Addr::new(10, 250, 0, 0).to_bits() + u32::from(endpoint),
        )),
        IpFamily::V6 => IpAddr::V6(Ipv6Addr::new(0xfd00, 0x250, 0, 0, 0, 0, 0, endpoint)),
    }
}

/// Says at which address it was asked.
struct Server {
    listener: TcpListener,
    accepting: Option<JoinHandle<()>>,
}

impl Server {
    fn start(host: &Host, family: IpFamily) -> Result<Self> {
        let any = SocketAddr::new(family.unspecified(), TARGET);
        let listener = host.namespace().run(|| Ok(TcpListener::bind(any)?))?;
        let accepted = listener.try_clone()?;
        let accepting = thread::spawn(move || {
            while let Ok((mut stream, _)) = accepted.accept() {
                // The client may have left.
                let _: Option<()> = stream
                    .local_addr()
                    .and_then(|local| stream.write_all(local.ip().to_string().as_bytes()))
                    .ok();
            }
        });
        Ok(Self { listener, accepting: Some(accepting) })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Then it accepts nobody any more, and ends.
        let _: std::io::Result<()> = SockRef::from(&self.listener).shutdown(Shutdown::Both);
        let _: Option<thread::Result<()>> = self.accepting.take().map(JoinHandle::join);
    }
}

/// Which endpoints answer so many connections.
fn who_answers(client: &Client<'_>, target: SocketAddr, count: usize) -> Result<BTreeSet<IpAddr>> {
    let asked = (0..count).map(|_| {
        let mut answer = String::new();
        let _: usize = client.connect(target)?.read_to_string(&mut answer)?;
        Ok(answer.parse()?)
    });
    asked.collect()
}

fn a_thousand_endpoints_in_many_slices<F: TestFamily>() -> Result<()> {
    let node = NodeSpec::routed(NODE).pod("client", 11).pod("web", 12);
    let cluster = Cluster::new(&TopologySpec::new().node(node))?;
    let (node, pod) = (cluster.topology.node(NODE).host(), cluster.topology.pod("web"));
    for family in IpFamily::ALL {
        let all = Prefix(address(family, 0), if family == IpFamily::V4 { 22 } else { 112 });
        let netlink = node.namespace().netlink()?;
        netlink.add_route(all, Some(pod.address(family)), netlink.link(&pod_device("web"))?)?;
        // Each address of these is its own.
        pod.namespace().ip(&format!("route add local {all} dev lo"))?;
    }
    let _server = Server::start(pod, F::FAMILY)?;
    let serve = |endpoints: Range<u16>| {
        let endpoints = endpoints
            .map(|endpoint| Endpoint::at(IpFamily::ALL.map(|family| address(family, endpoint))));
        let service = web(proxy_tests::cluster::WEB, "web").endpoints(endpoints);
        cluster.manifests.apply(&service.slices_of(PER_SLICE))
    };
    serve(ENDPOINTS)?;
    let mut agent = cluster.agent(NODE).start()?;
    let listed = agent.list("frontends")?;
    let client = Client::new(cluster.topology.pod("client"));
    let target = Frontend::ClusterIp.target(F::FAMILY);
    // Of a thousand that are equally likely, a third of one is missed by so many on average.
    let answering = who_answers(&client, target, 8_000)?;
    ensure!(answering.len() > 990, "{} of them answer: {listed}", answering.len());
    // A slice goes, and no endpoint of it is asked any more.
    let fewer = ENDPOINTS.start..ENDPOINTS.end - u16::try_from(PER_SLICE)?;
    serve(fewer.clone())?;
    let left: BTreeSet<_> = fewer.map(|endpoint| address(F::FAMILY, endpoint)).collect();
    let is_over = || who_answers(&client, target, 300).is_ok_and(|seen| seen.is_subset(&left));
    ensure!(eventually(is_over), "endpoints that have gone are asked");
    let answering = who_answers(&client, target, 4_000)?;
    ensure!(answering.is_subset(&left), "endpoints that have gone are asked");
    ensure!(answering.len() > 850, "{} of 900 answer", answering.len());
    // And comes back.
    serve(ENDPOINTS)?;
    let is_back = || who_answers(&client, target, 300).is_ok_and(|seen| !seen.is_subset(&left));
    ensure!(eventually(is_back), "endpoints that are back are not asked");
    ensure!(agent.stop().context("the agent")?.success());
    Ok(())
}
