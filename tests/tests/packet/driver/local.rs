// SPDX-License-Identifier: Apache-2.0

//! Backends on this node, and those that share a Service with others elsewhere.

use anyhow::{Context as _, Result, ensure};
use proxy_common::counter::Reason;
use proxy_common::service::Policy;
use proxy_tests::both_families;
use proxy_tests::family::IpFamily;
use proxy_tests::netns::Prefix;
use proxy_tests::protocol::Protocol;

use super::{Node, POD, PROTOCOLS, elsewhere};
use crate::frames::{answer, backend, opening, proof};
use crate::outside::{node_port, outsider};
use crate::programs::Verdict;
use crate::rig::{DEVICE, Tabled};

both_families!(a_backend_on_this_node, the_driver_and_the_stack_choose_once);

/// The driver opens the flow, and the stack goes on with it.
fn a_backend_on_this_node<F: Tabled>() -> Result<()> {
    let local = backend::<F>(1);
    Node::<F>::run(&[local], Policy::default(), |node| {
        node.route_to(&format!("dev {POD}"))?;
        for (protocol, port) in PROTOCOLS.into_iter().zip(40_000..) {
            let client = outsider::<F>(port);
            let sent = opening(protocol, client, node_port::<F>());
            node.rig.programs.in_driver(&sent)?.is(Verdict::Pass, &sent)?;
            node.rig.programs.arrives(&sent)?.is(Verdict::Pass, &sent.clone().to(local))?;
            let said = answer(protocol, local, client);
            let left = said.clone().from(node_port::<F>());
            node.rig.programs.leaves(&said, DEVICE)?.is(Verdict::Pass, &left)?;
            let sent = proof(protocol, client, node_port::<F>());
            node.rig.programs.in_driver(&sent)?.is(Verdict::Pass, &sent)?;
            node.rig.programs.arrives(&sent)?.is(Verdict::Pass, &sent.clone().to(local))?;
        }
        ensure!(node.rig.count(Reason::FlowCreated)? == 2, "flows were opened twice");
        ensure!(node.rig.count(Reason::FlowConfirmed)? == 2, "they are not confirmed");
        ensure!(node.rig.count(Reason::XdpUpNew)? == 2, "for another reason");
        ensure!(node.rig.count(Reason::XdpUpFlow)? == 2, "for another reason");
        Ok(())
    })
}

/// Of two backends, of which one is here, each gets half of the flows.
fn the_driver_and_the_stack_choose_once<F: Tabled>() -> Result<()> {
    const FLOWS: u16 = 400;
    let (there, here) = (elsewhere::<F>()[0], backend::<F>(2));
    Node::<F>::run(&[there, here], Policy::default(), |node| {
        node.use_hops()?;
        let length = F::FAMILY.host_prefix_length();
        let option = if F::FAMILY == IpFamily::V4 { "-4" } else { "-6" };
        node.namespace
            .ip(&format!("{option} route add {} dev {POD}", Prefix(here.ip(), length)))?;
        node.rig.ways.end_epoch()?;
        let mut elsewhere = 0;
        for port in 0..FLOWS {
            let sent = opening(Protocol::Tcp, outsider::<F>(10_000 + port), node_port::<F>());
            let mut outcome = node.rig.programs.in_driver(&sent)?;
            if outcome.verdict == Verdict::Pass {
                outcome = node.rig.programs.arrives(&sent)?;
            }
            let backend = outcome.packet(outcome.verdict)?.destination_socket().context("ports")?;
            ensure!([there, here].contains(&backend), "{backend}");
            elsewhere += usize::from(backend == there);
        }
        // Six standard deviations from the mean: once in 10^9 runs.
        ensure!((140..=260).contains(&elsewhere), "{elsewhere} of {FLOWS} are elsewhere");
        Ok(())
    })
}
