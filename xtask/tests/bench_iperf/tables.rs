// SPDX-License-Identifier: Apache-2.0
//! What is printed, and what was made for it.

use proxy_tests::family::IpFamily;
use serde_json::Value;

use super::{
    cluster::{CLUSTER_IPS, Cluster, Nature, POD_IPS, SOUND},
    recorded::Recorded,
};

/// The rows of a table, as cells.
fn rows(text: &str) -> Vec<Vec<String>> {
    let rows = text.lines().filter(|line| line.starts_with('│'));
    rows.map(|row| row.trim_matches('│').split('┆').map(|cell| cell.trim().to_owned()).collect())
        .collect()
}

/// Checks the rows of a family, of all works: medians and ratios.
fn check_rows(text: &str, family: IpFamily) {
    let place = IpFamily::ALL.iter().position(|it| *it == family).unwrap();
    let recorded = Recorded::new();
    let [direct, service] = [POD_IPS, CLUSTER_IPS].map(|ips| ips[place]);
    for (path, medians, ratios) in [
        ("direct, to the pod", recorded.medians(direct), None),
        ("ClusterIP", recorded.medians(service), Some(recorded.ratios(service, direct))),
    ] {
        let rows: Vec<_> = rows(text)
            .into_iter()
            .filter(|row| (row[1].as_str(), row[2].as_str()) == (path, family.name()))
            .collect();
        assert_eq!(rows.len(), 3, "{path} over {family}:\n{text}");
        for (work, digits) in [2, 2, 0].into_iter().enumerate() {
            let row = &rows[work];
            assert_eq!(row[3], format!("{:.digits$}", medians[work]), "{row:?}");
            let ratio = ratios.map(|ratios| format!("{:.3}", ratios[work]));
            assert_eq!(row[5], ratio.unwrap_or_default(), "{row:?}");
            assert_eq!(row[7], if ratios.is_some() { "direct, to the pod" } else { "" });
        }
    }
}

#[test]
fn a_table_across_families_and_paths() {
    let cluster = Cluster::new(SOUND);
    let (succeeded, text) = cluster.run(&["--rounds", "2"]);
    assert!(succeeded, "{text}");
    for family in IpFamily::ALL {
        check_rows(&text, family);
    }
    assert!(text.contains("from client-node to server-node"), "{text}");
    assert!(text.contains("too few rounds for that: some hold it with 50.0 % only"), "{text}");
    assert_eq!(cluster.left(), [""; 0]);
    assert_eq!(cluster.made("Job").len(), 2);
}

#[test]
fn what_is_made_is_what_a_strict_cluster_takes() {
    let cluster = Cluster::new(SOUND);
    let nodes = ["--node-client", "one", "--node-server", "other"];
    let (succeeded, text) =
        cluster.run(&[&["--rounds", "1", "--image", "registry.example/i:1"], &nodes[..]].concat());
    assert!(succeeded, "{text}");
    let [namespace] = &cluster.made("Namespace")[..] else { panic!("one namespace is made") };
    assert!(namespace["metadata"]["generateName"].is_string());
    let [service] = &cluster.made("Service")[..] else { panic!("one Service is made") };
    assert_eq!(service["spec"]["ipFamilyPolicy"], "PreferDualStack");
    let ports = service["spec"]["ports"].as_array().unwrap().iter();
    let ports: Vec<_> =
        ports.map(|port| (port["protocol"].as_str().unwrap(), &port["port"])).collect();
    assert_eq!(ports, [("TCP", &Value::from(5201)), ("UDP", &Value::from(5201))]);
    let [server] = &cluster.made("Pod")[..] else { panic!("one Pod is made") };
    assert_eq!(server["metadata"]["labels"], service["spec"]["selector"]);
    let [job] = &cluster.made("Job")[..] else { panic!("one Job is made") };
    assert_eq!(job["spec"]["backoffLimit"], 0);
    let client = &job["spec"]["template"];
    assert_eq!(client["spec"]["restartPolicy"], "Never");
    assert_ne!(client["metadata"]["labels"], service["spec"]["selector"]);
    for (pod, node) in [(&server["spec"], "other"), (&client["spec"], "one")] {
        let [container] = &pod["containers"].as_array().unwrap()[..] else { panic!("{pod}") };
        assert_eq!(container["image"], "registry.example/i:1");
        // The Pod Security Standard "restricted".
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
        assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
        let context = &container["securityContext"];
        assert_eq!(context["allowPrivilegeEscalation"], false);
        assert_eq!(context["capabilities"]["drop"][0], "ALL");
        let affinity = &pod["affinity"]["nodeAffinity"];
        let required = &affinity["requiredDuringSchedulingIgnoredDuringExecution"];
        assert_eq!(required["nodeSelectorTerms"][0]["matchFields"][0]["values"][0], node);
    }
}

fn in_a_cluster_of_one_family(families: &'static [IpFamily], absent: IpFamily) {
    let cluster = Cluster::new(Nature { families, ..SOUND });
    let (succeeded, text) = cluster.run(&["--rounds", "2"]);
    assert!(succeeded, "{text}");
    check_rows(&text, families[0]);
    let words = "is not measured: the pod has no address, and the Service has no cluster IP of it";
    assert!(text.contains(&format!("{absent} {words}")), "{text}");
    assert!(!rows(&text).iter().any(|row| row[2] == absent.name()), "{text}");
    assert_eq!(cluster.left(), [""; 0]);
}

#[test]
fn a_cluster_without_ipv6_says_so() {
    in_a_cluster_of_one_family(&[IpFamily::V4], IpFamily::V6);
}

#[test]
fn a_cluster_without_ipv4_says_so() {
    in_a_cluster_of_one_family(&[IpFamily::V6], IpFamily::V4);
}

fn where_the_service_is_dead(dead: IpFamily, alive: IpFamily) {
    let cluster = Cluster::new(Nature { dead: Some(dead), ..SOUND });
    let (succeeded, text) = cluster.run(&["--rounds", "2"]);
    assert!(!succeeded, "{text}");
    check_rows(&text, alive);
    let error = format!("ClusterIP, over {dead} failed: unable to connect to server: Connection");
    assert!(text.contains(&error), "{text}");
    let is_dead = |row: &Vec<String>| row[1] == "ClusterIP" && row[2] == dead.name();
    assert!(!rows(&text).iter().any(is_dead), "{text}");
    // It is tried once.
    let jobs = cluster.made("Job");
    let runs = |job: &Value| {
        job["spec"]["template"]["spec"]["containers"][0]["command"].as_array().unwrap().len() - 4
    };
    assert_eq!(jobs.iter().map(runs).collect::<Vec<_>>(), [12, 9]);
    assert_eq!(cluster.left(), [""; 0]);
}

#[test]
fn a_service_that_is_dead_over_ipv4_fails() {
    where_the_service_is_dead(IpFamily::V4, IpFamily::V6);
}

#[test]
fn a_service_that_is_dead_over_ipv6_fails() {
    where_the_service_is_dead(IpFamily::V6, IpFamily::V4);
}
