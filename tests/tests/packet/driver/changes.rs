// SPDX-License-Identifier: Apache-2.0

//! Routes, neighbours and backends that change under flows.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use ipnet::IpNet;
use proxy_common::backend::BackendId;
use proxy_common::counter::Reason;
use proxy_common::device::{Device, DeviceTraits};
use proxy_common::frontend::ServiceIndex;
use proxy_tests::both_families;
use proxy_tests::netns::Prefix;
use proxy_tests::protocol::Protocol;

use super::{
    CLIENT_MAC, Flow, Node, OTHER_ROUTER, OTHER_ROUTER_MAC, OUT, OUT_MAC, PROTOCOLS, ROUTER,
    ROUTER_MAC, elsewhere, option, pods, with_driver,
};
use crate::frames::{backend, udp};
use crate::outside::{node_port, outsider};
use crate::programs::Verdict;
use crate::rig::{DEVICE, Tabled};

both_families!(
    another_next_hop,
    a_neighbour_that_is_not_known,
    a_neighbour_with_another_address,
    a_route_that_takes_less,
    a_route_that_takes_less_by_its_own_word,
    a_route_to_nowhere,
    a_device_without_a_driver,
    a_backend_that_stops_serving,
    a_way_is_asked_for_again,
);

fn another_next_hop<F: Tabled>() -> Result<()> {
    Node::<F>::with_hops(|node| {
        for (protocol, port) in PROTOCOLS.into_iter().zip(40_000..) {
            node.route(F::underlay(ROUTER))?;
            node.rig.ways.end_epoch()?;
            let flow = Flow::open(node, protocol, port)?;
            flow.is_sent(node)?;
            node.route(F::underlay(OTHER_ROUTER))?;
            node.rig.ways.end_epoch()?;
            let request = flow.request();
            let expected = flow.translated(&request);
            // The first one that the stack has not used yet.
            if protocol == PROTOCOLS[0] {
                node.leaves_to_stack(&request, &expected)?;
            }
            node.sends(&request, &expected, OTHER_ROUTER_MAC)?;
            let reply = flow.reply();
            node.sends(&reply, &flow.restored(&reply), CLIENT_MAC)?;
        }
        Ok(())
    })
}

/// The stack finds it, as it would without a driver.
fn a_neighbour_that_is_not_known<F: Tabled>() -> Result<()> {
    Node::<F>::with_hops(|node| {
        let flow = Flow::open(node, Protocol::Tcp, 40_000)?;
        flow.is_sent(node)?;
        let router = F::underlay(ROUTER);
        node.namespace.ip(&format!("{} neigh del {router} dev {OUT}", option(F::FAMILY)))?;
        node.rig.ways.end_epoch()?;
        let before = node.rig.count(Reason::XdpUpNeighbour)?;
        let request = flow.request();
        for _ in 0..2 {
            node.leaves_to_stack(&request, &flow.translated(&request))?;
        }
        let new = udp(outsider::<F>(41_000), node_port::<F>(), b"new");
        node.rig.programs.in_driver(&new)?.is(Verdict::Pass, &new)?;
        let _ = node.rig.programs.arrives(&new)?.packet(Verdict::Redirect)?;
        ensure!(node.rig.count(Reason::XdpUpNeighbour)? == before + 3, "another reason");
        let netlink = node.namespace.netlink()?;
        netlink.add_neighbour(netlink.link(OUT)?, router, ROUTER_MAC)?;
        node.rig.ways.end_epoch()?;
        flow.is_sent(node)
    })
}

fn a_neighbour_with_another_address<F: Tabled>() -> Result<()> {
    Node::<F>::with_hops(|node| {
        let flow = Flow::open(node, Protocol::Udp, 40_000)?;
        flow.is_sent(node)?;
        let router = F::underlay(ROUTER);
        let option = option(F::FAMILY);
        node.namespace.ip(&format!(
            "{option} neigh replace {router} dev {OUT} lladdr 02:00:00:00:01:09 nud permanent"
        ))?;
        node.rig.ways.end_epoch()?;
        let request = flow.request();
        node.leaves_to_stack(&request, &flow.translated(&request))?;
        node.sends(&request, &flow.translated(&request), [2, 0, 0, 0, 1, 9])
    })
}

/// Both directions of a flow go through the stack from then on.
fn goes_through_the_stack<F: Tabled>(node: &Node<'_, F>, flow: &Flow) -> Result<()> {
    for _ in 0..2 {
        for (sent, inside, left) in [
            (flow.request(), flow.request().to(flow.backend), flow.translated(&flow.request())),
            (flow.reply(), flow.reply().to(flow.client), flow.restored(&flow.reply())),
        ] {
            node.rig.programs.in_driver(&sent)?.is(Verdict::Pass, &sent)?;
            let outcome = node.rig.programs.arrives(&sent)?;
            outcome.is(Verdict::Pass, &inside).with_context(|| format!("{sent:?}"))?;
            node.rig.programs.leaves(&inside, DEVICE)?.is(Verdict::Pass, &left)?;
        }
    }
    Ok(())
}

