// SPDX-License-Identifier: Apache-2.0

//! Events that the agent publishes, as the API gets them.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use proxy_agent::events::{Event, EventType, Events, Regarding};
use proxy_agent::model::ServiceName;
use proxy_agent::watch::kubernetes::{Configuration, Kubernetes};
use proxy_tests::api::kubeconfig;
use proxy_tests::api::replay::{Door, ReplayServer};
use proxy_tests::both_families;
use proxy_tests::family::TestFamily;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinHandle;

use super::credentials::loopback;
use super::stage::{RUNTIME, TIMING};

both_families!(
    an_event_is_what_the_api_takes,
    texts_that_are_too_long_are_cut,
    the_same_again_is_a_series,
    one_service_cannot_fill_the_api,
    an_event_that_is_refused_is_left,
    an_api_that_is_away_or_wants_other_credentials_is_asked_again,
);

/// An API, and what publishes Events there. That ends when this is dropped.
struct Stage {
    server: ReplayServer,
    directory: TempDir,
    events: Events,
    publishing: JoinHandle<()>,
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.publishing.abort();
    }
}

impl Stage {
    fn new<F: TestFamily>(node: &str) -> Result<Self> {
        let address = Some(SocketAddr::new(loopback(F::FAMILY), 0));
        let door = Door { address, token: Some("first".to_owned()), ..Door::default() };
        let server = ReplayServer::start(door, RUNTIME.handle())?;
        let directory = tempfile::tempdir()?;
        let path = directory.path().join("kubeconfig");
        let user = json!({ "tokenFile": directory.path().join("token") });
        kubeconfig::write(&path, "http", server.address(), &json!({}), &user)?;
        fs::write(directory.path().join("token"), "first")?;
        let configuration = Configuration::new(Some(path), None);
        let _runtime = RUNTIME.enter();
        let client = Kubernetes::new(configuration, node, TIMING)?.client();
        let (events, publisher) = Events::published(client, node);
        Ok(Self { server, directory, events, publishing: RUNTIME.spawn(publisher.run()) })
    }

    fn token(&self) -> PathBuf {
        self.directory.path().join("token")
    }

    /// Waits until the API has Events like these.
    fn wait(&self, wanted: impl Fn(&[Value]) -> bool) -> Result<Vec<Value>> {
        let begun = Instant::now();
        loop {
            let events = self.server.events();
            if wanted(&events) {
                return Ok(events);
            }
            ensure!(begun.elapsed() < Duration::from_secs(20), "{events:#?}");
            sleep(Duration::from_millis(10));
        }
    }
}

fn event(service: &str, action: &'static str, note: &str) -> Event {
    let uid = Some(format!("uid-of-{service}").into());
    Event {
        regarding: Regarding { service: ServiceName::new("anc", service), uid },
        type_: EventType::Warning,
        reason: "FailedToStartServiceHealthcheck",
        action,
        note: note.to_owned(),
    }
}

fn an_event_is_what_the_api_takes<F: TestFamily>() -> Result<()> {
    let stage = Stage::new::<F>("node-1")?;
    stage.events.tell(event("web", "Listen", "it is taken"));
    let mut events = stage.wait(|events| events.len() == 1)?;
    let name = events[0]["metadata"]["name"].take();
    let time = events[0]["eventTime"].take();
    ensure!(name.as_str().is_some_and(|name| name.starts_with("web.")), "{name}");
    ensure!(time.as_str().is_some_and(|time| time.len() == "2026-11-20T23:19:38.000000Z".len()));
    let expected = json!({
        "apiVersion": "events.k8s.io/v1", "kind": "Event",
        "metadata": { "name": null, "namespace": "anc" }, "eventTime": null,
        "regarding": {
            "apiVersion": "v1", "kind": "Service", "namespace": "anc", "name": "web",
            "uid": "uid-of-web",
        },
        "type": "Warning", "reason": "FailedToStartServiceHealthcheck", "action": "Listen",
        "note": "it is taken",
        "reportingController": "sixfour", "reportingInstance": "node-1",
    });
    ensure!(events[0] == expected, "{:#}", events[0]);
    Ok(())
}

fn texts_that_are_too_long_are_cut<F: TestFamily>() -> Result<()> {
    let node = ["node"; 50].join(".");
    let stage = Stage::new::<F>(&node)?;
    stage.events.tell(event("web", "Listen", &"ä".repeat(1000)));
    let events = stage.wait(|events| events.len() == 1)?;
    ensure!(events[0]["note"] == format!("{} ...", "ä".repeat(510)));
    ensure!(events[0]["reportingInstance"] == node[..128]);
    Ok(())
}

fn the_same_again_is_a_series<F: TestFamily>() -> Result<()> {
    let stage = Stage::new::<F>("node-1")?;
    for _ in 0..3 {
        stage.events.tell(event("web", "Listen", "it is taken"));
    }
    stage.events.tell(event("api", "Listen", "it is taken"));
    let events = stage.wait(|events| events.len() == 2)?;
    ensure!(events[0]["regarding"]["name"] == "api" && events[0]["series"].is_null());
    ensure!(events[1]["regarding"]["name"] == "web", "{:#}", events[1]);
    ensure!(events[1]["series"]["count"] == 3, "{:#}", events[1]);
    Ok(())
}

fn one_service_cannot_fill_the_api<F: TestFamily>() -> Result<()> {
    let stage = Stage::new::<F>("node-1")?;
    for _ in 0..60 {
        stage.events.tell(event("web", "Listen", "it is taken"));
    }
    stage.events.tell(event("api", "Listen", "it is taken"));
    let events = stage.wait(|events| events.len() == 2)?;
    ensure!(events[1]["series"]["count"] == 25, "{:#}", events[1]);
    ensure!(stage.events.lost() == 0);
    Ok(())
}

fn an_event_that_is_refused_is_left<F: TestFamily>() -> Result<()> {
    let stage = Stage::new::<F>("node-1")?;
    stage.events.tell(event("web", "", "an Event must have an action"));
    stage.events.tell(event("api", "Listen", "it is taken"));
    let begun = Instant::now();
    let events = stage.wait(|events| !events.is_empty())?;
    ensure!(events[0]["regarding"]["name"] == "api" && events.len() == 1);
    // Nor is it tried again.
    ensure!(begun.elapsed() < Duration::from_secs(3));
    Ok(())
}

fn an_api_that_is_away_or_wants_other_credentials_is_asked_again<F: TestFamily>() -> Result<()> {
    let stage = Stage::new::<F>("node-1")?;
    stage.server.down();
    stage.events.tell(event("web", "Listen", "it is taken"));
    sleep(Duration::from_millis(300));
    stage.server.up()?;
    let _ = stage.wait(|events| events.len() == 1)?;
    stage.server.set_token("second");
    stage.events.tell(event("api", "Listen", "it is taken"));
    sleep(Duration::from_millis(300));
    ensure!(stage.server.events().len() == 1);
    fs::write(stage.token(), "second")?;
    let _ = stage.wait(|events| events.len() == 2)?;
    Ok(())
}
