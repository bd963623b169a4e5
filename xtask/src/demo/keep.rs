// SPDX-License-Identifier: Apache-2.0
//! `--keep`: everything stays up for a person to look inside.

use std::{path::Path, process, thread};

use proxy_tests::{
    family::IpFamily,
    topology::{Host, Node},
};

use crate::iperf3;

use super::{
    asker::Asker,
    cluster::{Cluster, MEASURED_POD, NODES},
    outside,
    recorded::Recorded,
    scaling,
};

/// Says how to look inside, and waits for the signal that ends the process and takes everything
/// down.
pub(super) fn wait(cluster: &Cluster<'_>, recorded: &Recorded, sixfour: &Path) -> ! {
    let sixfour = sixfour.display();
    println!("\nEverything stays up until Ctrl-C, or:\n  kill {}", process::id());

    println!("\nAsk a Service; the pod that answers says its name and whom it saw:");
    let client = enter(cluster.measuring());
    for target in scaling::targets(recorded) {
        println!("  {client} curl -sg 'http://{target}/'");
    }
    for family in IpFamily::ALL {
        let [_, service] = cluster.measured(family, iperf3::PORT);
        println!("  {client} iperf3 -c {}", service.ip());
    }

    println!("\nThe same from a node itself:");
    let node = enter(cluster.topology.node(NODES[0].0).host());
    for target in scaling::targets(recorded) {
        println!("  {node} curl -sg 'http://{target}/'");
    }

    println!("\nA node port, from outside the cluster:");
    for asker in [Asker::Outside(0), Asker::Outside(1)] {
        let outside = enter(asker.host(cluster));
        for target in outside::targets(cluster, recorded, asker) {
            println!("  {outside} curl -sg 'http://{target}/'   # {asker}");
        }
    }

    println!("\nWhat is in the kernel's tables, by name (also: list backends, list flows):");
    for (agent, (node, _, _)) in cluster.agents.iter().zip(NODES) {
        println!("  {sixfour} list services --pin-root {}   # {node}", agent.pin_root().display());
    }

    println!("\nWhat the agents say:");
    for (agent, (node, _, _)) in cluster.agents.iter().zip(NODES) {
        println!("  tail -f {}   # {node}", agent.log_path().display());
    }

    println!("\nEnter a pod or a node:");
    let clients = NODES.iter().map(|(_, _, client)| cluster.topology.pod(client));
    let nodes = cluster.topology.nodes().map(Node::host);
    for host in clients.chain([cluster.topology.pod(MEASURED_POD)]).chain(nodes) {
        println!("  {}   # {}", enter(host), host.name());
    }

    println!("\nThe objects; a change takes effect at once, for both agents:");
    println!("  ls {}", cluster.manifests.directory().display());
    loop {
        thread::park();
    }
}

/// Before a command: runs it in the network namespace of a host, and in its control group, by which
/// the processes of nodes are served.
fn enter(host: &Host) -> String {
    let netns = format!("nsenter --net={}", host.namespace().path().display());
    host.cgroup().map_or(netns.clone(), |cgroup| {
        let procs = cgroup.join("cgroup.procs");
        format!("sh -c 'echo $$ > {} && exec \"$@\"' - {netns}", procs.display())
    })
}
