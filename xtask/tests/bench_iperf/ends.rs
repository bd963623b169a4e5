// SPDX-License-Identifier: Apache-2.0
//! What is left when the command ends, however it does.

use std::{
    os::unix::process::ExitStatusExt as _,
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::json;

use super::cluster::{Cluster, Nature, SOUND};

/// A namespace that somebody else has made.
fn other_namespace(cluster: &Cluster) -> String {
    let path = "/api/v1/namespaces/shared".to_owned();
    let object = json!({
        "kind": "Namespace", "apiVersion": "v1", "metadata": { "name": "shared" },
    });
    cluster.server.workloads().change(|all| drop(all.insert(path.clone(), object)));
    path
}

#[test]
fn an_interrupt_leaves_nothing() {
    for (signal, in_shared) in
        [(Signal::SIGINT, false), (Signal::SIGTERM, false), (Signal::SIGINT, true)]
    {
        let cluster = Cluster::new(Nature { endless: true, ..SOUND });
        let shared = in_shared.then(|| other_namespace(&cluster));
        let arguments: &[&str] = if in_shared { &["--namespace", "shared"] } else { &[] };
        let mut child = cluster.command(arguments).spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(30);
        let is_at_work = || {
            let all = cluster.server.workloads().all();
            all.values().any(|pod| {
                pod["status"]["phase"] == "Running" && pod["spec"]["nodeName"] == "client-node"
            })
        };
        while !is_at_work() {
            if Instant::now() > deadline {
                child.kill().unwrap();
                panic!("no client starts: {:?}", child.wait_with_output());
            }
            thread::sleep(Duration::from_millis(20));
        }
        kill(Pid::from_raw(child.id().try_into().unwrap()), signal).unwrap();
        let status = child.wait().unwrap();
        assert_eq!(status.signal(), Some(signal as i32));
        assert_eq!(cluster.left(), Vec::from_iter(shared), "{signal}");
    }
}

#[test]
fn a_namespace_of_others_stays_without_what_was_made_in_it() {
    let cluster = Cluster::new(SOUND);
    let path = other_namespace(&cluster);
    let (succeeded, text) = cluster.run(&["--rounds", "1", "--namespace", "shared"]);
    assert!(succeeded, "{text}");
    assert!(cluster.made("Namespace").is_empty());
    assert_eq!(cluster.left(), [path]);
}

#[test]
fn all_stays_if_that_is_wanted() {
    let cluster = Cluster::new(SOUND);
    let (succeeded, text) = cluster.run(&["--rounds", "1", "--keep"]);
    assert!(succeeded, "{text}");
    let left = cluster.left();
    for kind in ["Namespace", "Service", "Pod", "Job"] {
        let [made] = &cluster.made(kind)[..] else { panic!("one {kind} is made") };
        let name = made["metadata"]["name"].as_str().unwrap();
        assert!(left.iter().any(|left| left.contains(name)), "{name}: {left:?}");
        assert!(kind != "Namespace" || text.contains(&format!("--namespace {name}")), "{text}");
    }
}
