// SPDX-License-Identifier: Apache-2.0

//! What goes wrong on the way to the API, one by one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use proxy_agent::model::Kind as ModelKind;
use proxy_tests::api::fault::{Fault, Verb, Which};
use proxy_tests::api::kind::Kind;

use super::follower::Follower;
use super::stage::{Stage, service};

/// Makes, changes and removes Services, so that each kind of event comes.
fn change(stage: &Stage, round: u8) -> Result<()> {
    let fresh = |suffix: &str| format!("new-{round}-{suffix}");
    stage.apply(&service(&fresh("a"), 100 + round, 80, 3))?;
    stage.apply(&service(&fresh("b"), 150 + round, 80, 1))?;
    stage.apply(&service(&fresh("a"), 100 + round, 81, 2))?;
    stage.apply(&service("stay-1", 1, 80, 2 + round % 3))?;
    stage.delete(&service(&fresh("b"), 150 + round, 80, 1))
}

/// Lets this happen to streams of Services and slices that are open and to those that come, while
/// objects change.
fn streams_survive(fault: &Fault) -> Result<()> {
    let stage = Stage::new()?;
    for kind in [Kind::Service, Kind::EndpointSlice] {
        stage.proxy.plan(Which::of(kind).that(Verb::Watch), 3, fault.clone());
    }
    let follower = stage.follow()?;
    follower.wait_synced()?;
    for round in 0..4 {
        // From the stream of the list to a watch, and from one watch to the next.
        stage.proxy.cut()?;
        change(&stage, round)?;
        stage.settle(&follower)?;
    }
    stage.proxy.cut()?;
    stage.wait_done(&follower)?;
    change(&stage, 5)?;
    stage.settle(&follower)
}

macro_rules! streams_survive {
    ($($name:ident: $fault:expr;)*) => {$(
        #[test]
        fn $name() -> Result<()> {
            streams_survive(&$fault)
        }
    )*};
}

streams_survive! {
    a_version_that_is_gone_as_an_answer: Fault::gone();
    a_version_that_is_gone_as_an_event: Fault::gone_after(0);
    a_version_that_is_gone_after_events: Fault::gone_after(1);
    a_stream_cut_in_an_event: Fault::CutInEvent(1);
    a_stream_cut_after_some_bytes: Fault::CutAfter(700);
    a_stream_that_ends_at_once: Fault::EndAfter(0);
    a_stream_that_falls_silent: Fault::SilentAfter(1);
    a_connection_that_is_reset: Fault::Reset;
    a_request_that_is_never_answered: Fault::Stall;
    a_server_error: Fault::status(500, "InternalError", "etcdserver: leader changed");
    a_server_that_is_not_ready: Fault::status(503, "ServiceUnavailable", "apiserver not ready");
    a_denied_request: Fault::status(403, "Forbidden", "services is forbidden");
    credentials_that_are_refused: Fault::status(401, "Unauthorized", "Unauthorized");
    a_version_that_is_refused: Fault::status(400, "BadRequest", "invalid resource version");
    events_that_come_again_and_late: Fault::Repeat;
    events_out_of_order: Fault::Reorder;
    events_that_come_late: Fault::Delay(Duration::from_millis(20));
    objects_that_cannot_be_read: Fault::Garbage(0);
    an_error_in_a_stream: Fault::ErrorAfter(
        1,
        r#"{"type":"ERROR","object":{"kind":"Status","code":500,"message":"oh"}}"#.to_owned(),
    );
    a_line_that_is_no_event: Fault::ErrorAfter(1, "<html>bad gateway</html>".to_owned());
}

#[test]
fn a_busy_server_is_left_alone_for_as_long_as_it_says() -> Result<()> {
    let stage = Stage::new()?;
    let follower = stage.follow()?;
    follower.wait_synced()?;
    let busy = Fault::Status {
        status: proxy_tests::api::query::status(429, "TooManyRequests", "try again later"),
        retry_after: Some(8),
    };
    stage.proxy.down();
    stage.proxy.plan(Which::of(Kind::Service).that(Verb::Watch), 1, busy);
    stage.proxy.up()?;
    stage.wait_done(&follower)?;
    let _ = stage.proxy.take_asked();
    std::thread::sleep(Duration::from_secs(2));
    let asked = stage.proxy.asked();
    let services = asked.iter().filter(|asked| asked.kind == Some(Kind::Service)).count();
    ensure!(services == 0, "{services} requests, though one was refused for eight seconds");
    change(&stage, 1)?;
    stage.settle(&follower)
}

