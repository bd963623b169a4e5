// SPDX-License-Identifier: Apache-2.0
//! iperf3: its server in a pod, and clients that say what arrived.

use std::{
    fs::{self, File},
    net::SocketAddr,
    path::PathBuf,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use proxy_tests::{process::Process, scratch::Scratch, topology::Host};
use serde_json::Value;

/// Its port, over TCP and UDP.
pub(crate) const PORT: u16 = 5201;

/// How long a run may take, and a server until it listens.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a server prints when it can be reached.
const LISTENING: &str = "Server listening";

/// What a client prints when the server is at another run.
const BUSY: &str = "the server is busy";

/// Starts the server in `pod`, for both families.
///
/// # Errors
///
/// If it does not listen.
pub(crate) fn serve(pod: &Host) -> Result<Process> {
    let log = Scratch::new("iperf3")?;
    let log = log.path().join("log");
    let mut command = iperf3(pod, File::create(&log)?);
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

/// What arrived at the server in a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Arrived {
    /// Bits.
    pub(crate) bits: f64,
    /// Datagrams; none over TCP.
    pub(crate) datagrams: f64,
    /// In how many seconds.
    pub(crate) seconds: f64,
}

impl Arrived {
    /// Gbit/s.
    pub(crate) fn gigabits_a_second(self) -> f64 {
        self.bits / self.seconds / 1e9
    }

    /// What the end of iperf3's report says. Of UDP, that is what was sent and how much of it was
    /// lost.
    pub(crate) fn read(end: &Value) -> Option<Self> {
        let sum = &end["sum"];
        if let Some(sent) = sum["packets"].as_f64() {
            let datagrams = sent - sum["lost_packets"].as_f64()?;
            let bits = sum["bytes"].as_f64()? * 8.0 * datagrams / sent;
            return Some(Self { bits, datagrams, seconds: sum["seconds"].as_f64()? });
        }
        let sum = &end["sum_received"];
        let bits = sum["bytes"].as_f64()? * 8.0;
        Some(Self { bits, datagrams: 0.0, seconds: sum["seconds"].as_f64()? })
    }
}

/// A client in a host.
pub(crate) struct Client<'a> {
    host: &'a Host,
    scratch: Scratch,
}

impl<'a> Client<'a> {
    /// One that runs in `host`.
    ///
    /// # Errors
    ///
    /// If there is no room for its reports.
    pub(crate) fn new(host: &'a Host) -> Result<Self> {
        Ok(Self { host, scratch: Scratch::new("iperf3")? })
    }

    /// Sends to `target`, as `arguments` say, and returns what arrived there.
    ///
    /// # Errors
    ///
    /// If iperf3 does not get there, or does not end.
    pub(crate) fn run(&self, target: SocketAddr, arguments: &[&str]) -> Result<Arrived> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let report = self.report(target, arguments)?;
            match report["error"].as_str() {
                None => {
                    return Arrived::read(&report["end"])
                        .with_context(|| format!("iperf3 to {target} reports nothing"));
                }
                // It still ends the run before.
                Some(error) if error.contains(BUSY) && Instant::now() < deadline => {
                    thread::sleep(Duration::from_millis(20));
                }
                Some(error) => bail!("iperf3 to {target}: {error}"),
            }
        }
    }

    fn report(&self, target: SocketAddr, arguments: &[&str]) -> Result<Value> {
        let log: PathBuf = self.scratch.path().join("log");
        let mut command = iperf3(self.host, File::create(&log)?);
        let _ = command.args(["--json", "--client", &target.ip().to_string()]).args(arguments);
        let process = Process::spawn(self.host.namespace(), command)?;
        let ended = process.wait(PATIENCE)?;
        let report = fs::read_to_string(log)?;
        serde_json::from_str(&report)
            .with_context(|| format!("iperf3 to {target} ended with {ended}: {report}"))
    }
}

fn iperf3(host: &Host, log: File) -> Command {
    let mut command = host.namespace().command("iperf3");
    let _ = command
        .args(["--port", &PORT.to_string()])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .stdout(log);
    command
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::Arrived;

    #[test]
    fn what_arrived_is_read() {
        let tcp = json!({ "sum_received": { "bytes": 1000, "seconds": 0.5 } });
        let tcp = Arrived::read(&tcp).unwrap();
        assert_eq!(tcp, Arrived { bits: 8000.0, datagrams: 0.0, seconds: 0.5 });
        let sum = json!({ "bytes": 640, "seconds": 2.0, "packets": 10, "lost_packets": 5 });
        let udp = Arrived::read(&json!({ "sum": sum })).unwrap();
        assert_eq!(udp, Arrived { bits: 2560.0, datagrams: 5.0, seconds: 2.0 });
    }
}
