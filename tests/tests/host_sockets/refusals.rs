// SPDX-License-Identifier: Apache-2.0

//! What sockets are refused, they are refused at once; and which backends a policy leaves.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use proxy_tests::both_families;
use proxy_tests::cluster::{PORT, WEB, eventually, web};
use proxy_tests::family::{DualAddress, IpFamily, TestFamily};
use proxy_tests::manifests::Endpoint;
use proxy_tests::traffic::{Client, Failure, Shares, fails_at_once};
use serde_json::json;

use super::rig::{Counted, NODE, OTHER_NODE, PODS, Rig, UNREACHABLE, Way, target};

both_families!(sockets_are_refused_at_once_or_get_what_policies_leave);

const EMPTY: DualAddress = DualAddress::cluster_ip(20);
const FAR_ONLY: DualAddress = DualAddress::cluster_ip(21);
const OF_OTHER_FAMILY: DualAddress = DualAddress::cluster_ip(22);
const NEAR: DualAddress = DualAddress::cluster_ip(23);
const ZONED: DualAddress = DualAddress::cluster_ip(24);
const ENDING: DualAddress = DualAddress::cluster_ip(25);

/// `ECONNREFUSED`.
const REFUSED: i32 = nix::libc::ECONNREFUSED;

/// Each form and way of asking fails at once by the error `code`: where UDP sockets connect, then.
/// Returns how often was asked.
fn refuses<F: TestFamily>(rig: &Rig, target: SocketAddr, code: i32) -> Result<u64> {
    let mut calls = 0;
    for (client, form, way) in rig.clients::<F>() {
        let is_right = |failure: &Failure| failure.error.raw_os_error() == Some(code);
        let asked = fails_at_once(is_right, || way.ask(&client, target));
        calls += u64::from(asked.with_context(|| format!("{form:?} {way:?} {target}"))?);
        if way == Way::Connected {
            ensure!(client.datagrams(target).is_err(), "{form:?} {target}: it is connected");
            calls += 1;
        }
    }
    Ok(calls)
}

fn sockets_are_refused_at_once_or_get_what_policies_leave<F: TestFamily>() -> Result<()> {
    let rig = Rig::new()?;
    apply_policies(&rig)?;
    let manifests = &rig.cluster.manifests;
    rig.cluster.serve_web(&PODS)?;
    manifests.apply(&web(EMPTY, "empty"))?;
    let local = web(FAR_ONLY, "far").field("internalTrafficPolicy", json!("Local"));
    manifests.apply(&local.pods(rig.pods(&PODS[3..])))?;
    let other_family = rig.pod(PODS[0]).addresses().filter(|ip| IpFamily::of(*ip) != F::FAMILY);
    manifests.apply(&web(OF_OTHER_FAMILY, "other").endpoints([Endpoint::at(other_family)]))?;
    let mut agent = rig.agent()?;

    let before = Counted::read::<F>(&agent)?;
    let calls = refuses::<F>(&rig, target::<F>(EMPTY), REFUSED)?
        + refuses::<F>(&rig, target::<F>(OF_OTHER_FAMILY), REFUSED)?;
    let after = Counted::read::<F>(&agent)?;
    ensure!(after.without_endpoints == before.without_endpoints + calls, "{before:?} {after:?}");
    ensure!((after.translated, after.guarded) == (before.translated, before.guarded), "{after:?}");
    let _ = refuses::<F>(&rig, SocketAddr::new(WEB.of(F::FAMILY), PORT + 1), REFUSED)?;
    let _ = refuses::<F>(&rig, target::<F>(FAR_ONLY), UNREACHABLE)?;
    for (vip, port, reason) in [
        (EMPTY, PORT, "reject-no-endpoints"),
        (WEB, PORT + 1, "reject-no-port"),
        (FAR_ONLY, PORT, "drop-no-local-endpoint"),
    ] {
        let line = format!("a socket to {} port {port}: {reason}", vip.of(F::FAMILY));
        let told = || agent.log().is_ok_and(|log| log.contains(&line));
        ensure!(eventually(told), "the log does not say {line:?}");
    }

    // One socket, served and refused in turns.
    let mut socket = rig.client().unconnected(F::FAMILY)?;
    for _ in 0..3 {
        ensure!(socket.ask_at(target::<F>(WEB))?.peer == target::<F>(WEB));
        ensure!(socket.ask_at(target::<F>(EMPTY)).is_err_and(|failure| failure.is_refusal()));
    }
    // Endpoints come.
    manifests.apply(&web(EMPTY, "empty").pods(rig.pods(&PODS[..1])))?;
    ensure!(eventually(|| socket.ask_at(target::<F>(EMPTY)).is_ok()), "they do not serve");

    serve::<F>(&rig, NEAR, &[PODS[0]])?;
    serve::<F>(&rig, ZONED, &[PODS[1], PODS[3]])?;
    serve::<F>(&rig, ENDING, &[PODS[0], PODS[2]])?;
    ensure!(agent.stop()?.success());
    Ok(())
}

/// Exactly these serve a Service, for processes of the node as for pods.
fn serve<F: TestFamily>(rig: &Rig, vip: DualAddress, servers: &[&str]) -> Result<()> {
    let target = target::<F>(vip);
    for (client, form, way) in rig.clients::<F>() {
        let shares: Shares = (0..60).map(|_| way.ask(&client, target)).collect();
        ensure!(shares.is_fair(servers), "{form:?} {way:?} {target}: {shares}");
    }
    let pod = Client::new(rig.pod("client"));
    let shares: Shares = (0..60).map(|_| Way::Stream.ask(&pod, target)).collect();
    ensure!(shares.is_fair(servers), "a pod's packets to {target}: {shares}");
    Ok(())
}

/// Services that not all of their endpoints serve.
fn apply_policies(rig: &Rig) -> Result<()> {
    let manifests = &rig.cluster.manifests;
    for (node, zone) in [(NODE, "here"), (OTHER_NODE, "there")] {
        manifests.apply_node(rig.cluster.topology.node(node), Some(zone))?;
    }
    let near = web(NEAR, "near").field("internalTrafficPolicy", json!("Local"));
    manifests.apply(&near.pods(rig.pods(&[PODS[0], PODS[3]])))?;
    let hinted = |pod, zone| {
        Endpoint::of(rig.pod(pod)).field("hints", json!({ "forZones": [{ "name": zone }] }))
    };
    let zoned = [hinted(PODS[0], "there"), hinted(PODS[1], "here"), hinted(PODS[3], "here")];
    manifests.apply(&web(ZONED, "zoned").endpoints(zoned))?;
    let ending = |pod, serving| Endpoint::of(rig.pod(pod)).conditions(false, serving, true);
    let ending = [ending(PODS[0], true), ending(PODS[1], false), ending(PODS[2], true)];
    manifests.apply(&web(ENDING, "ending").endpoints(ending))
}