/// How long a follower of the next test waits after a failure.
const PAUSE: Duration = Duration::from_secs(4);

/// As by a load balancer that gives up what is idle: nothing is wrong with the API.
#[test]
fn a_silent_stream_that_is_cut_is_asked_for_again_at_once() -> Result<()> {
    let mut stage = Stage::new()?;
    stage.timing.first_pause = PAUSE;
    stage.timing.silence = Duration::from_secs(30);
    stage.proxy.plan(Which::of(Kind::Node).that(Verb::Watch), 1, Fault::SilentAfter(0));
    let follower = stage.follow()?;
    follower.wait_synced()?;
    stage.proxy.cut()?;
    stage.wait_done(&follower)?;
    // Longer than two pauses, so that this is no cut after the other.
    std::thread::sleep(PAUSE * 2 + PAUSE / 8);
    let _ = stage.proxy.take_asked();
    stage.proxy.cut()?;
    let cut = Instant::now();
    while stage.proxy.asked().iter().all(|asked| asked.kind != Some(Kind::Node)) {
        ensure!(cut.elapsed() < PAUSE * 7 / 8, "no request, but after a pause");
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

#[test]
fn an_outage_takes_nothing_away() -> Result<()> {
    let stage = Stage::new()?;
    let follower = stage.follow()?;
    follower.wait_synced()?;
    let before = follower.said().objects.len();
    stage.proxy.down();
    change(&stage, 1)?;
    std::thread::sleep(Duration::from_secs(1));
    ensure!(follower.said().objects.len() == before, "something changed without an API");
    stage.proxy.up()?;
    stage.settle(&follower)
}

#[test]
fn an_outage_from_the_beginning_ends() -> Result<()> {
    let stage = Stage::new()?;
    stage.proxy.down();
    let follower = stage.follow()?;
    std::thread::sleep(Duration::from_millis(500));
    ensure!(follower.said().synced.is_empty() && follower.said().objects.is_empty());
    stage.proxy.up()?;
    follower.wait_synced()?;
    stage.settle(&follower)
}

#[test]
fn a_server_that_is_behind_is_not_believed() -> Result<()> {
    let stage = Stage::new()?;
    let old = Arc::new(stage.client.list(Kind::Service)?);
    stage.apply(&service("stay-6", 6, 80, 1))?;
    let follower = stage.follow()?;
    follower.wait_synced()?;
    stage.settle(&follower)?;
    // Of two lists in a row the version is older than what was seen.
    let services = Which::of(Kind::Service);
    stage.proxy.plan(services.that(Verb::Watch), 1, Fault::gone());
    stage.proxy.plan(services.that(Verb::Stream), 2, Fault::Stale(old));
    stage.proxy.cut()?;
    stage.wait_done(&follower)?;
    stage.settle(&follower)
}

#[test]
fn a_store_that_was_restored_is_believed() -> Result<()> {
    let stage = Stage::of_recordings()?;
    let server = stage.replay()?;
    stage.apply(&service("stay-1", 1, 80, 1))?;
    let follower = server.lose(|| -> Result<Follower> {
        change(&stage, 1)?;
        change(&stage, 2)?;
        stage.apply(&service("lost", 99, 80, 1))?;
        let follower = stage.follow()?;
        follower.wait_synced()?;
        stage.settle(&follower)?;
        Ok(follower)
    })?;
    stage.proxy.cut()?;
    stage.settle(&follower)?;
    change(&stage, 3)?;
    stage.settle(&follower)
}

#[test]
fn a_service_that_is_made_again_is_another() -> Result<()> {
    let stage = Stage::new()?;
    stage.apply(&service("again", 90, 80, 1))?;
    let follower = stage.follow()?;
    follower.wait_synced()?;
    for port in [81, 82] {
        stage.proxy.down();
        stage.delete(&service("again", 90, 80, 1))?;
        stage.apply(&service("again", 91, port, 2))?;
        stage.proxy.up()?;
        stage.settle(&follower)?;
        let services = follower
            .said()
            .objects
            .keys()
            .filter(|key| key.kind == ModelKind::Service && &*key.name.name == "again")
            .count();
        ensure!(services == 1);
    }
    Ok(())
}
