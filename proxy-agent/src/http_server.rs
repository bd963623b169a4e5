// SPDX-License-Identifier: Apache-2.0
//! HTTP servers that everybody may reach who reaches the node: bounded in time, in size and in connections. What is
//! sent with a request is not read.

use std::{
    fmt,
    future::ready,
    io,
    net::{Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::{io::Errno, net::sockopt::set_ipv6_v6only};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    task::JoinSet,
    time::sleep,
};
use tokio_io_timeout::TimeoutStream;
use tracing::warn;

use crate::backoff;

mod connections;

pub(crate) use connections::Connections;

/// How many connections may wait to be accepted; the kernel takes less if `net.core.somaxconn` says
/// so.
const BACKLOG: u32 = 1024;
/// How much of a request may come until its headers have ended.
const LONGEST_HEADERS: usize = 16 * 1024;

/// What is answered.
pub(crate) type Answer = Response<Full<Bytes>>;
/// Why nothing is, but the connection is closed: a body cannot be written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// As JSON.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// For Prometheus.
    #[error(transparent)]
    Metrics(#[from] prometheus::Error),
}
/// What answers a request, at once.
pub(crate) type Answering = dyn Fn(&Request<Incoming>) -> Result<Answer, Failure> + Send + Sync;

/// What clients may ask of the agent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// How long a connection may take until the headers of its next request have come.
    pub(crate) request: Duration,
    /// How long a client may take nothing of an answer.
    pub(crate) answer: Duration,
    /// How many connections there may be, at all places of a server together.
    pub(crate) connections: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { request: Duration::from_mins(1), answer: Duration::from_secs(10), connections: 1024 }
    }
}

/// Who listens at `0.0.0.0` and at `::`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unspecified {
    /// Both families, as Go's `tcp` has it.
    Both,
    /// The address's own family alone, as Go's `tcp4` and `tcp6` have it.
    Own,
}

/// Listens as Go does: at an address that connections have been to a moment ago, too.
///
/// # Errors
///
/// Those of the kernel: above all, somebody else listens there, or the node has no such address.
pub(crate) fn listen(address: SocketAddr, unspecified: Unspecified) -> io::Result<TcpListener> {
    let takes_both = unspecified == Unspecified::Both && address.ip().is_unspecified();
    if takes_both && address.is_ipv4() {
        match bind(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), address.port()), true) {
            Err(error) if is_without_ipv6(&error) => {}
            bound => return bound?.listen(BACKLOG),
        }
    }
    bind(address, takes_both)?.listen(BACKLOG)
}

fn bind(address: SocketAddr, takes_both: bool) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        let socket = TcpSocket::new_v6()?;
        set_ipv6_v6only(&socket, !takes_both)?;
        socket
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

/// Whether the node has no IPv6, or not even the protocol.
fn is_without_ipv6(error: &io::Error) -> bool {
    let codes = [Errno::AFNOSUPPORT, Errno::ADDRNOTAVAIL].map(Errno::raw_os_error);
    error.raw_os_error().is_some_and(|code| codes.contains(&code))
}

/// Serves everybody who connects. With it end all its connections.
pub(crate) async fn serve(
    listener: TcpListener,
    what: impl fmt::Display,
    connections: Connections,
    limits: Limits,
    answering: Arc<Answering>,
) {
    let mut open = JoinSet::new();
    let mut failures = 0;
    loop {
        while open.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, _)) => {
                connections.add(open.spawn(converse(stream, limits, Arc::clone(&answering))));
                failures = 0;
            }
            Err(error) => {
                if failures == 0 {
                    warn!(%error, "cannot accept connections to {what}, will try again");
                }
                sleep(backoff::pause(failures)).await;
                failures = failures.saturating_add(1);
            }
        }
    }
}

/// Answers the requests of a connection until it ends, or breaks a limit.
async fn converse(stream: TcpStream, limits: Limits, answering: Arc<Answering>) {
    let service = service_fn(move |request| ready(answering(&request)));
    let mut http = http1::Builder::new();
    let _ = http
        .timer(TokioTimer::new())
        .header_read_timeout(limits.request)
        .max_buf_size(LONGEST_HEADERS)
        .title_case_headers(true);
    // An answer is not held back. The client may leave at any time, or send what is no request.
    let _ = stream.set_nodelay(true);
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(limits.answer));
    drop(http.serve_connection(TokioIo::new(Box::pin(stream)), service).await);
}

/// An answer with a text, as Go's `http.Error` and kube-proxy write it.
pub(crate) fn text(status: StatusCode, text: &'static str) -> Answer {
    of_type("text/plain; charset=utf-8", status, text.into())
}

/// What Go answers where there is nothing.
pub(crate) fn not_found() -> Answer {
    text(StatusCode::NOT_FOUND, "404 page not found\n")
}

/// An answer that browsers must not guess about.
pub(crate) fn of_type(content_type: &'static str, status: StatusCode, body: Bytes) -> Answer {
    let mut answer = Response::new(Full::from(body));
    *answer.status_mut() = status;
    answer.headers_mut().extend([
        (header::CONTENT_TYPE, HeaderValue::from_static(content_type)),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ]);
    answer
}
