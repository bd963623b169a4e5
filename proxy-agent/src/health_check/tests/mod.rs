// SPDX-License-Identifier: Apache-2.0
//! The server, asked through sockets of the loopback device.

mod answers;
mod clients;
mod places;

use std::{
    collections::BTreeSet,
    future::Future,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
    time::Duration,
};

use proxy_common::{Family, V4, V6};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::{mpsc, watch},
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{HealthCheck, HealthChecks, LocalEndpoints, Server};
use crate::{
    events::{Event, Events},
    http_server::Limits,
    model::ServiceName,
};

const NODE: &str = "anc-node";
/// What a kube-proxy has answered for the Service `anc/lb-local`, of which it had one endpoint.
const RECORDED: &str = include_str!("kube-proxy.http");
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(10);

/// Runs a test.
fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { timeout(PATIENCE, test).await.unwrap() });
}

/// A server, and what it goes by. It ends when this is dropped.
struct Stage {
    checks: watch::Sender<HealthChecks>,
    healthy: watch::Sender<bool>,
    addresses: watch::Sender<BTreeSet<IpAddr>>,
    events: mpsc::Receiver<Event>,
    running: JoinSet<()>,
}

impl Stage {
    /// A server that listens at the loopback addresses of both families.
    fn new() -> Self {
        Self::with(Limits::default())
    }

    fn with(limits: Limits) -> Self {
        let checks = watch::Sender::new(HealthChecks::new());
        let healthy = watch::Sender::new(true);
        let addresses = watch::Sender::new([loopback::<V4>(), loopback::<V6>()].into());
        let (told, events) = Events::queued();
        let (watched, well) = (checks.subscribe(), healthy.subscribe());
        let server = Server::new(watched, well, addresses.subscribe(), NODE, told);
        let mut running = JoinSet::new();
        let _ = running.spawn(server.with_limits(limits).run());
        Self { checks, healthy, addresses, events, running }
    }

    /// Wants the health checks of a Service to be answered.
    fn want(&self, name: &str, port: u16, local_endpoints: LocalEndpoints) {
        let uid = Some(format!("uid-of-{name}").into());
        let check = HealthCheck { port, uid, local_endpoints };
        self.checks.send_modify(|checks| {
            drop(checks.insert(service(name), check));
        });
    }

    /// Wants the health checks of a Service to be answered no more.
    fn forget(&self, name: &str) {
        self.checks.send_modify(|checks| {
            drop(checks.remove(&service(name)));
        });
    }
}

fn service(name: &str) -> ServiceName {
    ServiceName::new("anc", name)
}

/// So many endpoints, in both families.
fn both(count: usize) -> LocalEndpoints {
    LocalEndpoints::default().with::<V4>(count).with::<V6>(count)
}

fn loopback<F: Family>() -> IpAddr {
    [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()][F::INDEX as usize]
}

/// A port that nobody listens at, nor connects from.
fn free_port<F: Family>() -> u16 {
    let mut ports = std::iter::repeat_with(|| fastrand::u16(20_000..30_000));
    ports.find(|port| TcpListener::bind((loopback::<F>(), *port)).is_ok()).unwrap()
}

/// Connects, as soon as somebody listens.
async fn connect<F: Family>(port: u16) -> TcpStream {
    loop {
        match TcpStream::connect(SocketAddr::new(loopback::<F>(), port)).await {
            Ok(stream) => return stream,
            Err(_) => sleep(PAUSE).await,
        }
    }
}

/// Waits until nobody listens.
async fn wait_closed<F: Family>(port: u16) {
    while TcpStream::connect(SocketAddr::new(loopback::<F>(), port)).await.is_ok() {
        sleep(PAUSE).await;
    }
}

/// Sends a request and receives an answer: as much as this one, or until the connection ends.
async fn ask(stream: &mut TcpStream, request: &str, expected: Option<&str>) -> String {
    let expected = expected.map_or(usize::MAX, str::len);
    let mut answer = Vec::new();
    // The other side may close the connection at any time.
    let _ = stream.write_all(request.as_bytes()).await;
    while answer.len() < expected && stream.read_buf(&mut answer).await.is_ok_and(|read| read > 0) {
    }
    String::from_utf8(answer).unwrap()
}

/// The answer to a health check on a connection of its own.
async fn check<F: Family>(port: u16) -> String {
    let mut stream = connect::<F>(port).await;
    ask(&mut stream, "GET /healthz HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n", None).await
}

/// Whether the other side has closed a connection.
async fn is_closed(stream: &mut TcpStream) -> bool {
    !matches!(timeout(PAUSE, stream.read(&mut [0])).await, Ok(Ok(1)) | Err(_))
}

/// Waits until the other side closes a connection.
async fn wait_end(stream: &mut TcpStream) {
    while !is_closed(stream).await {}
}
