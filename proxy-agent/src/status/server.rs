// SPDX-License-Identifier: Apache-2.0
//! The thread that answers.

use std::{
    io,
    net::SocketAddr,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use hyper::{Request, body::Incoming};
use tokio::{
    runtime,
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::sleep,
};
use tracing::{debug, warn};

use super::{Health, Info};
use crate::{
    chain::chain,
    http_server::{self, Answer, Answering, Connections, Failure, Limits, Unspecified},
};

/// After which time it is tried again to listen (kube-proxy's).
const AGAIN: Duration = Duration::from_secs(5);

/// How many connections there may be at the place for tools: where these read nothing of a page of metrics, each holds one.
const OF_METRICS: usize = 256;

/// Where is listened, if anywhere.
#[derive(Clone, Copy, Debug, Default)]
pub struct Places {
    /// For load balancers and probes.
    pub healthz: Option<SocketAddr>,
    /// For tools.
    pub metrics: Option<SocketAddr>,
    /// Whether it is of no use to go on where this is not possible.
    pub hard_fail: bool,
}

/// Why nothing is answered at a place.
#[derive(Debug, thiserror::Error)]
#[error("cannot answer {what} at {address}")]
pub struct BindError {
    what: &'static str,
    address: SocketAddr,
    source: io::Error,
}

/// The servers, as long as they are held. Each has a thread of its own: who asks for metrics again and again, or where
/// these take long, keeps nobody from the answers about health.
#[derive(Debug)]
pub struct Servers {
    _threads: Vec<Serving>,
    fatal: mpsc::Receiver<BindError>,
}

/// A thread that serves until this is dropped.
#[derive(Debug)]
struct Serving {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Servers {
    /// Answers from now on.
    ///
    /// # Errors
    ///
    /// If there can be no further thread.
    pub fn begin(places: Places, health: Health, info: Info) -> io::Result<Self> {
        let (tell, fatal) = mpsc::channel(1);
        let hard_fail = places.hard_fail.then_some(tell);
        let mut threads = Vec::new();
        if let Some(address) = places.healthz {
            let answering = move |request: &Request<Incoming>| of_health(&health, request);
            let (what, limits) = ("health", Limits::default());
            let server = Server { what, address, limits, answering: Arc::new(answering) };
            threads.push(server.spawn(hard_fail.clone())?);
        }
        if let Some(address) = places.metrics {
            let answering = move |request: &Request<Incoming>| info.at(request.uri().path());
            let limits = Limits { connections: OF_METRICS, ..Limits::default() };
            let server =
                Server { what: "metrics", address, limits, answering: Arc::new(answering) };
            threads.push(server.spawn(hard_fail)?);
        }
        Ok(Self { _threads: threads, fatal })
    }

    /// Completes if it is of no use to go on.
    pub async fn failed(&mut self) -> BindError {
        match self.fatal.recv().await {
            Some(error) => error,
            None => std::future::pending().await,
        }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn of_health(health: &Health, request: &Request<Incoming>) -> Result<Answer, Failure> {
    match request.uri().path() {
        "/healthz" => health.healthz(),
        "/livez" => health.livez(),
        _ => Ok(http_server::not_found()),
    }
}

/// One address.
struct Server {
    what: &'static str,
    address: SocketAddr,
    limits: Limits,
    answering: Arc<Answering>,
}

impl Server {
    /// Serves in a thread of its own.
    fn spawn(self, hard_fail: Option<mpsc::Sender<BindError>>) -> io::Result<Serving> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = thread::Builder::new().name(self.what.to_owned());
        let serving = async move {
            let mut server = JoinSet::new();
            let _ = server.spawn(self.run(hard_fail));
            let _: Result<(), _> = stopped.await;
        };
        let thread = thread.spawn(move || runtime.block_on(serving))?;
        Ok(Serving { stop: Some(stop), thread: Some(thread) })
    }

    /// Serves there, and tries again where that is not possible; or tells it.
    async fn run(self, hard_fail: Option<mpsc::Sender<BindError>>) {
        let Self { what, address, limits, answering } = self;
        let mut failures = 0_u32;
        loop {
            match http_server::listen(address, Unspecified::Both) {
                Ok(listener) => {
                    debug!(%address, what, "answering");
                    let connections = Connections::new(limits.connections);
                    let name = format!("{what} at {address}");
                    http_server::serve(listener, name, connections, limits, answering).await;
                    return;
                }
                Err(source) => {
                    let error = BindError { what, address, source };
                    if let Some(tell) = hard_fail {
                        let _ = tell.send(error).await;
                        return;
                    }
                    if failures == 0 {
                        warn!(error = chain(&error), "trying again every five seconds");
                    }
                    failures = failures.saturating_add(1);
                    sleep(AGAIN).await;
                }
            }
        }
    }
}
