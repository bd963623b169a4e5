// SPDX-License-Identifier: Apache-2.0
//! Throughput, by iperf3.

use anyhow::Result;

use crate::{iperf3, progress::Part};

use super::{
    cluster::Cluster,
    comparison::{Comparison, Quantity},
    verdict::Problems,
};

const TCP: Quantity = Quantity {
    what: "iperf3 TCP",
    unit: "Gbit/s",
    digits: 2,
    port: iperf3::PORT,
    rounds: 7,
    goal: 0.9,
};
const UDP: Quantity = Quantity { what: "iperf3 UDP", rounds: 5, ..TCP };

/// Measures the throughput of TCP and UDP streams, of a second each.
///
/// # Errors
///
/// If there is no room for iperf3's report.
pub(super) fn run(cluster: &Cluster<'_>, problems: &mut Problems) -> Result<Vec<Comparison>> {
    let part = Part::new(
        "throughput, directly to the pod and through its ClusterIP in turns",
        TCP.steps() + UDP.steps(),
    );
    let client = iperf3::Client::new(cluster.measuring())?;
    // UDP as fast as it can, which is not what iperf3 does by default.
    let streams: [(_, &[_]); 2] =
        [(TCP, &["--time=1"]), (UDP, &["--time=1", "--udp", "--bitrate=0"])];
    let compare = |(quantity, arguments): (Quantity, &[&str])| {
        quantity.compare(cluster, &part, problems, |target| {
            Ok(client.run(target, arguments)?.gigabits_a_second())
        })
    };
    Ok(streams.into_iter().flat_map(compare).collect())
}
