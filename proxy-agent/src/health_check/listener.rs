// SPDX-License-Identifier: Apache-2.0
//! One port at one address, and the connections there.

use std::{future::ready, io, net::SocketAddr, sync::Arc, time::Duration};

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::net::sockopt::set_ipv6_v6only;
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::watch,
    task::JoinSet,
    time::sleep,
};
use tracing::warn;

use super::{HealthChecks, answer::answer, connections::Connections, failing::Place};
use crate::backoff;

/// How many connections may wait to be accepted; the kernel takes less if `net.core.somaxconn` says
/// so.
const BACKLOG: u32 = 1024;
/// How much of a request may come until its headers have ended.
const LONGEST_HEADERS: usize = 16 * 1024;

/// What one client may ask of the agent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// How long a connection may take until the headers of its next request have come.
    pub(super) request: Duration,
    /// How many connections there may be, at all ports together.
    pub(super) connections: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { request: Duration::from_mins(1), connections: 1024 }
    }
}

/// What answers are made of, and by whom.
#[derive(Clone, Debug)]
pub(super) struct Serving {
    pub(super) checks: watch::Receiver<HealthChecks>,
    pub(super) healthy: watch::Receiver<bool>,
    pub(super) connections: Connections,
    pub(super) limits: Limits,
}

/// Listens as Go's `tcp4` and `tcp6` do: at an address that connections have been to a moment ago,
/// too, and at IPv6 addresses for IPv6 alone.
///
/// # Errors
///
/// Those of the kernel: above all, somebody else listens there, or the node has no such address.
pub(super) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => {
            let socket = TcpSocket::new_v6()?;
            set_ipv6_v6only(&socket, true)?;
            socket
        }
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves everybody who connects at this place. With it end all its connections.
pub(super) async fn serve(listener: TcpListener, place: Place, serving: Serving) {
    let served = Arc::new((place, serving));
    let (Place { service, address }, Serving { connections, .. }) = &*served;
    let mut open = JoinSet::new();
    let mut failures = 0;
    loop {
        while open.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, _)) => {
                connections.add(open.spawn(converse(stream, Arc::clone(&served))));
                failures = 0;
            }
            Err(error) => {
                if failures == 0 {
                    warn!(%service, %address, %error, "cannot accept health checks, will try again");
                }
                sleep(backoff::pause(failures)).await;
                failures = failures.saturating_add(1);
            }
        }
    }
}

/// Answers the requests of a connection until it ends, or breaks a limit.
async fn converse(stream: TcpStream, served: Arc<(Place, Serving)>) {
    let limits = served.1.limits;
    let service = service_fn(move |_| {
        let (Place { service, address }, Serving { checks, healthy, .. }) = &*served;
        let endpoints = checks.borrow().get(service).map(|check| check.local_endpoints);
        let count = endpoints.and_then(|endpoints| endpoints.in_family_of(address.ip()));
        let healthy = *healthy.borrow();
        // Where there is nothing to be told any more, the connection is about to be closed.
        ready(answer(service, count.unwrap_or(0), healthy))
    });
    let mut http = http1::Builder::new();
    let _ = http
        .timer(TokioTimer::new())
        .header_read_timeout(limits.request)
        .max_buf_size(LONGEST_HEADERS)
        .title_case_headers(true);
    // An answer is small, and not held back. The client may leave at any time, or send what is no
    // request.
    let _ = stream.set_nodelay(true);
    drop(http.serve_connection(TokioIo::new(stream), service).await);
}
