// SPDX-License-Identifier: Apache-2.0
//! Clusters that do not want it, and what the command says of that.

use serde_json::{Value, json};

use super::cluster::{Cluster, Nature, SOUND};

/// Runs into something, and checks that the error says all of `words`, and that nothing is left.
fn ends_with(nature: Nature, arguments: &[&str], words: &[&str]) {
    let cluster = Cluster::new(nature);
    let (succeeded, text) = cluster.run(arguments);
    assert!(!succeeded, "{text}");
    let error = text.lines().find(|line| line.starts_with("error:")).unwrap_or_default();
    for words in words {
        assert!(error.contains(words), "{words}: {text}");
    }
    assert_eq!(cluster.left(), [""; 0], "{text}");
}

#[test]
fn a_missing_right_is_named() {
    for plural in ["namespaces", "services", "pods", "jobs"] {
        let words = format!("cannot create resource \"{plural}\"");
        let nature = Nature { forbidden: Some(("POST", plural)), ..SOUND };
        ends_with(nature, &["--rounds", "1"], &[&words, "docs/benchmarks.md"]);
    }
    let nature = Nature { forbidden: Some(("POST", "namespaces")), ..SOUND };
    ends_with(nature, &[], &["`--namespace` uses one that is there"]);
    let nature = Nature { forbidden: Some(("GET", "pods")), ..SOUND };
    ends_with(nature, &["--rounds", "1"], &["cannot list resource \"pods\""]);
}

fn no_image() -> Value {
    json!({ "phase": "Pending", "containerStatuses": [{
        "name": "iperf3", "image": "registry.example/i:1", "imageID": "", "ready": false,
        "restartCount": 0,
        "state": { "waiting": {
            "reason": "ImagePullBackOff",
            "message": "Back-off pulling image \"registry.example/i:1\"",
        }},
    }]})
}

#[test]
fn an_image_that_cannot_be_pulled_is_named() {
    for (component, who) in [("server", "the server"), ("client", "a client")] {
        let nature = Nature { obstacle: Some((component, no_image)), ..SOUND };
        let words = [who, "does not start", "ImagePullBackOff", "registry.example/i:1"];
        ends_with(nature, &[], &words);
    }
}

fn no_node() -> Value {
    json!({ "phase": "Pending", "conditions": [{
        "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
        "message": "0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector.",
    }]})
}

#[test]
fn a_pod_that_no_node_takes_is_not_waited_for_for_ever() {
    let nature = Nature { obstacle: Some(("server", no_node)), ..SOUND };
    ends_with(nature, &["--patience", "1"], &["not within 1 s", "Unschedulable", "0/2 nodes"]);
}

#[test]
fn a_job_without_a_pod_says_what_the_cluster_has_warned_of() {
    let warning = "Error creating: pods \"c\" is forbidden: exceeded quota: pods";
    let nature = Nature { warning: Some(warning), ..SOUND };
    ends_with(nature, &["--patience", "1"], &["no pod has been made", warning]);
}
