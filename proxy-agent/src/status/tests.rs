// SPDX-License-Identifier: Apache-2.0
//! Real clients of real servers.

use std::{
    collections::BTreeSet,
    io::{Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use proxy_common::Family;
use tokio::sync::watch;

use super::*;
use crate::{
    both_families::in_both_families,
    config::KubeProxyConfiguration,
    metrics::{HealthAnswers, Page},
    runner::{FamilyProgress, NodeState, Progress},
};

in_both_families!(
    answers_are_those_of_kube_proxy,
    a_lagging_family_is_told_of,
    metrics_count_answers,
    a_place_that_is_taken_is_tried_again,
    hostile_clients_do_not_stop_others,
);

/// What a kube-proxy has answered.
const HEALTHZ: &str = include_str!("tests/healthz.http");
const LIVEZ: &str = include_str!("tests/livez.http");
const METRICS_HEALTHZ: &str = include_str!("tests/metrics-healthz.http");
const METRICS_ROOT: &str = include_str!("tests/metrics-root.http");
const PROXY_MODE: &str = include_str!("tests/proxyMode.http");

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(20);

fn loopback<F: Family>(port: u16) -> SocketAddr {
    let v4 = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let ip = if F::INDEX == 0 { v4 } else { Ipv6Addr::LOCALHOST.into() };
    SocketAddr::new(ip, port)
}

/// An address at which nobody listens.
fn free<F: Family>() -> SocketAddr {
    TcpListener::bind(loopback::<F>(0)).unwrap().local_addr().unwrap()
}

fn progress(queued: Option<tokio::time::Instant>) -> Progress {
    let updated = Some(SystemTime::now());
    let families = ["IPv4", "IPv6"].map(|family| FamilyProgress { family, updated, queued });
    Progress { families: families.to_vec(), node: NodeState::Eligible }
}

/// Servers, and what they go by.
struct Stage {
    progress: watch::Sender<Progress>,
    places: Places,
    servers: Servers,
}

impl Stage {
    fn new<F: Family>() -> Self {
        let places =
            Places { healthz: Some(free::<F>()), metrics: Some(free::<F>()), hard_fail: false };
        Self::at(places)
    }

    fn at(places: Places) -> Self {
        let progress = watch::Sender::new(progress(None));
        let page = Arc::new(Page::default());
        let answers = HealthAnswers::new(&page).unwrap();
        let health = Health::new(progress.subscribe(), PATIENCE, true, answers);
        let mut configuration = KubeProxyConfiguration::default();
        configuration.complete();
        let info = Info::new("nftables", &configuration, page).unwrap();
        let servers = Servers::begin(places, health, info).unwrap();
        Self { progress, places, servers }
    }

    fn healthz(&self, path: &str) -> String {
        get(self.places.healthz.unwrap(), path)
    }

    fn metrics(&self, path: &str) -> String {
        get(self.places.metrics.unwrap(), path)
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let start = Instant::now();
    loop {
        match TcpStream::connect(address) {
            Ok(stream) => {
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                return stream;
            }
            Err(error) if start.elapsed() > PATIENCE => panic!("{address}: {error}"),
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = connect(address);
    write!(stream, "GET {path} HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    let _: usize = stream.read_to_string(&mut answer).unwrap();
    answer
}

/// The first line, the headers (whose order means nothing; without times) and the body with each digit a zero: without
/// what it is at each time.
fn parts(answer: &str) -> (String, BTreeSet<String>, String) {
    let answer = answer.replace("\r\n", "\n");
    let (head, body) = answer.split_once("\n\n").unwrap();
    let mut lines = head.lines().map(str::to_owned);
    let status = lines.next().unwrap();
    let headers = lines.filter(|line| {
        !["Date", "Connection", "Content-Length"].iter().any(|name| line.starts_with(name))
    });
    let body = body.split(',').map(|part| match part.split_once("pdated\":\"20") {
        Some((before, _)) => format!("{before}pdated"),
        None if part.contains("currentTime") => "currentTime".to_owned(),
        None => part.to_owned(),
    });
    (status, headers.collect(), body.collect::<Vec<_>>().join(","))
}

fn answers_are_those_of_kube_proxy<F: Family>() {
    let stage = Stage::new::<F>();
    assert_eq!(parts(&stage.healthz("/healthz")), parts(HEALTHZ));
    assert_eq!(parts(&stage.healthz("/livez")), parts(LIVEZ));
    assert_eq!(parts(&stage.healthz("/")), parts(METRICS_ROOT));
    assert_eq!(parts(&stage.metrics("/healthz")), parts(METRICS_HEALTHZ));
    assert_eq!(parts(&stage.metrics("/proxyMode")), parts(PROXY_MODE));
    assert_eq!(parts(&stage.metrics("/")), parts(METRICS_ROOT));
    let configz = stage.metrics("/configz");
    assert!(configz.contains("\r\n\r\n{\"kubeproxy.config.k8s.io\":{\"kind\":"), "{configz}");
}

fn a_lagging_family_is_told_of<F: Family>() {
    let stage = Stage::new::<F>();
    let mut late = progress(None);
    let since = tokio::time::Instant::now().checked_sub(PATIENCE).unwrap();
    late.families[F::INDEX as usize].queued = Some(since);
    let _ = stage.progress.send_replace(late);
    for path in ["/healthz", "/livez"] {
        let answer = stage.healthz(path);
        assert!(answer.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{answer}");
        let family = format!("\"{}\":{{\"lastUpdated\":", F::NAME);
        let (_, of_family) = answer.split_once(&family).unwrap();
        assert!(of_family.split('}').next().unwrap().ends_with("\"healthy\":false"), "{answer}");
    }
    let leaving = Progress { node: NodeState::Leaving, ..progress(None) };
    let _ = stage.progress.send_replace(leaving);
    let answer = stage.healthz("/healthz");
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("\"nodeEligible\":false"));
    assert!(stage.healthz("/livez").starts_with("HTTP/1.1 200 "));
}

fn a_place_that_is_taken_is_tried_again<F: Family>() {
    let taken = TcpListener::bind(loopback::<F>(0)).unwrap();
    let places = Places { healthz: Some(taken.local_addr().unwrap()), ..Places::default() };
    let stage = Stage::at(places);
    // Where that is fatal, it is told.
    let mut fatal = Stage::at(Places { hard_fail: true, ..places });
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let error = runtime.block_on(fatal.servers.failed());
    assert!(error.to_string().contains("cannot answer health at"), "{error}");
    drop((fatal, taken));
    assert!(stage.healthz("/livez").starts_with("HTTP/1.1 200 "));
}

fn metrics_count_answers<F: Family>() {
    let stage = Stage::new::<F>();
    for _ in 0..2 {
        let _ = stage.healthz("/livez");
    }
    let leaving = Progress { node: NodeState::Leaving, ..progress(None) };
    let _ = stage.progress.send_replace(leaving);
    let _ = stage.healthz("/healthz");
    let answer = stage.metrics("/metrics");
    let content_type = "Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n";
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains(content_type), "{answer}");
    for line in ["healthz_total{code=\"503\"} 1\n", "livez_total{code=\"200\"} 2\n"] {
        assert!(answer.contains(&format!("\nkubeproxy_proxy_{line}")), "{answer}");
    }
}

fn hostile_clients_do_not_stop_others<F: Family>() {
    let stage = Stage::new::<F>();
    for (at, path, whole) in [
        (stage.places.healthz, "/healthz", "\"healthy\":true"),
        (stage.places.metrics, "/metrics", "_total"),
    ] {
        // Something is on the page.
        let _ = stage.healthz("/livez");
        stage.besieged(at.unwrap(), path, whole);
    }
}

impl Stage {
    /// Clients that mean no good ask for a path. Others get all of it, and so do those who ask for health.
    fn besieged(&self, at: SocketAddr, path: &str, whole: &str) {
        let others_are_answered = || {
            let answer = get(at, path);
            assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains(whole), "{answer}");
            assert!(self.healthz("/livez").starts_with("HTTP/1.1 200 "));
        };
        let request = format!("GET {path} HTTP/1.1\r\nHost: node\r\n");
        // Those that say nothing, that say half of something, and that never read.
        let mut held = Vec::new();
        for number in 0..300 {
            let mut stream = connect(at);
            match number % 3 {
                0 => {}
                1 => stream.write_all(&request.as_bytes()[..15]).unwrap(),
                _ => stream.write_all(format!("{request}\r\n").repeat(100).as_bytes()).unwrap(),
            }
            held.push(stream);
            if number % 50 == 0 {
                others_are_answered();
            }
        }
        // A header without an end is refused.
        let mut long = connect(at);
        long.write_all(format!("{request}X: ").as_bytes()).unwrap();
        let mut answer = Vec::new();
        while long.write_all(&[b'x'; 4096]).is_ok() {}
        let _ = long.read_to_end(&mut answer);
        assert!(!answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
        others_are_answered();
    }
}
