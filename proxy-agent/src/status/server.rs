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

/// The servers, as long as they are held.
#[derive(Debug)]
pub struct Servers {
    /// Dropped, it ends the thread.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    fatal: mpsc::Receiver<BindError>,
}

impl Servers {
    /// Answers from now on.
    ///
    /// # Errors
    ///
    /// If there can be no further thread.
    pub fn begin(places: Places, health: Health, info: Info) -> io::Result<Self> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        let (tell, fatal) = mpsc::channel(1);
        let serving = async move {
            let mut servers = JoinSet::new();
            let hard_fail = places.hard_fail.then_some(tell);
            if let Some(address) = places.healthz {
                let answering = move |request: &Request<Incoming>| of_health(&health, request);
                let server = Server { what: "health", address, answering: Arc::new(answering) };
                let _ = servers.spawn(server.run(hard_fail.clone()));
            }
            if let Some(address) = places.metrics {
                let answering =
                    move |request: &Request<Incoming>| Ok(info.at(request.uri().path()));
                let server = Server { what: "metrics", address, answering: Arc::new(answering) };
                let _ = servers.spawn(server.run(hard_fail));
            }
            let _: Result<(), _> = stopped.await;
        };
        let thread = thread::Builder::new().name("status".to_owned());
        let thread = thread.spawn(move || runtime.block_on(serving))?;
        Ok(Self { stop: Some(stop), thread: Some(thread), fatal })
    }

    /// Completes if it is of no use to go on.
    pub async fn failed(&mut self) -> BindError {
        match self.fatal.recv().await {
            Some(error) => error,
            None => std::future::pending().await,
        }
    }
}

impl Drop for Servers {
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
    answering: Arc<Answering>,
}

impl Server {
    /// Serves there, and tries again where that is not possible; or tells it.
    async fn run(self, hard_fail: Option<mpsc::Sender<BindError>>) {
        let Self { what, address, answering } = self;
        let mut failures = 0_u32;
        loop {
            match http_server::listen(address, Unspecified::Both) {
                Ok(listener) => {
                    debug!(%address, what, "answering");
                    let limits = Limits::default();
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
