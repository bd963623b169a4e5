// SPDX-License-Identifier: Apache-2.0

//! Servers, as tasks of one runtime.

use std::net::{SocketAddr, TcpListener as StdTcpListener, UdpSocket as StdUdpSocket};
use std::sync::{Arc, LazyLock};

use anyhow::{Context as _, Result};
use tokio::io::{AsyncWriteExt as _, copy};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

use super::{answer, http, socket};
use crate::protocol::Protocol;
use crate::topology::Host;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;

/// The longest datagram that is answered, in bytes.
const LONGEST_DATAGRAM: usize = 65_536;

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("starting threads for servers")
});

/// The runtime that all servers and asynchronous clients share.
pub(crate) fn runtime() -> &'static Runtime {
    &RUNTIME
}

/// Sends the answer's line to each connection, then echoes what comes.
///
/// Ends, with all its connections, when dropped.
#[derive(Debug)]
pub struct TcpServer {
    _tasks: JoinSet<()>,
}

impl TcpServer {
    /// Listens on `port` of all addresses of `host`.
    pub fn start(host: &Host, port: u16) -> Result<Self> {
        Ok(Self { _tasks: listen(host, Protocol::Tcp, port, answer_and_echo)? })
    }
}

/// Does in each SCTP association what a [`TcpServer`] does in a connection.
///
/// Ends, with all its associations, when dropped.
#[derive(Debug)]
pub struct SctpServer {
    _tasks: JoinSet<()>,
}

impl SctpServer {
    /// Listens on `port` of all addresses of `host`. Each association has one
    /// of them only.
    pub fn start(host: &Host, port: u16) -> Result<Self> {
        Ok(Self { _tasks: listen(host, Protocol::Sctp, port, answer_and_echo)? })
    }
}

async fn answer_and_echo(name: Arc<str>, mut stream: TcpStream, source: SocketAddr) {
    // The client may be gone, or leave at any time.
    if stream.write_all(answer::line(&name, source).as_bytes()).await.is_ok() {
        let (mut from, mut to) = stream.split();
        let _ = copy(&mut from, &mut to).await;
    }
}

/// Answers each HTTP/1.1 request with the answer's line.
///
/// Ends, with all its connections, when dropped.
#[derive(Debug)]
pub struct HttpServer {
    _tasks: JoinSet<()>,
}

impl HttpServer {
    /// Listens on `port` of all addresses of `host`.
    pub fn start(host: &Host, port: u16) -> Result<Self> {
        let tasks = listen(host, Protocol::Tcp, port, |name, stream, source| async move {
            http::serve(stream, answer::line(&name, source)).await;
        })?;
        Ok(Self { _tasks: tasks })
    }
}

/// Answers each datagram with the answer's line and the datagram itself.
///
/// Ends when dropped.
#[derive(Debug)]
pub struct UdpServer {
    _tasks: JoinSet<()>,
}

impl UdpServer {
    /// Listens on `port` of all addresses of `host`.
    pub fn start(host: &Host, port: u16) -> Result<Self> {
        let mut tasks = JoinSet::new();
        let _guard = RUNTIME.enter();
        for address in host.addresses() {
            let socket = socket::bind(host, SocketAddr::new(address, port), Protocol::Udp)?;
            let socket = UdpSocket::from_std(StdUdpSocket::from(socket))?;
            drop(tasks.spawn(answer_datagrams(host.name().to_owned(), socket)));
        }
        Ok(Self { _tasks: tasks })
    }
}

async fn answer_datagrams(name: String, socket: UdpSocket) {
    let mut datagram = vec![0; LONGEST_DATAGRAM];
    loop {
        // Errors are ICMP messages about earlier answers.
        let Ok((length, source)) = socket.recv_from(&mut datagram).await else {
            continue;
        };
        let mut reply = answer::line(&name, source).into_bytes();
        reply.extend_from_slice(&datagram[..length]);
        let _ = socket.send_to(&reply, source).await;
    }
}

/// Calls `serve` with the host's name, the connection and the client's
/// address for each connection of a protocol that has them.
///
/// All ends with what it returns.
pub(crate) fn listen<S, T>(
    host: &Host,
    protocol: Protocol,
    port: u16,
    serve: S,
) -> Result<JoinSet<()>>
where
    S: Fn(Arc<str>, TcpStream, SocketAddr) -> T + Clone + Send + Sync + 'static,
    T: Future<Output = ()> + Send + 'static,
{
    let mut tasks = JoinSet::new();
    let _guard = RUNTIME.enter();
    let name: Arc<str> = host.name().into();
    for address in host.addresses() {
        let socket = socket::bind(host, SocketAddr::new(address, port), protocol)?;
        socket.listen(BACKLOG).with_context(|| format!("listening in {name}"))?;
        let listener = TcpListener::from_std(StdTcpListener::from(socket))?;
        let (name, serve) = (Arc::clone(&name), serve.clone());
        drop(tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, source)) = listener.accept().await {
                drop(connections.spawn(serve(Arc::clone(&name), stream, source)));
                while connections.try_join_next().is_some() {}
            }
        }));
    }
    Ok(tasks)
}