/// For what is too large, the stack has to answer.
fn a_route_that_takes_less<F: Tabled>() -> Result<()> {
    Node::<F>::with_hops(|node| {
        for (protocol, port) in PROTOCOLS.into_iter().zip(40_000..) {
            node.route(F::underlay(ROUTER))?;
            node.rig.ways.end_epoch()?;
            let flow = Flow::open(node, protocol, port)?;
            flow.is_sent(node)?;
            node.route_to(&format!("via {} dev {OUT} mtu lock 1400", F::underlay(ROUTER)))?;
            node.rig.ways.end_epoch()?;
            goes_through_the_stack(node, &flow)?;
        }
        Ok(())
    })
}

/// The kernel does not tell of an MTU that is not locked: the agent does.
fn a_route_that_takes_less_by_its_own_word<F: Tabled>() -> Result<()> {
    Node::<F>::with_hops(|node| {
        let Prefix(address, length) = pods::<F>();
        let destination = IpNet::new(address, length)?;
        for (protocol, port) in PROTOCOLS.into_iter().zip(40_000..) {
            let flow = Flow::open(node, protocol, port)?;
            node.rig.route_mtus.put(destination, Some(1_500))?;
            node.rig.ways.end_epoch()?;
            flow.is_sent(node)?;
            node.rig.route_mtus.put(destination, Some(1_499))?;
            node.rig.ways.end_epoch()?;
            goes_through_the_stack(node, &flow)?;
            node.rig.route_mtus.put(destination, None)?;
            node.rig.ways.end_epoch()?;
        }
        Ok(())
    })
}

/// As the stack would answer without a driver.
fn a_route_to_nowhere<F: Tabled>() -> Result<()> {
    Node::<F>::with_hops(|node| {
        let flow = Flow::open(node, Protocol::Tcp, 40_000)?;
        flow.is_sent(node)?;
        let option = option(F::FAMILY);
        let pods = pods::<F>();
        node.namespace.ip(&format!("{option} route del {pods}"))?;
        node.namespace.ip(&format!("{option} route add unreachable {pods}"))?;
        node.rig.ways.end_epoch()?;
        goes_through_the_stack(node, &flow)
    })
}

/// No other driver can send by it, for lack of a program or of ability.
fn a_device_without_a_driver<F: Tabled>() -> Result<()> {
    Node::<F>::with_hops(|node| {
        let out = node.out;
        let drivers = [DeviceTraits::XDP_GENERIC, DeviceTraits::XDP_OWN_FRAMES];
        let devices = drivers.map(|driver| with_driver(out, driver));
        let devices = devices.into_iter().chain([Device::uplink(OUT_MAC)]);
        for (device, port) in devices.zip(40_000..) {
            node.rig.devices.insert(out, with_driver(out, DeviceTraits::default()), 0)?;
            node.rig.ways.end_epoch()?;
            let flow = Flow::open(node, Protocol::Tcp, port)?;
            flow.is_sent(node)?;
            node.rig.devices.insert(out, device, 0)?;
            node.rig.ways.end_epoch()?;
            goes_through_the_stack(node, &flow)?;
            // And so do new ones.
            let sent = udp(outsider::<F>(42_000), node_port::<F>(), b"new");
            node.rig.programs.in_driver(&sent)?.is(Verdict::Pass, &sent)?;
            let inside = sent.clone().to(elsewhere::<F>()[0]);
            node.rig.programs.arrives(&sent)?.is(Verdict::Pass, &inside)?;
        }
        Ok(())
    })
}

/// Datagrams get another one; a connection keeps the one that it has.
fn a_backend_that_stops_serving<F: Tabled>() -> Result<()> {
    Node::<F>::with_hops(|node| {
        let other = backend::<F>(2);
        let rows = (ServiceIndex::FIRST.0..).zip(BackendId::FIRST.0..);
        for (protocol, (service, former)) in PROTOCOLS.into_iter().zip(rows) {
            let flow = Flow::open(node, protocol, 40_000)?;
            flow.is_sent(node)?;
            let set = node.rig.backend_set(&[other])?;
            node.rig.tables.publish_cluster(ServiceIndex(service), set)?;
            node.rig.put_backend(BackendId(former), flow.backend, 2)?;
            if protocol == Protocol::Tcp {
                flow.is_sent(node)?;
                continue;
            }
            let request = flow.request();
            node.rig.programs.in_driver(&request)?.is(Verdict::Pass, &request)?;
            let outcome = node.rig.programs.arrives(&request)?;
            let new = Flow::of(&request, &outcome, flow.protocol)?;
            ensure!(new.backend == other, "{new:?}");
            new.is_sent(node)?;
        }
        Ok(())
    })
}

/// Without an agent, about once a second.
fn a_way_is_asked_for_again<F: Tabled>() -> Result<()> {
    Node::<F>::with_hops(|node| {
        let flow = Flow::open(node, Protocol::Tcp, 40_000)?;
        flow.is_sent(node)?;
        node.route(F::underlay(OTHER_ROUTER))?;
        let request = flow.request();
        let expected = flow.translated(&request);
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(5) {
            let outcome = node.rig.programs.in_driver(&request)?;
            if outcome.verdict == Verdict::Pass {
                // The stack has not used that one yet.
                let _ = node.rig.programs.arrives(&request)?.packet(Verdict::Redirect)?;
                return node.sends(&request, &expected, OTHER_ROUTER_MAC);
            }
            thread::sleep(Duration::from_millis(20));
        }
        bail!("it takes the former way still")
    })
}
