// SPDX-License-Identifier: Apache-2.0
//! Connections a second: connect, ask, read the answer, close, and again.
//!
//! Server and client are as lean as can be, without the asynchronous ones of the other parts:
//! what they cost would hide what the proxy costs.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use proxy_tests::topology::Host;

use crate::progress::Part;

use super::{
    cluster::Cluster,
    comparison::{Comparison, Quantity},
    verdict::Problems,
};

/// The port of the server.
pub(super) const PORT: u16 = 8000;

/// How long connections are counted each time. Short, and often: the machine is not as fast in
/// one second as in the next.
const ROUND: Duration = Duration::from_millis(100);

/// How long a connection may take.
const PATIENCE: Duration = Duration::from_secs(2);

const RATE: Quantity =
    Quantity { what: "connections", unit: "1/s", digits: 0, port: PORT, rounds: 25, goal: 0.8 };

/// Answers one byte on each connection and closes it; ends when dropped.
pub(super) struct ConnectionServer<'a> {
    pod: &'a Host,
    ending: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl<'a> ConnectionServer<'a> {
    /// Starts it in `pod`, for both families.
    ///
    /// # Errors
    ///
    /// If the port is taken.
    pub(super) fn start(pod: &'a Host) -> Result<Self> {
        let listener = pod.namespace().run(|| {
            let any = (Ipv6Addr::UNSPECIFIED, PORT);
            TcpListener::bind(any).with_context(|| format!("cannot listen on {PORT}"))
        })?;
        let ending = Arc::new(AtomicBool::new(false));
        let end = Arc::clone(&ending);
        let serve = move || {
            for mut stream in listener.incoming().flatten() {
                if end.load(Ordering::Relaxed) {
                    break;
                }
                // The client may be gone.
                let mut byte = [0];
                let _ = stream.read_exact(&mut byte).and_then(|()| stream.write_all(&byte));
            }
        };
        let thread = thread::Builder::new().name("connections".to_owned()).spawn(serve)?;
        Ok(Self { pod, ending, thread: Some(thread) })
    }
}

impl Drop for ConnectionServer<'_> {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::Relaxed);
        let woken =
            self.pod.namespace().run(|| Ok(TcpStream::connect((Ipv6Addr::LOCALHOST, PORT))?));
        if woken.is_ok()
            && let Some(thread) = self.thread.take()
        {
            let _ = thread.join();
        }
    }
}

/// Measures how many connections a second one client makes, one after the other.
pub(super) fn run(cluster: &Cluster<'_>, problems: &mut Problems) -> Vec<Comparison> {
    let part = Part::new(
        "connections a second, directly to the pod and through its ClusterIP in turns",
        RATE.steps(),
    );
    let client = cluster.measuring().namespace();
    RATE.compare(cluster, &part, problems, |target| client.run(|| rate(target)))
}

fn rate(target: SocketAddr) -> Result<f64> {
    let start = Instant::now();
    let mut count = 0;
    while start.elapsed() < ROUND {
        connection(target).with_context(|| format!("connection {count} to {target}"))?;
        count += 1;
    }
    Ok(f64::from(count) / start.elapsed().as_secs_f64())
}

fn connection(target: SocketAddr) -> Result<()> {
    let mut stream = TcpStream::connect_timeout(&target, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(&[1])?;
    let mut byte = [0];
    stream.read_exact(&mut byte)?;
    // The server closes first: the client's ports are free again at once.
    anyhow::ensure!(stream.read(&mut byte)? == 0, "more came than was asked for");
    Ok(())
}
