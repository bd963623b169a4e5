// SPDX-License-Identifier: Apache-2.0

//! How objects are listed, and what is asked for.

use anyhow::{Result, ensure};
use proxy_agent::model::Kind as ModelKind;
use proxy_tests::api::fault::{Fault, Verb, Which};
use proxy_tests::api::kind::Kind;
use proxy_tests::api::recorded;

use super::stage::{Stage, service};

#[test]
fn what_kube_proxy_selects_is_asked_for_and_nothing_else() -> Result<()> {
    let stage = Stage::new()?;
    let follower = stage.follow()?;
    follower.wait_synced()?;
    stage.settle(&follower)?;
    stage.proxy.cut()?;
    follower.wait("watches", |_| {
        let asked = stage.proxy.asked();
        Kind::ALL.iter().all(|kind| {
            asked.iter().any(|asked| asked.kind == Some(*kind) && asked.verb() == Verb::Watch)
        })
    })?;
    let node = format!("metadata.name={}", recorded::NODE);
    for asked in stage.proxy.asked() {
        let (labels, fields) = match asked.kind {
            Some(Kind::Service) => {
                (Some("!service.kubernetes.io/service-proxy-name"), Some("spec.clusterIP!=None"))
            }
            Some(Kind::EndpointSlice) => (Some("!service.kubernetes.io/headless"), None),
            Some(Kind::Node) => (None, Some(&*node)),
            Some(Kind::ServiceCidr) => (None, None),
            None => anyhow::bail!("asked for something else: {asked:?}"),
        };
        ensure!(asked.method == "GET", "{asked:?}");
        ensure!(asked.query.get("labelSelector") == labels, "{asked:?}");
        ensure!(asked.query.get("fieldSelector") == fields, "{asked:?}");
        let others: Vec<_> =
            asked.query.names().filter(|name| !name.ends_with("Selector")).collect();
        let expected: &[&str] = match asked.verb() {
            Verb::Stream => &[
                "allowWatchBookmarks",
                "resourceVersion",
                "resourceVersionMatch",
                "sendInitialEvents",
                "timeoutSeconds",
                "watch",
            ],
            Verb::Watch => &["allowWatchBookmarks", "resourceVersion", "timeoutSeconds", "watch"],
            Verb::List => anyhow::bail!("a list in pages, though streams work: {asked:?}"),
        };
        ensure!(others == expected, "{asked:?}");
    }
    let mut nodes: Vec<_> = follower.said().objects.keys().cloned().collect();
    nodes.retain(|key| key.kind == ModelKind::Node);
    ensure!(nodes.len() == 1 && &*nodes[0].name.name == recorded::NODE, "{nodes:?}");
    Ok(())
}

/// Lists by these means, before and after the version is gone, while objects change.
fn lists_survive(faults: &[(Which, usize, Fault)]) -> Result<Stage> {
    let stage = Stage::new()?;
    for (which, times, fault) in faults {
        stage.proxy.plan(*which, *times, fault.clone());
    }
    let follower = stage.follow()?;
    follower.wait_synced()?;
    stage.settle(&follower)?;
    stage.proxy.calm();
    stage.proxy.plan(Which::ALL.that(Verb::Watch), 4, Fault::gone());
    for (which, times, fault) in faults {
        stage.proxy.plan(*which, *times, fault.clone());
    }
    stage.proxy.down();
    stage.apply(&service("new", 100, 80, 2))?;
    stage.apply(&service("stay-2", 2, 80, 4))?;
    stage.proxy.up()?;
    stage.settle(&follower)?;
    stage.apply(&service("stay-3", 3, 80, 4))?;
    stage.delete(&service("new", 100, 80, 2))?;
    stage.settle(&follower)?;
    drop(follower);
    Ok(stage)
}

const STREAMS: Which = Which::ALL.that(Verb::Stream);
const PAGES: Which = Which::ALL.that(Verb::List);

#[test]
fn a_streaming_list_that_is_refused_is_asked_for_in_pages() -> Result<()> {
    let stage = lists_survive(&[(STREAMS, 1000, Fault::RefuseStreaming)])?;
    let asked = stage.proxy.asked();
    let pages = || asked.iter().filter(|asked| asked.verb() == Verb::List);
    ensure!(pages().all(|asked| asked.query.get("limit") == Some("500")));
    ensure!(pages().count() >= 8);
    let streams = asked.iter().filter(|asked| asked.verb() == Verb::Stream).count();
    ensure!(streams == 4, "what was refused was asked for {streams} times, for four kinds");
    Ok(())
}

#[test]
fn a_server_that_does_not_know_streaming_lists_is_asked_for_pages() -> Result<()> {
    lists_survive(&[(STREAMS, 1000, Fault::IgnoreStreaming)]).map(drop)
}

