// SPDX-License-Identifier: Apache-2.0
//! The section on paths: what a client gets directly, and through its Service, by each proxy.

use anyhow::Result;

use super::{
    comparison::{self, Path},
    kube_proxy::Mode,
    network::{Client, Ground, Kind, Layout, Network, Proxy},
    report::{Section, Wanted},
    setup::Setup,
    work::Work,
};

/// How many Services each proxy has.
const SERVICES: u32 = 10;

const SIXFOUR: Kind = Kind { proxy: Proxy::Sixfour, services: SERVICES, flows: 0, room: None };
const FAST: Kind = Kind { proxy: Proxy::FastSixfour, ..SIXFOUR };
const NFTABLES: Kind = Kind { proxy: Proxy::Rules(Mode::Nftables), ..SIXFOUR };
const IPTABLES: Kind = Kind { proxy: Proxy::Rules(Mode::Iptables), ..SIXFOUR };

/// Names of paths that others are compared with.
const DIRECT: &str = "direct";
const FROM_NODE: &str = "direct, from the node";
const BY_NFTABLES: &str = "kube-proxy, nftables";

/// All works, and those that there is time for in a hurry.
pub(super) const fn works(is_quick: bool) -> &'static [Work] {
    const FEW: &[Work] =
        &[Work::STREAM, Work::DATAGRAMS, Work::CONNECTIONS, Work::PINNED, Work::REQUESTS];
    const ALL: &[Work] = &[
        Work::STREAM,
        Work::DATAGRAMS,
        Work::CONNECTIONS,
        Work::PINNED,
        Work::REQUESTS,
        Work::STREAMS,
    ];
    if is_quick { FEW } else { ALL }
}

/// All paths, with what a work is to reach on them.
pub(super) fn all(work: Work) -> Vec<Path> {
    let past_stack = (work == Work::CONNECTIONS).then_some(Wanted::Above(1.03));
    let (by_tc, beside_nftables, at_socket) = match work {
        Work::STREAM => (Some(Wanted::AtLeastFrom(0.97, 0.95)), None, Some(Wanted::Reaches(1.0))),
        Work::CONNECTIONS => (Some(Wanted::AtLeast(0.94)), Some(Wanted::AtLeast(1.1)), None),
        _ => (None, None, None),
    };
    vec![
        Path::direct(DIRECT, Client::Pod),
        Path::service("Sixfour, by tc", SIXFOUR, Client::Pod).beside(0, DIRECT, by_tc).beside(
            2,
            BY_NFTABLES,
            beside_nftables,
        ),
        Path::service(BY_NFTABLES, NFTABLES, Client::Pod).beside(0, DIRECT, None),
        Path::direct(FROM_NODE, Client::Node),
        Path::service("Sixfour, at the socket, from the node", SIXFOUR, Client::Node)
            .beside(3, FROM_NODE, at_socket),
        Path::service("Sixfour, by the fast path", FAST, Client::Pod).beside(0, DIRECT, past_stack),
        Path::service("kube-proxy, iptables", IPTABLES, Client::Pod).beside(0, DIRECT, None),
    ]
}

/// The paths that there is time for: in a hurry, all but the last.
fn paths(work: Work, is_quick: bool) -> Vec<Path> {
    let mut paths = all(work);
    paths.truncate(paths.len() - usize::from(is_quick));
    paths
}

/// Measures all works on all paths.
///
/// # Errors
///
/// If something does not start, or a client does not reach its server, or does so by another way
/// than is said.
pub(super) fn run(setup: &Setup) -> Result<Section> {
    let ground = Ground::new(Layout::OnNode, comparison::kinds(&paths(Work::STREAM, setup.quick)))?;
    let network = Network::start(&ground, setup)?;
    let mut charts = Vec::new();
    for work in setup.chosen(works(setup.quick)) {
        let paths = paths(work, setup.quick);
        charts.extend(comparison::measure(setup, &network, work, &paths, None)?);
    }
    network.stop()?;
    Ok(Section { title: "Paths to a backend".to_owned(), notes: notes(), charts })
}

fn notes() -> Vec<String> {
    vec![
        format!(
            "Client and server are on one node, each in a network namespace that is routed to \
             through a veth pair. Each proxy has such a node of its own, with {SERVICES} Services of \
             ten endpoints, but for the one of iperf3, which has one. The direct paths are on a node without a \
             proxy and without rules of netfilter. For kube-proxy there are the rules that it \
             writes, without kube-proxy itself."
        ),
        "Clients run on one half of the processors and servers on the other, but for connections \
         on one processor. Processors are kept awake by spinners while latency and connections are \
         measured; the time of these is no work, and where the kernel does not account for interrupts \
         by themselves, neither is that of packets handled in one that has interrupted a spinner. \
         In each window, the counters of all agents must account for all that was done as the path \
         that it is called, and for nothing else, and the server must have no socket in TIME_WAIT; \
         before and after, the kernel must have translated what went through kube-proxy's rules."
            .to_owned(),
    ]
}
