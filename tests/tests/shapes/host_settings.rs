// SPDX-License-Identifier: Apache-2.0

//! Settings of the host that Services need: the agent tells of them, and changes none.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use proxy_tests::both_families;
use proxy_tests::family::{IpFamily, TestFamily};
use proxy_tests::netns::{Namespace, Veth};
use proxy_tests::protocol::Protocol;
use proxy_tests::topology::{BetweenNodes, POD_BRIDGE, PodNetwork};
use proxy_tests::traffic::Client;

use crate::firewall;
use crate::rig::{NODE, Place, Rig, vip};

both_families!(settings_are_told_of_and_left_alone, settings_that_do_not_matter);

/// The agent looks a second after devices have come.
const LOOKED: Duration = Duration::from_millis(1500);
const PATIENCE: Duration = Duration::from_secs(30);

/// A setting, and what the agent says of it.
struct Case {
    key: &'static str,
    wrong: &'static str,
    right: &'static str,
    effect: &'static str,
    /// A backend that is not reached because of it.
    place: Place,
}

impl Case {
    fn sentence(&self) -> String {
        let Self { key, wrong, right, effect, .. } = self;
        format!("net/{key} is {wrong}, so {effect}: change it with `sysctl -w net/{key}={right}`.")
    }
}

/// Cases of the whole host, of its bridge, and of its uplink.
fn cases(family: IpFamily) -> [Case; 3] {
    let case = |key, wrong, right, effect, place| Case { key, wrong, right, effect, place };
    match family {
        IpFamily::V4 => [
            case(
                "ipv4/ip_forward",
                "0",
                "1",
                "IPv4 packets are not forwarded, and pods do not reach all backends of Services",
                Place::Far,
            ),
            case(
                "ipv4/conf/cni0/forwarding",
                "0",
                "1",
                "IPv4 packets that come by cni0 are not forwarded, and pods do not reach all \
                 backends of Services",
                Place::Far,
            ),
            case(
                "ipv4/conf/eth0/forwarding",
                "0",
                "1",
                "IPv4 packets that come by eth0 are not forwarded, and pods do not reach all \
                 backends of Services",
                Place::Far,
            ),
        ],
        IpFamily::V6 => [
            case(
                "ipv6/conf/all/forwarding",
                "0",
                "1",
                "IPv6 packets are not forwarded, and pods do not reach all backends of Services",
                Place::Far,
            ),
            case(
                "ipv6/conf/cni0/forwarding",
                "0",
                "1",
                "IPv6 packets that come by cni0 are routed to pods beside their sender, and where \
                 conntrack's INVALID is dropped, these do not reach each other's Services",
                Place::Near,
            ),
            case(
                "ipv6/conf/eth0/disable_ipv6",
                "1",
                "0",
                "IPv6 packets that come by eth0 are thrown away, and pods do not reach all \
                 backends of Services",
                Place::Far,
            ),
        ],
    }
}

/// All settings of IP and of bridges in a namespace.
fn settings(node: &Namespace) -> Result<BTreeMap<PathBuf, String>> {
    fn add(to: &mut BTreeMap<PathBuf, String>, folder: &Path) -> Result<()> {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                add(to, &path)?;
            } else if let Ok(value) = fs::read_to_string(&path) {
                // Some can only be written.
                let _ = to.insert(path, value);
            }
        }
        Ok(())
    }
    node.run(|| {
        let mut all = BTreeMap::new();
        for part in ["ipv4", "ipv6", "bridge"] {
            add(&mut all, &Path::new("/proc/sys/net").join(part))
                .with_context(|| part.to_owned())?;
        }
        Ok(all)
    })
}

/// Whether the client reaches a Service's backend soon.
fn reaches<F: TestFamily>(rig: &Rig, place: Place) -> bool {
    let client = Client::new(rig.client()).patience(Duration::from_millis(300));
    client.ask(Protocol::Tcp, vip::<F>(place)).is_ok()
}

