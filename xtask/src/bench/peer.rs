// SPDX-License-Identifier: Apache-2.0
//! A server and a client that are as lean as can be, as processes of their own: what they cost would
//! hide what the proxy costs, and threads of one process would wait for each other.
//!
//! A client sends one byte, and the server answers with one: to [`ONCE`], and then closes the
//! connection; to [`MORE`], and then waits for the next. The server closes first, so that the
//! client's ports are free again at once.

mod client;
mod server;

use std::{
    io,
    net::{SocketAddr, TcpStream},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use clap::{Subcommand, ValueEnum};
use proxy_tests::netns::Namespace;
use serde::{Deserialize, Serialize};

pub(crate) use server::Server;

/// The port of the server on a processor for servers.
pub(crate) const PORT: u16 = 8000;

/// The port of the one on the processor of its client.
pub(crate) const PORT_BESIDE: u16 = 8001;

/// What a client sends that wants nothing more.
const ONCE: u8 = b'1';

/// What a client sends that will send more.
const MORE: u8 = b'+';

/// How xtask is told to be a peer.
const VERB: &str = "bench-peer";

/// What a peer is to do.
#[derive(Subcommand)]
pub(crate) enum Role {
    /// Answer on all addresses until killed
    Serve,
    /// Ask a server for a while and print what it took, as JSON
    Ask(Question),
}

/// What a client is to do.
#[derive(clap::Args, Clone, Copy, Debug)]
pub(crate) struct Question {
    /// The server
    target: SocketAddr,
    #[arg(value_enum)]
    exchange: Exchange,
    /// How many threads ask, each for itself
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// For how long they ask, in milliseconds
    #[arg(long)]
    milliseconds: u64,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Exchange {
    /// Connect, ask, read the answer, read the end, close.
    Connection,
    /// Ask and read the answer, on one connection.
    Request,
}

/// How a client fared.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Answer {
    /// How many exchanges there were.
    pub(crate) count: f64,
    /// Exchanges a second.
    pub(crate) rate: f64,
    /// Their median, in microseconds.
    pub(crate) p50: f64,
    /// Below this were 90 % of them.
    pub(crate) p90: f64,
    /// Below this were 99 % of them.
    pub(crate) p99: f64,
}

/// Is a peer.
///
/// # Errors
///
/// If it cannot listen, or an exchange fails.
pub(crate) fn run(role: &Role) -> Result<()> {
    match role {
        Role::Serve => server::serve(),
        Role::Ask(question) => {
            let answer = client::ask(question)?;
            println!("{}", serde_json::to_string(&answer)?);
            Ok(())
        }
    }
}

/// Asks the server at `target` from a namespace.
///
/// # Errors
///
/// If an exchange fails.
pub(crate) fn ask(
    namespace: &Namespace,
    target: SocketAddr,
    exchange: Exchange,
    threads: usize,
    time: Duration,
) -> Result<Answer> {
    let exchange = exchange.to_possible_value().context("it has a name")?;
    let mut command = command(namespace);
    let _ = command
        .arg("ask")
        .args([&target.to_string(), exchange.get_name()])
        .args(["--threads", &threads.to_string()])
        .args(["--milliseconds", &time.as_millis().to_string()])
        .stdout(Stdio::piped());
    let output = namespace.run(|| Ok(command.output()?))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "asking {target}: {said}");
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Asks a server that waits for more afterwards.
///
/// # Errors
///
/// If it does not answer.
pub(crate) fn ask_once_more(stream: &mut TcpStream) -> io::Result<()> {
    client::request(stream, MORE)
}

/// This program as a peer in a namespace.
fn command(namespace: &Namespace) -> Command {
    // Not by its path, at which another may have been built meanwhile.
    let mut command = namespace.command("/proc/self/exe");
    let _ = command.arg(VERB).stdin(Stdio::null());
    command
}
