// SPDX-License-Identifier: Apache-2.0
//! Rules in the kernel, and what they have translated.

use std::{
    fs::{self, File},
    io::{self, BufWriter, PipeWriter, Write as _},
    net::{IpAddr, SocketAddr},
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use crate::{family::IpFamily, netns::Namespace, process::Process, scratch::Scratch};
use anyhow::{Context as _, Result, bail, ensure};

use super::{Mode, Rules, iptables::INVALID_COUNTER, nftables, service::ServicePort};

/// What loading and looking takes of the machine.
pub const TOOLS: [&str; 5] =
    ["nft", "iptables-restore", "ip6tables-restore", "nfacct", "conntrack"];

/// How many Service ports nftables gets in one transaction. kube-proxy writes all in one at its
/// start, which comes to the same rules; but the kernel goes through what a transaction has brought
/// so far for each part of it, and 10,000 Services take it the longer part of a minute.
const AT_ONCE: usize = 500;

/// How long the kernel may take for the rules of one family.
const PATIENCE: Duration = Duration::from_mins(2);

/// What it took to have rules in the kernel.
#[derive(Clone, Copy, Debug, Default)]
pub struct Loaded {
    /// How many bytes of text they are.
    pub bytes: usize,
    /// How long the kernel and its tools took.
    pub time: Duration,
}

impl<S: Iterator<Item = ServicePort> + Clone + Sync> Rules<S> {
    /// Loads them into a node's namespace, which has none of the family yet.
    ///
    /// # Errors
    ///
    /// If the kernel does not take them, or takes too long.
    pub fn load_into(&self, namespace: &Namespace) -> Result<Loaded> {
        let mut loading = Loading { namespace, loaded: Loaded::default() };
        let node = &self.node;
        match (self.mode, node.family()) {
            (Mode::Nftables, _) => {
                let nft = ["nft", "--file", "-"];
                let mut ports = self.ports.clone();
                let mut take = || ports.by_ref().take(AT_ONCE).collect::<Vec<_>>().into_iter();
                let first = take();
                loading.load(&nft, |out| nftables::write(node, &first, out))?;
                loop {
                    let more = take();
                    if more.len() == 0 {
                        break;
                    }
                    loading.load(&nft, |out| nftables::write_more(node, &more, out))?;
                }
            }
            (Mode::Iptables, family) => {
                add_counter(namespace)?;
                let v4 = family == IpFamily::V4;
                let restore = if v4 { "iptables-restore" } else { "ip6tables-restore" };
                loading.load(&[restore], |out| self.write(out))?;
            }
        }
        Ok(loading.loaded)
    }
}

/// Rules on their way into a namespace.
struct Loading<'a> {
    namespace: &'a Namespace,
    loaded: Loaded,
}

impl Loading<'_> {
    /// Has a program load what is written.
    fn load(
        &mut self,
        words: &[&str],
        write: impl FnOnce(&mut Counted) -> io::Result<()> + Send,
    ) -> Result<()> {
        let (program, arguments) = words.split_first().context("there is a program")?;
        let scratch = Scratch::new("kube-proxy")?;
        let log = scratch.path().join("log");
        let (text, sink) = io::pipe().context("making a pipe")?;
        let mut command = self.namespace.command(program);
        let _ = command.args(arguments).stdin(text).stdout(Stdio::null());
        let _ = command.stderr(File::create(&log)?);
        let start = Instant::now();
        let process = Process::spawn(self.namespace, command)?;
        let mut sink = Counted { inner: BufWriter::with_capacity(1 << 16, sink), bytes: 0 };
        thread::scope(|scope| {
            let writing = scope.spawn(|| {
                write(&mut sink)?;
                sink.flush()?;
                // The program reads to the end.
                drop(sink.inner);
                io::Result::Ok(sink.bytes)
            });
            let status = process.wait(PATIENCE.saturating_sub(self.loaded.time));
            self.loaded.time += start.elapsed();
            // If it has not ended, it ends here, and then the thread that writes to it.
            drop(process);
            let written = writing.join().expect("writing rules does not panic");
            let said = fs::read_to_string(&log)?;
            let status = status.context("it takes too long to load the rules")?;
            ensure!(status.success(), "{program} ended with {status}: {said}");
            self.loaded.bytes += written.context("writing rules")?;
            Ok(())
        })
    }
}

/// Counts what goes through.
struct Counted {
    inner: BufWriter<PipeWriter>,
    bytes: usize,
}

impl io::Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.bytes += written;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
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
pub fn translated(node: &Namespace, port: &ServicePort) -> Result<Vec<SocketAddr>> {
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
pub fn check_translated(node: &Namespace, port: &ServicePort) -> Result<()> {
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