#[test]
fn a_streaming_list_that_is_cut_is_asked_for_again() -> Result<()> {
    lists_survive(&[
        (STREAMS, 3, Fault::CutAfter(900)),
        (STREAMS, 3, Fault::CutInEvent(0)),
        (STREAMS, 2, Fault::EndAfter(3)),
        (STREAMS, 2, Fault::status(500, "InternalError", "")),
    ])
    .map(drop)
}

#[test]
fn a_streaming_list_with_late_and_repeated_events_is_the_same() -> Result<()> {
    lists_survive(&[(STREAMS, 4, Fault::Repeat), (STREAMS, 1000, Fault::Reorder)]).map(drop)
}

#[test]
fn a_page_that_is_cut_or_refused_is_asked_for_again() -> Result<()> {
    lists_survive(&[
        (STREAMS, 1000, Fault::RefuseStreaming),
        (PAGES, 3, Fault::CutAfter(300)),
        (PAGES, 2, Fault::Reset),
        (PAGES, 2, Fault::status(429, "TooManyRequests", "")),
        (PAGES, 2, Fault::gone()),
    ])
    .map(drop)
}

#[test]
fn a_list_longer_than_a_page_is_read_to_its_end() -> Result<()> {
    let stage = Stage::of_recordings()?;
    let many = 1100;
    for number in 0..many {
        let name = format!("stay-many-{number}");
        stage.replay()?.apply(&service(&name, 7, 80, 0).objects()[1])?;
    }
    stage.proxy.plan(STREAMS, 1000, Fault::RefuseStreaming);
    let follower = stage.follow()?;
    follower.wait_synced()?;
    stage.settle(&follower)?;
    // The rest of a list is gone: it is read in one piece.
    let slices = Which::of(Kind::EndpointSlice);
    stage.proxy.plan(slices.that(Verb::Watch), 1, Fault::gone());
    let second = || {
        let asked = stage.proxy.asked();
        asked.iter().filter(|it| it.query.get("continue").is_some()).count()
    };
    ensure!(second() == 2, "{} pages after the first", second());
    let _ = stage.proxy.take_asked();
    stage.proxy.plan(slices.that(Verb::List), 1, Fault::Delay(std::time::Duration::ZERO));
    stage.proxy.plan(slices.that(Verb::List), 1, Fault::gone());
    stage.proxy.cut()?;
    follower.wait("a whole list", |_| {
        let asked = stage.proxy.asked();
        asked.iter().any(|it| it.verb() == Verb::List && it.query.get("limit").is_none())
    })?;
    stage.settle(&follower)
}

#[test]
fn an_object_that_cannot_be_read_stops_no_list() -> Result<()> {
    let stage = Stage::of_recordings()?;
    stage.proxy.plan(STREAMS, 1000, Fault::RefuseStreaming);
    let follower = stage.follow()?;
    follower.wait_synced()?;
    stage.settle(&follower)?;
    // What was known of it stays in force.
    stage.proxy.plan(Which::ALL.that(Verb::Watch), 4, Fault::gone());
    stage.proxy.plan(PAGES, 4, Fault::Garbage(0));
    stage.proxy.cut()?;
    follower.wait("lists", |_| {
        stage.proxy.asked().iter().filter(|asked| asked.verb() == Verb::List).count() >= 8
    })?;
    stage.settle(&follower)?;
    ensure!(follower.said().deletions().count() == 0);
    // Whoever has known nothing of it has all the others.
    let services = Which::of(Kind::Service);
    stage.proxy.plan(services.that(Verb::List), 1, Fault::Garbage(1));
    let other = stage.follow()?;
    other.wait_synced()?;
    ensure!(other.said().objects.len() + 1 == follower.said().objects.len());
    Ok(())
}

#[test]
fn an_api_without_service_cidrs_has_none_until_it_has() -> Result<()> {
    let stage = Stage::new()?;
    stage.proxy.plan(Which::of(Kind::ServiceCidr), 4, Fault::Absent);
    let follower = stage.follow()?;
    follower.wait_synced()?;
    let cidrs = |said: &super::follower::Said| {
        said.objects.keys().filter(|key| key.kind == ModelKind::ServiceCidr).count()
    };
    ensure!(cidrs(&follower.said()) == 0);
    follower.wait("Service CIDRs", |said| cidrs(said) == 1)?;
    stage.settle(&follower)
}

#[test]
fn nothing_has_synced_before_it_was_listed() -> Result<()> {
    let stage = Stage::new()?;
    stage.proxy.plan(Which::of(Kind::EndpointSlice), 2, Fault::Stall);
    let follower = stage.follow()?;
    follower.wait("Services", |said| said.synced.contains(&ModelKind::Service))?;
    ensure!(!follower.said().synced.contains(&ModelKind::EndpointSlice));
    follower.wait_synced()?;
    stage.settle(&follower)
}
