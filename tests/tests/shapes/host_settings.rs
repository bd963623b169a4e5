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
use proxy_tests::topology::{BetweenNodes, DEVICE, PodNetwork};
use proxy_tests::traffic::Client;

use crate::rig::{NODE, Place, Rig, vip};

both_families!(settings_are_told_of_and_left_alone);

/// The agent looks a second after devices have come.
const LOOKED: Duration = Duration::from_millis(1500);
const PATIENCE: Duration = Duration::from_secs(10);

/// A setting, its wrong value, and what the agent says of it.
struct Case {
    key: String,
    wrong: &'static str,
    right: &'static str,
    effect: String,
}

impl Case {
    fn sentence(&self) -> String {
        let Self { key, wrong, right, effect } = self;
        let services = "pods do not reach all backends of Services";
        let change = format!("change it with `sysctl -w net/{key}={right}`.");
        format!("net/{key} is {wrong}, so {effect}, and {services}: {change}")
    }
}

/// A case of the whole host, and one of its uplink.
fn cases(family: IpFamily) -> [Case; 2] {
    let case = |key: &str, wrong, right, effect: &str| {
        let effect = format!("{family} packets {effect}");
        Case { key: key.to_owned(), wrong, right, effect }
    };
    let by = format!("that come by {DEVICE} are");
    match family {
        IpFamily::V4 => [
            case("ipv4/ip_forward", "0", "1", "are not forwarded"),
            case(
                &format!("ipv4/conf/{DEVICE}/forwarding"),
                "0",
                "1",
                &format!("{by} not forwarded"),
            ),
        ],
        IpFamily::V6 => [
            case("ipv6/conf/all/forwarding", "0", "1", "are not forwarded"),
            case(
                &format!("ipv6/conf/{DEVICE}/disable_ipv6"),
                "1",
                "0",
                &format!("{by} thrown away"),
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

fn settings_are_told_of_and_left_alone<F: TestFamily>() -> Result<()> {
    let rig = Rig::joined(PodNetwork::Bridge { netfilter: false }, BetweenNodes::Direct)?;
    let node = rig.topology.node(NODE).host().namespace();
    let [whole, uplink] = cases(F::FAMILY);
    let reaches = || {
        let client = Client::new(rig.client()).patience(Duration::from_millis(300));
        client.ask(Protocol::Tcp, vip::<F>(Place::Far)).is_ok()
    };

    let before = settings(node)?;
    ensure!(before.len() > 100, "only {} settings", before.len());
    let mut agent = rig.start()?;
    thread::sleep(LOOKED);
    ensure!(!agent.log()?.contains("sysctl"), "it warns of a good host");
    ensure!(settings(node)? == before, "it has changed settings");
    ensure!(reaches(), "the host is good");

    // What has become wrong is found when another device comes.
    node.sysctl([(uplink.key.as_str(), uplink.wrong)])?;
    let other = Namespace::new("other")?;
    node.netlink()?.add_veth(Veth::named("late"), Veth::named(DEVICE), &other)?;
    agent.wait_for(&uplink.sentence(), PATIENCE)?;
    ensure!(!reaches(), "the setting does not matter");
    ensure!(agent.stop()?.success());

    // And what is wrong at the start, with the remedy that it names.
    let rig = Rig::joined(PodNetwork::Routed, BetweenNodes::Direct)?;
    let node = rig.topology.node(NODE).host().namespace();
    let reaches = || {
        let client = Client::new(rig.client()).patience(Duration::from_millis(300));
        client.ask(Protocol::Tcp, vip::<F>(Place::Far)).is_ok()
    };
    node.sysctl([(whole.key.as_str(), whole.wrong)])?;
    let before = settings(node)?;
    let mut agent = rig.start()?;
    agent.wait_for(&whole.sentence(), PATIENCE)?;
    let log = agent.log()?;
    let said = log.lines().filter(|line| line.contains("sysctl")).count();
    ensure!(said == 1, "it says {said} sentences: {log}");
    ensure!(!reaches(), "the setting does not matter");
    ensure!(settings(node)? == before, "it has changed settings");
    node.sysctl([(whole.key.as_str(), whole.right)])?;
    rig.serves::<F>(Place::Far, false)?;
    ensure!(agent.stop()?.success());
    Ok(())
}
