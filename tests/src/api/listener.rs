// SPDX-License-Identifier: Apache-2.0

//! HTTP and HTTPS servers that can go and come back at their address.

use std::io;
use std::net::{SocketAddr, TcpListener as StdTcpListener};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use futures_util::future::BoxFuture;
use http_body_util::combinators::BoxBody;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use socket2::{Domain, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use crate::netns::Namespace;

/// The body of an answer; an error in it breaks the connection.
pub(super) type Body = BoxBody<Bytes, io::Error>;

/// An answer, or that the connection breaks without one.
pub(super) type Reply = io::Result<Response<Body>>;

/// Answers requests.
pub(super) type Handler =
    Arc<dyn Fn(Request<Incoming>, Arc<Peer>) -> BoxFuture<'static, Reply> + Send + Sync>;

/// The connection that a request came by.
pub(super) struct Peer(Mutex<Option<OwnedFd>>);

impl Peer {
    /// Makes the connection end by a RST when it ends.
    pub(super) fn reset(&self) {
        if let Some(socket) = lock(&self.0).take() {
            // It may have ended by itself.
            let _ = SockRef::from(&socket).set_linger(Some(Duration::ZERO));
        }
    }
}

/// A server at an address. It ends, with all its connections, when dropped.
pub(super) struct Listener {
    address: SocketAddr,
    tls: Option<Arc<ServerConfig>>,
    handler: Handler,
    runtime: Handle,
    /// Accepts connections.
    accepting: Mutex<Option<JoinHandle<()>>>,
    connections: Arc<Mutex<JoinSet<()>>>,
    socket: StdTcpListener,
}

impl Listener {
    /// Listens at `address` (port 0: any), in a namespace if one is given.
    pub(super) fn start(
        address: SocketAddr,
        namespace: Option<&Namespace>,
        tls: Option<Arc<ServerConfig>>,
        handler: Handler,
        runtime: &Handle,
    ) -> Result<Self> {
        let socket = match namespace {
            Some(namespace) => namespace.run(|| bind(address))?,
            None => bind(address)?,
        };
        let address = socket.local_addr()?;
        let listener = Self {
            address,
            tls,
            handler,
            runtime: runtime.clone(),
            accepting: Mutex::default(),
            connections: Arc::default(),
            socket,
        };
        listener.up()?;
        Ok(listener)
    }

    /// Where it listens.
    pub(super) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Breaks all connections, and breaks new ones as soon as they are there.
    pub(super) fn down(&self) {
        self.stop();
        if let Ok(socket) = self.socket.try_clone() {
            let refusing = self.runtime.spawn(async move {
                let Ok(listener) = TcpListener::from_std(socket) else { return };
                while let Ok((stream, _)) = listener.accept().await {
                    let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
                }
            });
            drop(lock(&self.accepting).replace(refusing));
        }
    }

    /// Breaks all connections, and accepts new ones.
    pub(super) fn up(&self) -> Result<()> {
        self.stop();
        let socket = self.socket.try_clone()?;
        let (tls, handler) = (self.tls.clone(), Arc::clone(&self.handler));
        let connections = Arc::clone(&self.connections);
        let accepting = self.runtime.spawn(async move {
            let Ok(listener) = TcpListener::from_std(socket) else { return };
            loop {
                if let Ok((stream, _)) = listener.accept().await {
                    let mut connections = lock(&connections);
                    let _ = connections.spawn(serve(stream, tls.clone(), Arc::clone(&handler)));
                    while connections.try_join_next().is_some() {}
                }
            }
        });
        drop(lock(&self.accepting).replace(accepting));
        Ok(())
    }

    /// Breaks all connections. None is left when this returns.
    fn stop(&self) {
        let accepting = lock(&self.accepting).take();
        let mut connections = std::mem::take(&mut *lock(&self.connections));
        self.runtime.block_on(async {
            if let Some(accepting) = accepting {
                accepting.abort();
                // It has been told to end.
                let _ = accepting.await;
            }
            connections.shutdown().await;
            let mut last = std::mem::take(&mut *lock(&self.connections));
            last.shutdown().await;
        });
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some(accepting) = lock(&self.accepting).take() {
            accepting.abort();
        }
        lock(&self.connections).abort_all();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn bind(address: SocketAddr) -> Result<StdTcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into()).with_context(|| format!("binding to {address}"))?;
    socket.listen(128)?;
    Ok(socket.into())
}

async fn serve(stream: TcpStream, tls: Option<Arc<ServerConfig>>, handler: Handler) {
    let _ = stream.set_nodelay(true);
    let peer = Arc::new(Peer(Mutex::new(stream.as_fd().try_clone_to_owned().ok())));
    let service = service_fn(move |request| handler(request, Arc::clone(&peer)));
    // The client may be gone, or leave at any time.
    match tls {
        None => {
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        }
        Some(tls) => {
            if let Ok(stream) = TlsAcceptor::from(tls).accept(stream).await {
                let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            }
        }
    }
}
