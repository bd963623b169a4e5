// SPDX-License-Identifier: Apache-2.0
//! Rules in the kernel, and what they have translated.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write as _},
    net::{IpAddr, SocketAddr},
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use proxy_tests::{family::IpFamily, netns::Namespace, process::Process, scratch::Scratch};

use super::{Mode, Rules, iptables::INVALID_COUNTER, service::ServicePort};

/// What loading and looking takes of the machine.
pub(crate) const TOOLS: [&str; 5] =
    ["nft", "iptables-restore", "ip6tables-restore", "nfacct", "conntrack"];

/// What it took to have rules in the kernel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Loaded {
    /// How much text they are.
    pub(crate) bytes: u64,
    /// How long the kernel's tool took, the text's making included, which it waits for.
    pub(crate) time: Duration,
}

/// Counts what goes through.
struct Counted<W> {
    inner: W,
    bytes: u64,
}

impl<W: io::Write> io::Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<S: Iterator<Item = ServicePort> + Clone + Sync> Rules<S> {
    /// Loads them into a node's namespace, in place of those of the family that are there.
    ///
    /// # Errors
    ///
    /// If the kernel does not take them, or not within `patience`.
    pub(crate) fn load_into(&self, node: &Namespace, patience: Duration) -> Result<Loaded> {
        let (program, arguments) = match (self.mode, self.node.family()) {
            (Mode::Nftables, _) => ("nft", &["--file", "-"][..]),
            (Mode::Iptables, IpFamily::V4) => ("iptables-restore", &[][..]),
            (Mode::Iptables, IpFamily::V6) => ("ip6tables-restore", &[][..]),
        };
        if self.mode == Mode::Iptables {
            add_counter(node)?;
        }
        let scratch = Scratch::new("kube-proxy")?;
        let log = scratch.path().join("log");
        let (text, sink) = io::pipe().context("making a pipe")?;
        let mut command = node.command(program);
        let _ = command.args(arguments).stdin(text).stdout(Stdio::null());
        let _ = command.stderr(File::create(&log)?);
        let start = Instant::now();
        let process = Process::spawn(node, command)?;
        thread::scope(|scope| {
            let writing = scope.spawn(|| {
                let mut sink = Counted { inner: BufWriter::with_capacity(1 << 16, sink), bytes: 0 };
                self.write(&mut sink)?;
                sink.flush()?;
                io::Result::Ok(sink.bytes)
            });
            let status = process.wait(patience);
            let time = start.elapsed();
            // If it has not ended, it ends here, and the thread that writes to it.
            drop(process);
            let written = writing.join().expect("writing rules does not panic");
            let said = || fs::read_to_string(&log).unwrap_or_default();
            let status = status.with_context(|| format!("{program} takes too long {}", said()))?;
            ensure!(status.success(), "{program} ended with {status}: {}", said());
            Ok(Loaded { bytes: written.context("writing rules")?, time })
        })
    }
}

/// Makes the object by which rules of iptables count what is invalid; both families share it.
fn add_counter(node: &Namespace) -> Result<()> {
    if node.output("nfacct", "list", "")?.contains(INVALID_COUNTER) {
        return Ok(());
    }
    node.output("nfacct", &format!("add {INVALID_COUNTER}"), "").map(drop)
}

/// The endpoints to which the kernel has translated connections to a Service port that it still
/// tracks in a namespace.
///
/// # Errors
///
/// If conntrack cannot be asked, or says what nobody understands.
pub(crate) fn translated(node: &Namespace, port: &ServicePort) -> Result<Vec<SocketAddr>> {
    let family = IpFamily::of(port.frontend.ip()).name().to_lowercase();
    let words = format!(
        "--dump --family {family} --proto {} --orig-dst {} --orig-port-dst {}",
        port.protocol(),
        port.frontend.ip(),
        port.frontend.port(),
    );
    node.output("conntrack", &words, "")?.lines().map(reply_source).collect()
}

/// The source of the replies of a tracked connection: the second that is named.
fn reply_source(line: &str) -> Result<SocketAddr> {
    let second = |name: &str| {
        let values = line.split_whitespace().filter_map(|word| word.strip_prefix(name));
        values.clone().nth(1).with_context(|| format!("conntrack says: {line}"))
    };
    let (ip, port): (IpAddr, u16) = (second("src=")?.parse()?, second("sport=")?.parse()?);
    Ok(SocketAddr::new(ip, port))
}

/// Checks that there are tracked connections to a Service port and that all of them have been
/// translated to its endpoints, and by nobody else.
///
/// # Errors
///
/// If that is not so.
pub(crate) fn check_translated(node: &Namespace, port: &ServicePort) -> Result<()> {
    let translated = translated(node, port)?;
    ensure!(!translated.is_empty(), "the kernel has translated nothing to {port}");
    for endpoint in translated {
        if port.endpoints.iter().all(|own| own.address != endpoint) {
            bail!("the kernel has translated a connection to {port} to {endpoint}");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::reply_source;

    #[test]
    fn the_second_source_is_that_of_replies() {
        let line = "tcp      6 118 TIME_WAIT src=10.244.1.11 dst=10.96.0.10 sport=40000 dport=80 \
                    src=10.244.1.12 dst=10.244.1.11 sport=8080 dport=40000 [ASSURED] mark=0 use=1";
        assert_eq!(reply_source(line).unwrap(), "10.244.1.12:8080".parse().unwrap());
        assert!(reply_source("src=10.244.1.11 sport=1").is_err());
    }
}
