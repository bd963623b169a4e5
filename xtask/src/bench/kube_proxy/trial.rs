// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask bench kube-proxy`: loads the rules into namespaces of its own and checks what they do
//! to the connections of pods.

use std::{io, net::SocketAddr, time::Instant};

use anyhow::{Context as _, Result, bail, ensure};
use comfy_table::{Table, presets::UTF8_FULL_CONDENSED};
use proxy_tests::{
    family::{DualAddress, IpFamily},
    protocol::Protocol,
    topology::{NodeSpec, Topology, TopologySpec},
    traffic::{Client, TcpServer},
};

use super::{Endpoint, Mode, Node, Rules, ServicePort, TOOLS, check_translated, many};
use crate::{process::is_root, report, test::prerequisites};

/// The names in the topology.
const NODE: &str = "node";
const CLIENT: &str = "client";
const SERVER: &str = "server";

/// The port of Services, and that of the server.
const PORT: u16 = 80;
const TARGET: u16 = 8080;

/// Which rules to try.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How many Services, with ten endpoints each
    #[arg(long, value_delimiter = ',', default_values_t = [10, 1000])]
    services: Vec<u32>,
    /// In this mode only
    #[arg(long, value_enum)]
    mode: Option<Mode>,
}

/// Tries each mode at each size and prints a table.
///
/// # Errors
///
/// If rules cannot be loaded, or do not do what they should.
pub(crate) fn run(args: &Args) -> Result<()> {
    if !is_root() {
        bail!("this makes network namespaces: run it as root");
    }
    prerequisites::ensure_tools(&TOOLS)?;
    let mut table = Table::new();
    let head = ["rules", "Services", "family", "text, kB", "made in, s", "loaded in, s"];
    let _ = table.load_preset(UTF8_FULL_CONDENSED).set_header(head);
    for mode in Mode::ALL.into_iter().filter(|mode| args.mode.is_none_or(|only| only == *mode)) {
        for services in &args.services {
            report::step(format_args!("{mode} rules for {services} Services"));
            for row in try_one(mode, *services)? {
                let _ = table.add_row(row);
            }
        }
    }
    println!("{table}");
    Ok(())
}

/// Has a node with rules of both families do what it should, and returns how long they took.
fn try_one(mode: Mode, services: u32) -> Result<Vec<[String; 6]>> {
    let node = NodeSpec::routed(NODE).pod(CLIENT, 11).pod(SERVER, 12);
    let topology = TopologySpec::new().node(node).build()?;
    let _server = TcpServer::start(topology.pod(SERVER), TARGET)?;
    IpFamily::ALL
        .into_iter()
        .map(|family| {
            let ports = many(family, services).chain(own(&topology, family));
            let node = topology.node(NODE).host();
            let rules = Rules { mode, node: Node::at(node.address(family)), ports };
            let start = Instant::now();
            rules.write(&mut io::sink())?;
            let written = start.elapsed();
            let loaded = rules.load_into(node.namespace())?;
            check(&topology, family)
                .with_context(|| format!("{mode} rules for {services} Services, {family}"))?;
            Ok([
                mode.to_string(),
                services.to_string(),
                family.to_string(),
                (loaded.bytes / 1000).to_string(),
                format!("{:.2}", written.as_secs_f64()),
                format!("{:.2}", loaded.time.as_secs_f64()),
            ])
        })
        .collect()
}

/// A Service that the server serves, and one that nobody serves: the last of all, which iptables
/// finds latest.
fn own(topology: &Topology, family: IpFamily) -> [ServicePort; 2] {
    let address = SocketAddr::new(topology.pod(SERVER).address(family), TARGET);
    let served = ServicePort {
        namespace: "trial".to_owned(),
        service: "served".to_owned(),
        name: "tcp".to_owned(),
        protocol: Protocol::Tcp,
        frontend: SocketAddr::new(DualAddress::cluster_ip(10).of(family), PORT),
        endpoints: vec![Endpoint { address, is_local: true }],
    };
    let unserved = ServicePort {
        service: "unserved".to_owned(),
        frontend: SocketAddr::new(DualAddress::cluster_ip(11).of(family), PORT),
        endpoints: Vec::new(),
        ..served.clone()
    };
    [served, unserved]
}

/// Has pods connect, and looks at what became of it.
fn check(topology: &Topology, family: IpFamily) -> Result<()> {
    let [served, unserved] = own(topology, family);
    let (client, node) = (topology.pod(CLIENT), topology.node(NODE).host().namespace());
    let answer = Client::new(client).ask(Protocol::Tcp, served.frontend)?;
    ensure!(answer.server == SERVER, "{} has answered", answer.server);
    check_translated(node, &served)?;
    ensure!(answer.source.ip() == client.address(family), "it has seen {}", answer.source);

    // A pod that is its own client is masqueraded, or it would answer to itself.
    let pod = topology.pod(SERVER);
    let itself = Client::new(pod).ask(Protocol::Tcp, served.frontend)?;
    ensure!(itself.source.ip() != pod.address(family), "it has seen itself");

    let refused = Client::new(client).ask(Protocol::Tcp, unserved.frontend);
    let Err(refused) = refused else { bail!("somebody has answered for {unserved}") };
    ensure!(refused.is_refusal(), "{unserved}: {refused}");
    Ok(())
}
