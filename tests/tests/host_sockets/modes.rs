// SPDX-License-Identifier: Apache-2.0

//! Who is served at sockets, as the agent is told.

use anyhow::{Context as _, Result, ensure};
use proxy_tests::both_families;
use proxy_tests::cluster::{PORT, WEB, web};
use proxy_tests::family::{AddressForm, DualAddress, TestFamily};
use proxy_tests::protocol::Protocol;
use proxy_tests::traffic::{Client, Shares, is_refused_at_once};

use super::rig::{Counted, NODE, PODS, Rig, SILENCE, Way, flows, target};

both_families!(off_leaves_processes_to_the_guard, all_serves_pods_at_their_sockets);

/// Requests, to see that shares are fair: with fewer, chance alone is too far off too often.
const ENOUGH: usize = 200;

const EMPTY: DualAddress = DualAddress::cluster_ip(20);
const SINGLE: DualAddress = DualAddress::cluster_ip(21);

fn off_leaves_processes_to_the_guard<F: TestFamily>() -> Result<()> {
    let rig = Rig::new()?;
    rig.cluster.serve_web(&PODS)?;
    let mut agent = rig.cluster.agent(NODE).argument("--socket-lb=off").start()?;
    for (client, form, way) in rig.clients::<F>() {
        let before = Counted::read::<F>(&agent)?;
        let asked = if way == Way::Unconnected {
            // It is not told of ICMP errors.
            let failure = way.ask(&client.patience(SILENCE), target::<F>(WEB)).err();
            let failure = failure.with_context(|| format!("{form:?} is served"))?;
            ensure!(failure.is_timeout(), "{form:?} {failure}");
            1
        } else {
            let asked = is_refused_at_once(|| way.ask(&client, target::<F>(WEB)));
            asked.with_context(|| format!("{form:?} {way:?}"))?
        };
        let expected = Counted { guarded: before.guarded + u64::from(asked), ..before };
        ensure!(Counted::read::<F>(&agent)? == expected, "{form:?} {way:?}");
    }
    let pod = Client::new(rig.pod("client"));
    for protocol in Protocol::OF_SOCKETS {
        let shares = pod.ask_often(protocol, target::<F>(WEB), ENOUGH);
        ensure!(shares.is_fair(&PODS), "{protocol} {shares}");
    }
    ensure!(agent.stop()?.success());
    Ok(())
}

fn all_serves_pods_at_their_sockets<F: TestFamily>() -> Result<()> {
    let rig = Rig::new()?;
    rig.cluster.serve_web(&PODS)?;
    rig.cluster.manifests.apply(&web(EMPTY, "empty"))?;
    rig.cluster.manifests.apply(&web(SINGLE, "single").pods(rig.pods(&PODS[..1])))?;
    let mut agent = rig.cluster.agent(NODE).argument("--socket-lb=all").start()?;
    let hosts = [rig.pod("client"), rig.pod(PODS[0]), rig.node(NODE)];
    let before = Counted::read::<F>(&agent)?;
    for host in hosts {
        for form in AddressForm::all(F::FAMILY) {
            let client = Client::new(host).form(*form);
            for way in Way::ALL {
                let context = || format!("{} {form:?} {way:?}", host.name());
                // One of them is its own backend here, and sees itself.
                let answer = way.ask(&client, target::<F>(SINGLE)).with_context(context)?;
                ensure!(answer.server == PODS[0], "{answer:?}, {}", context());
                ensure!(answer.peer == form.of(target::<F>(SINGLE)), "{answer:?}, {}", context());
                let is_pod = host.name() != NODE;
                let is_own = answer.source.ip() == host.address(F::FAMILY);
                ensure!(!is_pod || is_own, "{answer:?}, {}", context());
                let shares: Shares =
                    (0..ENOUGH).map(|_| way.ask(&client, target::<F>(WEB))).collect();
                ensure!(shares.is_fair(&PODS), "{shares}, {}", context());
                let refused = is_refused_at_once(|| way.ask(&client, target::<F>(EMPTY)));
                let _ = refused.with_context(context)?;
            }
        }
        let mut stream = Client::new(host).stay(target::<F>(WEB))?;
        for _ in 0..50 {
            let _ = stream.exchange()?;
        }
    }
    let asked = hosts.len() * AddressForm::all(F::FAMILY).len() * Way::ALL.len();
    let asked = (asked * (1 + ENOUGH) + hosts.len()) as u64;
    let after = Counted::read::<F>(&agent)?;
    ensure!(after.translated == before.translated + asked, "{asked}: {before:?} {after:?}");
    // What packets open directly to backends is noted, too, and not translated.
    let translated = flows(&agent)?.into_iter().find(|frontend| frontend.port() == PORT);
    ensure!(translated.is_none(), "packets to {translated:?} were translated");
    ensure!(agent.stop()?.success());
    Ok(())
}
