// SPDX-License-Identifier: Apache-2.0

//! Events on Services about what of them is not in the tables, as the API gets them.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use proxy_tests::agent::AgentSpec;
use proxy_tests::both_families;
use proxy_tests::cluster::{PATIENCE, PORT, TARGET, WEB, eventually, web};
use proxy_tests::family::{DualAddress, TestFamily};
use proxy_tests::manifests::Service;
use proxy_tests::protocol::Protocol;
use serde_json::Value;

use super::api::Fixture;

both_families!(owners_learn_what_is_missing);

/// A Service with more ports than there is room for.
const LARGE: DualAddress = DualAddress::cluster_ip(30);

fn owners_learn_what_is_missing<F: TestFamily>() -> Result<()> {
    let fixture = Fixture::new::<F>(true)?;
    fixture.server.apply(&web(WEB, "web").objects()[0])?;
    let topology = &fixture.cluster.topology;
    let kubeconfig = fixture.scratch.path().join("kubeconfig");
    let agent = AgentSpec::following(topology.node("anc-node").host(), &kubeconfig);
    let mut agent = agent.argument("--max-frontends=1024").start()?;
    let events = |service: &str| -> Vec<Value> {
        let all = fixture.server.events().into_iter();
        all.filter(|event| event["regarding"]["name"] == service).collect()
    };
    let told = |service: &str, reason: &str, parts: &[&str]| -> Result<()> {
        // Of both families, of which the first may make the second one of a series.
        let is_it = |event: &Value| {
            let told = event["note"].as_str().unwrap_or_default();
            event["type"] == "Warning"
                && event["reason"] == reason
                && event["action"] == "Program"
                && event["regarding"]["kind"] == "Service"
                && event["reportingController"].as_str().is_some_and(|name| !name.is_empty())
                && parts.iter().all(|part| told.contains(part))
        };
        let is_told = eventually(|| events(service).iter().any(is_it));
        ensure!(is_told, "{service}: {:#?}", events(service));
        Ok(())
    };
    // It wants what the first one has.
    fixture.server.apply(&web(WEB, "younger").objects()[0])?;
    let note = "node anc-node does not serve port 80/";
    told("younger", "FrontendConflict", &[note, "/web"])?;
    // The second one is in the log with its family.
    let at = SocketAddr::new(WEB.of(F::FAMILY), PORT);
    for protocol in ["TCP", "UDP"] {
        let (family, key) = (F::FAMILY.name(), format!("{at}/{protocol}"));
        let conflict =
            format!("{note}{protocol} ({family}): the frontend {key} is that of anc/web");
        agent.wait_for(&conflict, PATIENCE)?;
    }
    ensure!(events("web").is_empty(), "{:#?}", events("web"));
    let mut large = Service::dual("large", LARGE);
    for port in 0..1200 {
        large = large.port(&format!("p{port}"), Protocol::Tcp, 1000 + port, TARGET);
    }
    fixture.server.apply(&large.objects()[0])?;
    let note = "node anc-node does not serve all of it (";
    let name = events("younger").first().context("an Event")?["metadata"]["name"].clone();
    told("large", "TableFull", &[note, "--max-frontends makes it larger"])?;
    ensure!(events("large").iter().all(|event| event["metadata"]["name"] != name));
    ensure!(agent.stop()?.success());
    Ok(())
}
