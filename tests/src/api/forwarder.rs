// SPDX-License-Identifier: Apache-2.0

//! A door to an API server in another network namespace. It passes on bytes, and notes when.

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use anyhow::Result;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::task::{JoinHandle, JoinSet};

use crate::netns::Namespace;

/// How many of the last times are kept.
const KEPT: usize = 1 << 12;
/// How many bytes are passed on at once, at most.
const PIECE: usize = 1 << 18;

/// Listens at a loopback port of a namespace, and passes connections on to a server that the calling
/// thread's namespace reaches. It ends, with all connections, when dropped.
#[derive(Debug)]
pub struct Forwarder {
    address: SocketAddr,
    answered: Answered,
    accepting: JoinHandle<()>,
}

/// When bytes of the server were passed on, the last of all times.
#[derive(Clone, Debug, Default)]
struct Answered(Arc<Mutex<VecDeque<Instant>>>);

impl Forwarder {
    /// Listens in a namespace.
    pub fn start(namespace: &Namespace, server: SocketAddr, runtime: &Handle) -> Result<Self> {
        let listener = namespace.run(|| {
            let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
            listener.set_nonblocking(true)?;
            Ok(listener)
        })?;
        let address = listener.local_addr()?;
        let answered = Answered::default();
        let _guard = runtime.enter();
        let listener = TcpListener::from_std(listener)?;
        let accepting = runtime.spawn(accept(listener, server, answered.clone()));
        Ok(Self { address, answered, accepting })
    }

    /// Where it listens, in the namespace.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// When the server's first bytes at or after a time were passed on, if these have come, and are
    /// among the last four thousand pieces.
    #[must_use]
    pub fn first_answer_since(&self, time: Instant) -> Option<Instant> {
        let times = self.answered.times();
        times.get(times.partition_point(|passed| *passed < time)).copied()
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Answered {
    fn times(&self) -> MutexGuard<'_, VecDeque<Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self) {
        let mut times = self.times();
        if times.len() == KEPT {
            let _ = times.pop_front();
        }
        times.push_back(Instant::now());
    }
}

/// Connections end with this task, as it owns theirs.
async fn accept(listener: TcpListener, server: SocketAddr, answered: Answered) {
    let mut connections = JoinSet::new();
    loop {
        if let Ok((client, _)) = listener.accept().await {
            let answered = answered.clone();
            let _ = connections.spawn(async move {
                // Either may be gone, and the other one sees that.
                let _ = forward(client, server, &answered).await;
            });
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn forward(client: TcpStream, server: SocketAddr, answered: &Answered) -> io::Result<()> {
    let server = TcpStream::connect(server).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let both = tokio::try_join!(
        pass_on(from_client, to_server, || ()),
        pass_on(from_server, to_client, || answered.note()),
    );
    both.map(|_| ())
}

/// Passes bytes on until there are no more, and the end, too.
async fn pass_on(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    note: impl Fn(),
) -> io::Result<()> {
    let mut bytes = vec![0; PIECE];
    loop {
        let length = from.read(&mut bytes).await?;
        if length == 0 {
            return to.shutdown().await;
        }
        // Before they can have been read.
        note();
        to.write_all(&bytes[..length]).await?;
    }
}
