// SPDX-License-Identifier: Apache-2.0

//! Servers that note what they are asked.

use std::collections::HashMap;
use std::net::{SocketAddr, UdpSocket as StdUdpSocket};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::task::JoinSet;

use super::request::RequestId;
use crate::protocol::Protocol;
use crate::topology::Host;
use crate::traffic::{bind, listen, runtime};

/// How often servers have answered each request.
#[derive(Debug, Default)]
pub(super) struct Ledger(Mutex<HashMap<RequestId, u32>>);

impl Ledger {
    fn note(&self, id: RequestId) {
        *self.read().entry(id).or_default() += 1;
    }

    /// What has been noted.
    pub(super) fn read(&self) -> MutexGuard<'_, HashMap<RequestId, u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Answers requests by TCP, one after the other on each connection, and by UDP, each with its id and
/// the host's name, and notes them before.
///
/// Ends, with all its connections, when dropped.
#[derive(Debug)]
pub(super) struct Server {
    _connections: JoinSet<()>,
    _datagrams: JoinSet<()>,
}

impl Server {
    /// Serves at `port` of all addresses of `host`.
    pub(super) fn start(host: &Host, port: u16, ledger: &Arc<Ledger>) -> Result<Self> {
        let noted = Arc::clone(ledger);
        let connections = listen(host, Protocol::Tcp, port, move |name, stream, _| {
            serve_connection(name, stream, Arc::clone(&noted))
        })?;
        let mut datagrams = JoinSet::new();
        let _guard = runtime().enter();
        for address in host.addresses() {
            let socket = bind(host, SocketAddr::new(address, port), Protocol::Udp)?;
            let socket = UdpSocket::from_std(StdUdpSocket::from(socket))?;
            let (name, ledger) = (host.name().to_owned(), Arc::clone(ledger));
            drop(datagrams.spawn(serve_datagrams(name, socket, ledger)));
        }
        Ok(Self { _connections: connections, _datagrams: datagrams })
    }
}

/// Ends with the client's end of the connection.
async fn serve_connection(name: Arc<str>, mut stream: TcpStream, ledger: Arc<Ledger>) {
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let mut request = [0; RequestId::LENGTH];
    while stream.read_exact(&mut request).await.is_ok() {
        let id = RequestId::from_bytes(request);
        ledger.note(id);
        if stream.write_all(&id.answer(&name)).await.is_err() {
            return;
        }
    }
}

async fn serve_datagrams(name: String, socket: UdpSocket, ledger: Arc<Ledger>) {
    let mut request = [0; RequestId::LENGTH + 1];
    loop {
        // Errors are ICMP messages about earlier answers.
        let Ok((length, source)) = socket.recv_from(&mut request).await else {
            continue;
        };
        if let Ok(bytes) = request[..length].try_into() {
            let id = RequestId::from_bytes(bytes);
            ledger.note(id);
            let _ = socket.send_to(&id.answer(&name), source).await;
        }
    }
}