fn settings_are_told_of_and_left_alone<F: TestFamily>() -> Result<()> {
    let [whole, bridge, uplink] = cases(F::FAMILY);
    let rig = Rig::joined(PodNetwork::Bridge { netfilter: false }, BetweenNodes::Direct)?;
    let node = rig.topology.node(NODE).host().namespace();
    firewall::WORST.apply(node)?;
    let before = settings(node)?;
    ensure!(before.len() > 100, "only {} settings", before.len());
    let mut agent = rig.start()?;
    thread::sleep(LOOKED);
    ensure!(!agent.log()?.contains("sysctl"), "it warns of a good host");
    ensure!(settings(node)? == before, "it has changed settings");

    // What has become wrong is found when another device comes.
    let other = Namespace::new("other")?;
    for (case, device) in [(bridge, "late-1"), (uplink, "late-2")] {
        ensure!(reaches::<F>(&rig, case.place), "{} is right", case.key);
        node.sysctl([(case.key, case.wrong)])?;
        node.ip(&format!("neighbour flush dev {POD_BRIDGE}"))?;
        node.netlink()?.add_veth(Veth::named(device), Veth::named(device), &other)?;
        agent.wait_for(&case.sentence(), PATIENCE)?;
        ensure!(!reaches::<F>(&rig, case.place), "{} does not matter", case.key);
        node.sysctl([(case.key, case.right)])?;
    }
    ensure!(agent.stop()?.success());

    // And what is wrong at the start, with the remedy that it names.
    let rig = Rig::joined(PodNetwork::Routed, BetweenNodes::Direct)?;
    let node = rig.topology.node(NODE).host().namespace();
    node.sysctl([(whole.key, whole.wrong)])?;
    let before = settings(node)?;
    let mut agent = rig.start()?;
    agent.wait_for(&whole.sentence(), PATIENCE)?;
    let log = agent.log()?;
    let said = log.lines().filter(|line| line.contains("sysctl")).count();
    ensure!(said == 1, "it says {said} sentences: {log}");
    ensure!(!reaches::<F>(&rig, whole.place), "{} does not matter", whole.key);
    ensure!(settings(node)? == before, "it has changed settings");
    node.sysctl([(whole.key, whole.right)])?;
    rig.serves::<F>(whole.place, false)?;
    ensure!(agent.stop()?.success());
    Ok(())
}

/// Settings of a family below `conf/*/`, or of bridges and conntrack, with values that none of
/// them may have an effect by.
fn harmless(family: IpFamily) -> &'static [(&'static str, &'static str)] {
    match family {
        IpFamily::V4 => &[
            ("ipv4/conf/*/rp_filter", "0"),
            ("ipv4/conf/*/rp_filter", "1"),
            ("ipv4/conf/*/rp_filter", "2"),
            ("ipv4/conf/*/accept_local", "0"),
            ("ipv4/conf/*/accept_local", "1"),
            ("ipv4/conf/*/send_redirects", "0"),
            ("ipv4/conf/*/send_redirects", "1"),
            ("bridge/bridge-nf-call-iptables", "0"),
            ("bridge/bridge-nf-call-iptables", "1"),
            ("netfilter/nf_conntrack_tcp_loose", "0"),
        ],
        IpFamily::V6 => &[
            // Of a bridge, it does.
            ("ipv6/conf/eth0/forwarding", "0"),
            ("ipv6/conf/*/disable_policy", "1"),
            ("ipv6/conf/*/accept_redirects", "0"),
            ("bridge/bridge-nf-call-ip6tables", "0"),
            ("bridge/bridge-nf-call-ip6tables", "1"),
            ("netfilter/nf_conntrack_tcp_loose", "0"),
        ],
    }
}

/// What is often asked for by proxies, and what administrators harden.
fn settings_that_do_not_matter<F: TestFamily>() -> Result<()> {
    for pods in [PodNetwork::Bridge { netfilter: false }, PodNetwork::Routed] {
        let rig = Rig::joined(pods, BetweenNodes::Direct)?;
        let node = rig.topology.node(NODE).host().namespace();
        firewall::WORST.apply(node)?;
        let mut agent = rig.start()?;
        for (key, value) in harmless(F::FAMILY) {
            let devices = match key.split_once('*') {
                Some(_) => node.netlink()?.link_names()?,
                None => vec![String::new()],
            };
            for device in devices {
                node.sysctl([(key.replace('*', &device).as_str(), *value)])?;
            }
            // Or nothing beside the client would be routed.
            node.ip("neighbour flush all")?;
            for place in Place::PODS.into_iter().chain(Place::OTHERS) {
                rig.answers::<F>(place, true).with_context(|| format!("{pods:?} {key} {value}"))?;
            }
            rig.refuses::<F>()?;
        }
        ensure!(agent.stop()?.success());
    }
    Ok(())
}
