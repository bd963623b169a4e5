// SPDX-License-Identifier: Apache-2.0

//! IPv6 sockets, and Services that have IPv4 endpoints only, where these may be reached.

use anyhow::{Context as _, Result, ensure};
use proxy_tests::cluster::{PATIENCE, PORT, TARGET, WEB, eventually, web};
use proxy_tests::family::{DualAddress, IpFamily, TestFamily as _, V6};
use proxy_tests::manifests::{Endpoint, Service};
use proxy_tests::protocol::Protocol;
use proxy_tests::traffic::{Client, Shares, is_refused_at_once};
use serde_json::Value;
use socket2::{Domain, Socket, Type};

use super::rig::{NODE, PODS, Rig, Way, target};

/// The same, of IPv6 alone.
const ONLY_V6: DualAddress = DualAddress::cluster_ip(20);

/// Endpoints at the IPv4 addresses of pods.
fn v4_endpoints(rig: &Rig, pods: &[&str]) -> Vec<Endpoint> {
    let v4 = |pod| Endpoint::at([rig.pod(pod).address(IpFamily::V4)]);
    pods.iter().copied().map(v4).collect()
}

/// Writes a Service of IPv6 alone, and a slice of IPv4 that belongs to it.
fn apply_v6_service(rig: &Rig) -> Result<()> {
    let service = Service::new("only-v6", [ONLY_V6.of(IpFamily::V6)])
        .port("tcp", Protocol::Tcp, PORT, TARGET)
        .port("udp", Protocol::Udp, PORT, TARGET);
    let dual = web(ONLY_V6, "only-v6").endpoints(v4_endpoints(rig, &PODS[..1]));
    let v4_slice = |object: &Value| object["addressType"] == IpFamily::V4.name();
    let mut objects = service.objects();
    objects.truncate(1);
    objects.extend(dual.objects().into_iter().filter(v4_slice));
    rig.cluster.manifests.write_list("only-v6", &objects)
}

#[test]
fn ipv6_sockets_reach_ipv4_endpoints() -> Result<()> {
    let rig = Rig::new()?;
    rig.cluster.manifests.apply(&web(WEB, "web").endpoints(v4_endpoints(&rig, &PODS)))?;
    apply_v6_service(&rig)?;
    let mut agent = rig.cluster.agent(NODE).argument("--socket-lb-mapped").start()?;
    let client = rig.client();
    let node = rig.node(NODE);
    for (vip, pods) in [(WEB, &PODS[..]), (ONLY_V6, &PODS[..1])] {
        let target = target::<V6>(vip);
        for way in Way::CONNECTED {
            let context = || format!("{way:?} {target}");
            let answer = way.ask(&client, target).with_context(context)?;
            ensure!(answer.peer == target, "{answer:?}");
            ensure!(answer.source.is_ipv4(), "{answer:?}");
            let shares: Shares = (0..100).map(|_| way.ask(&client, target)).collect();
            ensure!(shares.is_fair(pods), "{shares}, {}", context());
        }
        let mut stream = client.stay(target)?;
        for _ in 0..20 {
            let _ = stream.exchange()?;
        }
        ensure!(client.datagrams(target)?.peer()? == target);
        let asked = is_refused_at_once(|| Way::Unconnected.ask(&client, target));
        let _ = asked.context("Linux cannot")?;

        // A socket that is to be IPv6's alone.
        for kind in [Type::STREAM, Type::DGRAM] {
            let socket = node.namespace().run(|| Ok(Socket::new(Domain::IPV6, kind, None)?))?;
            socket.set_only_v6(true)?;
            let error = socket.connect_timeout(&target.into(), PATIENCE).expect_err("it is not");
            let code = error.raw_os_error().with_context(|| format!("it hangs: {error}"))?;
            eprintln!(
                "an IPV6_V6ONLY socket of {kind:?}: {}",
                std::io::Error::from_raw_os_error(code)
            );
        }

        let pod = Client::new(rig.pod("client"));
        for way in Way::CONNECTED {
            let asked = is_refused_at_once(|| way.ask(&pod, target));
            let _ = asked.with_context(|| format!("{way:?}: packets do not change family"))?;
        }
    }

    // IPv6 endpoints come: from then on they alone serve.
    let mut asking = client.datagrams(target::<V6>(WEB))?;
    let _ = asking.ask()?;
    let v6 = |pod: &&str| Endpoint::at([rig.pod(pod).address(V6::FAMILY)]);
    let both = v4_endpoints(&rig, &PODS[..2]).into_iter().chain(PODS[2..].iter().map(v6));
    rig.cluster.manifests.apply(&web(WEB, "web").endpoints(both))?;
    rig.wait_for::<V6>(WEB, &PODS[2..])?;
    for way in Way::ALL {
        let answer = way.ask(&client, target::<V6>(WEB))?;
        ensure!(answer.source.is_ipv6() && answer.peer == target::<V6>(WEB), "{answer:?}");
    }
    // And go again.
    rig.cluster.manifests.apply(&web(WEB, "web").endpoints(v4_endpoints(&rig, &PODS[..2])))?;
    let back = || {
        let answer = Way::Stream.ask(&client, target::<V6>(WEB));
        answer.is_ok_and(|answer| answer.source.is_ipv4())
    };
    ensure!(eventually(back), "the IPv4 endpoints do not serve again");
    ensure!(agent.stop()?.success());
    Ok(())
}
