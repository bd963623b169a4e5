// SPDX-License-Identifier: Apache-2.0

//! A page on which all metrics have values: of an agent that follows an API, and was asked for its health.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Result, ensure};
use k8s_openapi::jiff::Timestamp;
use proxy_tests::agent::AgentSpec;
use proxy_tests::cluster::{WEB, eventually, web};
use proxy_tests::exposition::Page;
use proxy_tests::family::V4;
use proxy_tests::traffic::Client;
use serde_json::json;

use super::documented::{documented, is_documented};
use super::{PATIENCE, rules, text};
use crate::network::api::Fixture;

#[test]
fn all_that_is_described_and_asked_for_is_there() -> Result<()> {
    let _counted = aya::sys::enable_stats(aya::sys::Stats::RunTime)?;
    let fixture = Fixture::new::<V4>(true)?;
    let node = fixture.cluster.topology.node("anc-node").host();
    let kubeconfig = fixture.scratch.path().join("kubeconfig");
    let agent = AgentSpec::following(node, &kubeconfig);
    let mut agent = agent.argument("--healthz-bind-address=127.0.0.1").start()?;
    let health = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 10256);
    for path in ["/livez", "/healthz"] {
        let _ = Client::new(node).patience(PATIENCE).probe(health, path)?;
    }
    let pod = fixture.cluster.topology.pod("web-1");
    let mut objects = web(WEB, "web").pods([pod]).objects();
    for slice in &mut objects[1..] {
        slice["metadata"]["annotations"] = json!({
            "endpoints.kubernetes.io/last-change-trigger-time": Timestamp::now().to_string(),
        });
    }
    objects.iter().try_for_each(|object| fixture.server.apply(object))?;
    let page = || {
        let text = text(node, Ipv4Addr::LOCALHOST.into(), 10249)?;
        Page::read(&text).map(|page| (page, text))
    };
    let expected: BTreeSet<_> = documented()?.into_keys().collect();
    let names = |page: &Page| page.families.keys().cloned().collect::<BTreeSet<_>>();
    let is_whole = || page().is_ok_and(|(page, _)| names(&page) == expected);
    let _: bool = eventually(is_whole);
    let (page, text) = page()?;
    let missing: Vec<_> = expected.difference(&names(&page)).cloned().collect();
    ensure!(missing.is_empty(), "described, and never there: {missing:?}");
    is_documented(&page)?;
    rules::name_only(&names(&page))?;
    rules::is_sound(&text)?;
    ensure!(agent.stop()?.success());
    Ok(())
}
