// SPDX-License-Identifier: Apache-2.0
//! The section on sizes: what becomes of a client's work as Services and flows grow in number.

use anyhow::Result;
use proxy_common::flow::MAX_FLOWS;

use super::{
    comparison::{self, Path},
    kube_proxy::Mode,
    network::{Client, Ground, Kind, Layout, Network, Proxy},
    report::{Chart, Section, Wanted},
    setup::Setup,
    work::Work,
};

/// How many Services there are, and in a hurry.
const SERVICES: [u32; 4] = [10, 1000, 10_000, 100_000];
const FEW_SERVICES: [u32; 2] = [10, 1000];

/// For how many of them the kernel takes kube-proxy's rules in a minute.
const MOST_FOR_NFTABLES: u32 = 10_000;
const MOST_FOR_IPTABLES: u32 = 1000;

/// How many flows the agent's table of a family holds at first, and in a hurry; each has two
/// entries, and what is left of them is for those that are measured.
const FLOWS: [u32; 4] = [0, 4096, 65_536, 196_608];
const FEW_FLOWS: [u32; 2] = [0, 65_536];

/// What is measured, and in a hurry. Connections come last: they leave flows behind.
pub(super) const fn works(is_quick: bool) -> &'static [Work] {
    if is_quick { &[Work::CONNECTIONS] } else { &[Work::REQUESTS, Work::STREAM, Work::CONNECTIONS] }
}

const DIRECT: &str = "direct";
const TC: &str = "Sixfour, by tc";

/// Of the rate at 10 Services, what is to be left at 100,000.
const LEFT: Wanted = Wanted::AtLeast(0.97);

/// Measures at all numbers of Services, then at all numbers of flows.
///
/// # Errors
///
/// If something does not start, or a client does not reach its server, or does so by another way
/// than is said.
pub(super) fn run(setup: &Setup) -> Result<Section> {
    let services: &[u32] = if setup.quick { &FEW_SERVICES } else { &SERVICES };
    let flows: &[u32] = if setup.quick { &FEW_FLOWS } else { &FLOWS };
    let mut charts = measure(setup, "Services", &by_services(services))?;
    charts.extend(measure(setup, "other flows", &by_flows(flows))?);
    Ok(Section { title: "Sizes".to_owned(), notes: notes(), charts })
}

fn by_services(sizes: &[u32]) -> Vec<Path> {
    let mut paths = vec![Path::direct(DIRECT, Client::Pod)];
    let proxies = [
        (TC, Proxy::Sixfour, u32::MAX),
        ("kube-proxy, nftables", Proxy::Rules(Mode::Nftables), MOST_FOR_NFTABLES),
        ("kube-proxy, iptables", Proxy::Rules(Mode::Iptables), MOST_FOR_IPTABLES),
    ];
    for (name, proxy, most) in proxies {
        let fewest = paths.len();
        for services in sizes.iter().copied().filter(|size| *size <= most) {
            let kind = Kind { proxy, services, flows: 0, room: None };
            let path = Path::service(name, kind, Client::Pod).at(services.into());
            let path = path.beside(0, DIRECT, None);
            let is_goal = proxy == Proxy::Sixfour && SERVICES.last() == Some(&services);
            let wanted = is_goal.then_some(LEFT);
            let is_first = paths.len() == fewest;
            paths.push(if is_first { path } else { path.beside(fewest, "10 Services", wanted) });
        }
    }
    paths
}

fn by_flows(sizes: &[u32]) -> Vec<Path> {
    let mut paths = Vec::new();
    for flows in sizes {
        let kind = Kind { proxy: Proxy::Sixfour, services: SERVICES[0], flows: *flows, room: None };
        let path = Path::service(TC, kind, Client::Pod).at(u64::from(*flows));
        paths.push(if paths.is_empty() { path } else { path.beside(0, "no other flow", None) });
    }
    paths
}

/// Measures on nodes that are there at once, and gone afterwards.
fn measure(setup: &Setup, axis: &str, paths: &[Path]) -> Result<Vec<Chart>> {
    let ground = Ground::new(Layout::OnNode, comparison::kinds(paths))?;
    let network = Network::start(&ground, setup)?;
    let mut charts = Vec::new();
    for work in setup.chosen(works(setup.quick)) {
        charts.extend(comparison::measure(setup, &network, work, paths, Some(axis))?);
    }
    network.stop()?;
    Ok(charts)
}

fn notes() -> Vec<String> {
    vec![
        format!(
            "All Services have ten endpoints in each family, but for the one of iperf3, which has \
             one. Those that are measured come last in kube-proxy's rules. There are no figures of \
             kube-proxy at more than {MOST_FOR_NFTABLES} Services (iptables: {MOST_FOR_IPTABLES}): \
             the kernel takes minutes for the rules."
        ),
        format!(
            "Other flows are copies of the entries of a real one, in the name of clients that are not \
             there. Connections at each number of them are new ones, which are looked for among all. \
             They come last, since each leaves a closed flow for two minutes: up to 28,000, as many as a \
             client has ports, are in the table besides. The agent's table of a family has room for \
             {} flows; packets are measured with more, in a table made larger.",
            MAX_FLOWS / 2,
        ),
    ]
}
