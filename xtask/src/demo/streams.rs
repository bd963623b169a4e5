// SPDX-License-Identifier: Apache-2.0
//! Throughput, by iperf3.

use std::{
    fs::{self, File},
    net::SocketAddr,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use proxy_tests::{process::Process, scratch::Scratch, topology::Host};
use serde_json::Value;

use super::{
    cluster::Cluster,
    comparison::{Comparison, Quantity},
    progress::Part,
    verdict::Problems,
};

/// The port of iperf3, over TCP and UDP.
pub(super) const PORT: u16 = 5201;

/// How long a stream runs, in seconds.
const SECONDS: u32 = 1;

/// How long iperf3 may take for more than the stream itself.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a server prints when it can be reached.
const LISTENING: &str = "Server listening";

/// What a client prints when the server is at another stream.
const BUSY: &str = "the server is busy";

const TCP: Quantity =
    Quantity { what: "iperf3 TCP", unit: "Gbit/s", digits: 2, port: PORT, rounds: 7, goal: 0.9 };
const UDP: Quantity = Quantity { what: "iperf3 UDP", rounds: 5, ..TCP };

/// Starts the server in `pod`.
///
/// # Errors
///
/// If it does not listen.
pub(super) fn serve(pod: &Host) -> Result<Process> {
    let log = Scratch::new("iperf3")?;
    let log = log.path().join("log");
    let mut command = iperf3(pod, &log)?;
    let _ = command.args(["--server", "--forceflush"]);
    let server = Process::spawn(pod.namespace(), command)?;
    let deadline = Instant::now() + PATIENCE;
    while !fs::read_to_string(&log)?.contains(LISTENING) {
        if server.status()?.is_some() || Instant::now() > deadline {
            bail!("iperf3 does not listen in {}: {}", pod.name(), fs::read_to_string(&log)?);
        }
        thread::sleep(Duration::from_millis(5));
    }
    Ok(server)
}

/// Measures the throughput of TCP and UDP streams.
///
/// # Errors
///
/// If there is no room for iperf3's report.
pub(super) fn run(cluster: &Cluster<'_>, problems: &mut Problems) -> Result<Vec<Comparison>> {
    let part = Part::new(
        "throughput, directly to the pod and through its ClusterIP in turns",
        TCP.steps() + UDP.steps(),
    );
    let scratch = Scratch::new("iperf3")?;
    let log = scratch.path().join("log");
    let client = cluster.measuring();
    // UDP as fast as it can, which is not what iperf3 does by default.
    let streams: [(_, &[_]); 2] = [(TCP, &[]), (UDP, &["--udp", "--bitrate", "0"])];
    let compare = |(quantity, arguments): (Quantity, &[&str])| {
        quantity.compare(cluster, &part, problems, |target| stream(client, target, arguments, &log))
    };
    Ok(streams.into_iter().flat_map(compare).collect())
}

/// Runs one stream and returns what arrived, in Gbit/s.
fn stream(client: &Host, target: SocketAddr, arguments: &[&str], log: &Path) -> Result<f64> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let report = report(client, target, arguments, log)?;
        match report["error"].as_str() {
            None => {
                return arrived(&report["end"])
                    .with_context(|| format!("iperf3 to {target} reports no throughput"));
            }
            // It still ends the stream before.
            Some(error) if error.contains(BUSY) && Instant::now() < deadline => {
                thread::sleep(Duration::from_millis(50));
            }
            Some(error) => bail!("iperf3 to {target}: {error}"),
        }
    }
}

/// Runs one stream and returns iperf3's report.
fn report(client: &Host, target: SocketAddr, arguments: &[&str], log: &Path) -> Result<Value> {
    let mut command = iperf3(client, log)?;
    let _ = command
        .args(["--json", "--time", &SECONDS.to_string()])
        .args(["--client", &target.ip().to_string()])
        .args(arguments);
    let process = Process::spawn(client.namespace(), command)?;
    let ended = process.wait(PATIENCE + Duration::from_secs(SECONDS.into()))?;
    let report = fs::read_to_string(log)?;
    serde_json::from_str(&report)
        .with_context(|| format!("iperf3 to {target} ended with {ended}: {report}"))
}

/// What arrived, in Gbit/s. Of UDP, iperf3 tells what was sent and how much of it was lost.
fn arrived(end: &Value) -> Option<f64> {
    let bits = match end["sum"]["bits_per_second"].as_f64() {
        Some(sent) => sent * (1.0 - end["sum"]["lost_percent"].as_f64()? / 100.0),
        None => end["sum_received"]["bits_per_second"].as_f64()?,
    };
    Some(bits / 1e9)
}

fn iperf3(host: &Host, log: &Path) -> Result<Command> {
    let mut command = host.namespace().command("iperf3");
    let _ = command
        .args(["--port", &PORT.to_string()])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .stdout(File::create(log)?);
    Ok(command)
}
