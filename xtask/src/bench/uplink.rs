// SPDX-License-Identifier: Apache-2.0
//! The section on clients outside: what they get through this node from a server beyond it, by programs in the
//! drivers of uplinks, by those of the stack, and by kube-proxy's rules; and what a program in the driver of a veth
//! takes from a server on the node itself.

use anyhow::Result;

use super::{
    comparison::{self, Path},
    kube_proxy::Mode,
    network::{Client, Ground, Kind, Layout, Network, Proxy},
    report::{Chart, Section},
    setup::Setup,
    work::Work,
};

/// How many Services each proxy has.
const SERVICES: u32 = 10;

const BY_TC: Kind = Kind { proxy: Proxy::Sixfour, services: SERVICES, flows: 0, room: None };
const BY_XDP: Kind = Kind { proxy: Proxy::XdpSixfour, ..BY_TC };
const NFTABLES: Kind = Kind { proxy: Proxy::Rules(Mode::Nftables), ..BY_TC };

/// Names of paths.
const ROUTED: &str = "routed, no proxy";
const TC: &str = "Sixfour, by tc";
const XDP: &str = "Sixfour, by XDP";
const BY_NFTABLES: &str = "kube-proxy, nftables";
const WITHOUT: &str = "to the node, without XDP";
const WITH: &str = "to the node, with XDP";

/// What is done to a server on the node itself.
const TO_NODE: Work = Work::STREAM;

/// All works, and those that there is time for in a hurry.
pub(super) const fn works(is_quick: bool) -> &'static [Work] {
    if is_quick {
        &[Work::DATAGRAMS]
    } else {
        &[Work::DATAGRAMS, Work::CONNECTIONS, Work::REQUESTS, TO_NODE]
    }
}

/// All paths through the node.
fn through() -> Vec<Path> {
    let service = |name, kind| Path::service(name, kind, Client::Outside).beside(0, ROUTED, None);
    vec![
        Path::direct(ROUTED, Client::Outside),
        service(BY_NFTABLES, NFTABLES),
        service(TC, BY_TC).beside(1, BY_NFTABLES, None),
        service(XDP, BY_XDP).beside(1, BY_NFTABLES, None).beside(2, TC, None),
    ]
}

/// The paths to the node itself.
fn to_node() -> Vec<Path> {
    vec![Path::to_node(WITHOUT, BY_TC), Path::to_node(WITH, BY_XDP).beside(0, WITHOUT, None)]
}

/// Measures all works on all paths through the node, and a stream to the node itself.
///
/// # Errors
///
/// If something does not start, or a client does not reach its server, or does so by another way
/// than is said.
pub(super) fn run(setup: &Setup) -> Result<Section> {
    let works: Vec<_> = setup.chosen(works(setup.quick)).collect();
    let mut charts = measure(setup, Layout::Through, &through(), works, "Through the node")?;
    let works = setup.chosen(&[TO_NODE]).collect();
    charts.extend(measure(setup, Layout::ToNode, &to_node(), works, "To the node")?);
    Ok(Section { title: "Clients outside".to_owned(), notes: notes(), charts })
}

/// Measures works on paths of a layout, if there are any. Other sections have charts of the same works.
fn measure(
    setup: &Setup,
    layout: Layout,
    paths: &[Path],
    works: Vec<Work>,
    where_to: &str,
) -> Result<Vec<Chart>> {
    if works.is_empty() {
        return Ok(Vec::new());
    }
    let ground = Ground::new(layout, comparison::kinds(paths))?;
    let network = Network::start(&ground, setup)?;
    let mut charts = Vec::new();
    for work in works {
        charts.extend(comparison::measure(setup, &network, work, paths, None)?);
    }
    network.stop()?;
    for chart in &mut charts {
        chart.title = format!("{where_to}, {}", chart.title);
    }
    Ok(charts)
}

fn notes() -> Vec<String> {
    vec![
        format!(
            "Through the node: a client, a node and a server are a network namespace each, the node between the \
             others, joined to each by a veth pair; each proxy has such three of its own, with {SERVICES} Services. \
             The client asks cluster IPs, which it has a route to by the node, as a load balancer's address would \
             have: what comes from outside is masqueraded, and the answers come back through the node. \"routed\" asks \
             the server's own address, by the same node without a proxy and without rules of netfilter."
        ),
        "On all of these paths alike, the client's and the server's ends of the veth pairs are made like network \
         cards: they send complete checksums, and so no segments larger than the MTU, and have a program in their \
         driver that passes everything on, without which a veth does not take what another driver sends. The node's \
         own ends have programs in their drivers with XDP only. A veth copies each packet that a socket has sent for \
         such a program, which a network card does not: what XDP gains here is less than it would be there."
            .to_owned(),
        "To the node: the server is a process of the node itself, asked at the node's address. The client's end takes \
         what programs send, as it joins what it receives (GRO), and sends large segments with partial checksums, as \
         a veth does; the kernel switches that off where the node's end has a program in its driver, through which at \
         least nine tenths of the packets must have come."
            .to_owned(),
        "Processors, spinners and counters are as with the paths to a backend. With XDP, at least nine tenths of the \
         packets that a window took must have left from a driver; without, none."
            .to_owned(),
    ]
}
