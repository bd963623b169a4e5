// SPDX-License-Identifier: Apache-2.0

//! A proxy in front of an API server that lets things go wrong, and notes what was asked.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use futures_util::{FutureExt as _, stream};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::{Request, Response, header};
use rustls::ServerConfig;
use serde_json::{Value, json};
use tokio::runtime::Handle;
use tokio::time::sleep;

use super::client::Upstream;
use super::fault::{Fault, Verb, Which};
use super::kind::Kind;
use super::listener::{Body, Listener, Peer, Reply};
use super::query::{Query, status};
use super::relay;
use super::replay::refusal;
use super::watch::{INITIAL_EVENTS_END, line};

/// A request that was made.
#[derive(Clone, Debug)]
pub struct Asked {
    /// `GET` and so on.
    pub method: String,
    /// The kind of the objects.
    pub kind: Option<Kind>,
    /// Its parameters.
    pub query: Query,
}

impl Asked {
    /// What it asked for.
    #[must_use]
    pub fn verb(&self) -> Verb {
        Verb::of(&self.query)
    }
}

/// The proxy. It ends when dropped.
pub struct FaultProxy {
    shared: Arc<Shared>,
    listener: Listener,
}

struct Shared {
    upstream: Upstream,
    planned: Mutex<Vec<(Which, usize, Fault)>>,
    asked: Mutex<Vec<Asked>>,
}

/// Locks what only tests and their servers use.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl FaultProxy {
    /// A proxy at an address (port 0: any), by TLS or without.
    pub fn start(
        address: SocketAddr,
        tls: Option<Arc<ServerConfig>>,
        upstream: Upstream,
        runtime: &Handle,
    ) -> Result<Self> {
        let shared =
            Arc::new(Shared { upstream, planned: Mutex::default(), asked: Mutex::default() });
        let serving = Arc::clone(&shared);
        let handler = Arc::new(move |request, peer: Arc<Peer>| {
            answer(Arc::clone(&serving), request, peer).boxed()
        });
        let listener = Listener::start(address, None, tls, handler, runtime)?;
        Ok(Self { shared, listener })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.listener.address()
    }

    /// Lets this happen to the next `times` requests of these.
    pub fn plan(&self, which: Which, times: usize, fault: Fault) {
        lock(&self.shared.planned).push((which, times, fault));
    }

    /// Lets nothing happen any more to requests that come.
    pub fn calm(&self) {
        lock(&self.shared.planned).clear();
    }

    /// Whether everything that was planned has happened.
    #[must_use]
    pub fn is_done(&self) -> bool {
        lock(&self.shared.planned).iter().all(|(_, times, _)| *times == 0)
    }

    /// What has been asked since this was called last.
    #[must_use]
    pub fn take_asked(&self) -> Vec<Asked> {
        std::mem::take(&mut lock(&self.shared.asked))
    }

    /// What has been asked.
    #[must_use]
    pub fn asked(&self) -> Vec<Asked> {
        lock(&self.shared.asked).clone()
    }

    /// Breaks all connections, and those that come.
    pub fn down(&self) {
        self.listener.down();
    }

    /// Breaks all connections, but not those that come.
    pub fn cut(&self) -> Result<()> {
        self.listener.up()
    }

    /// Serves again.
    pub fn up(&self) -> Result<()> {
        self.listener.up()
    }
}

async fn answer(shared: Arc<Shared>, request: Request<Incoming>, peer: Arc<Peer>) -> Reply {
    let mut query = Query::of(request.uri());
    let kind = Kind::of_path(request.uri().path());
    let verb = Verb::of(&query);
    let method = request.method().to_string();
    lock(&shared.asked).push(Asked { method, kind, query: query.clone() });
    let fault = kind.and_then(|kind| {
        let mut planned = lock(&shared.planned);
        let mut due = planned.iter_mut().filter(|(_, times, _)| *times > 0);
        let (_, times, fault) = due.find(|(which, ..)| which.matches(kind, verb))?;
        *times -= 1;
        Some(fault.clone())
    });
    match &fault {
        Some(Fault::Status { status, retry_after }) => {
            let mut response = refusal(status);
            if let Some(seconds) = retry_after {
                let seconds = header::HeaderValue::from(*seconds);
                drop(response.headers_mut().insert(header::RETRY_AFTER, seconds));
            }
            return Ok(response);
        }
        Some(Fault::Stall) => return std::future::pending().await,
        Some(Fault::Reset) => {
            peer.reset();
            return Err(std::io::ErrorKind::ConnectionReset.into());
        }
        Some(Fault::Absent) => {
            return Ok(refusal(&status(404, "NotFound", "404 page not found")));
        }
        Some(Fault::RefuseStreaming) if verb == Verb::Stream => {
            let refused = "sendInitialEvents: Forbidden: sendInitialEvents is forbidden for watch \
                           unless the WatchList feature gate is enabled";
            return Ok(refusal(&status(422, "Invalid", refused)));
        }
        Some(Fault::IgnoreStreaming) => {
            query.remove("sendInitialEvents");
            query.remove("resourceVersionMatch");
        }
        Some(Fault::Stale(stale)) => return Ok(Response::new(old(stale, verb))),
        Some(Fault::Delay(time)) if verb == Verb::List => sleep(*time).await,
        _ => {}
    }
    let path = format!("{}?{}", request.uri().path(), query.encode());
    let asked = match shared.upstream.get(&path) {
        Ok(request) => shared.upstream.send(request).await,
        Err(error) => Err(error),
    };
    let (mut parts, body) = asked.map_err(std::io::Error::other)?.into_parts();
    drop(parts.headers.remove(header::CONTENT_LENGTH));
    drop(parts.headers.remove(header::TRANSFER_ENCODING));
    let body = if verb == Verb::List || !parts.status.is_success() {
        let text = body.collect().await.map_err(std::io::Error::other)?.to_bytes();
        relay::list(&text, fault.as_ref())
    } else {
        relay::events(body, fault)
    };
    Ok(Response::from_parts(parts, body))
}

/// What a server answers that is behind.
fn old(list: &Value, verb: Verb) -> Body {
    let mut lines = Vec::new();
    match verb {
        Verb::List => lines.push(Bytes::from(list.to_string())),
        Verb::Watch => {}
        Verb::Stream => {
            let items = list["items"].as_array().into_iter().flatten();
            lines.extend(items.map(|item| line("ADDED", item)));
            let mut metadata = list["metadata"].clone();
            metadata["annotations"] = json!({ INITIAL_EVENTS_END: "true" });
            lines.push(line("BOOKMARK", &json!({ "metadata": metadata })));
        }
    }
    let frames = lines.into_iter().map(|line| Ok(Frame::data(line)));
    StreamBody::new(stream::iter(frames)).boxed()
}
