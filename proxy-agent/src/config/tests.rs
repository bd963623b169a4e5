// SPDX-License-Identifier: Apache-2.0
//! Files as kubeadm writes them, and others.

use serde_json::{Value, json};

use super::*;

/// The head of each file.
const HEAD: &str = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n";

/// What kubeadm 1.36 writes for a dual-stack cluster, with all it leaves to kube-proxy.
const OF_KUBEADM: &str = include_str!("tests/kubeadm.yaml");

/// The answer of a kube-proxy 1.36 at `/configz`, in the mode nftables, and where the Node's pods have these ranges.
const CONFIGZ: &str = include_str!("tests/configz.json");

fn parse(more: &str) -> Result<KubeProxyConfiguration, ReadError> {
    KubeProxyConfiguration::parse(&format!("{HEAD}{more}"))
}

fn complete(more: &str) -> KubeProxyConfiguration {
    let mut read = parse(more).unwrap();
    read.complete();
    read
}

/// What is wrong with each field.
fn wrong(more: &str) -> Vec<String> {
    complete(more).check().into_iter().map(|invalid| invalid.field).collect()
}

#[test]
fn kubeadms_file_is_completed_as_by_kube_proxy() {
    let mut read = KubeProxyConfiguration::parse(OF_KUBEADM).unwrap();
    assert_eq!(read.ignored().unwrap(), []);
    "nftables".clone_into(&mut read.mode);
    "anc-node".clone_into(&mut read.hostname_override);
    read.logging.verbosity = 2;
    (read.conntrack.max_per_core, read.conntrack.min) = (Some(0), Some(0));
    read.complete();
    assert_eq!(read.check(), []);
    assert_eq!(serde_json::to_string(&read).unwrap(), CONFIGZ.trim_end());
}

#[test]
fn what_is_written_says_the_same() {
    let written = complete("mode: ipvs\nlogging: {vmodule: [{filePattern: x, verbosity: 3}]}\n");
    let text = written.to_yaml().unwrap();
    assert!(
        text.starts_with("apiVersion: kubeproxy.config.k8s.io/v1alpha1\nbindAddress:"),
        "{text}"
    );
    assert_eq!(KubeProxyConfiguration::parse(&text).unwrap(), written);
    let json = serde_json::to_string(&written).unwrap();
    assert_eq!(KubeProxyConfiguration::parse(&json).unwrap(), written);
}

#[test]
fn an_empty_file_is_one_of_iptables() {
    let read = complete("");
    assert_eq!(read.check(), []);
    assert_eq!((read.mode.as_str(), read.node_port_addresses), ("iptables", None));
    assert_eq!(read.healthz_bind_address, "0.0.0.0:10256");
    assert_eq!(read.metrics_bind_address, "127.0.0.1:10249");
    let conntrack = &read.conntrack;
    assert_eq!((conntrack.max_per_core, conntrack.min), (Some(32_768), Some(131_072)));
    let connection = &read.client_connection;
    assert_eq!((connection.qps, connection.burst), (5.0, 10));
}

#[test]
fn addresses_follow_the_primary_family() {
    let read = complete("bindAddress: '::'\n");
    assert_eq!(read.healthz_bind_address, "[::]:10256");
    assert_eq!(read.metrics_bind_address, "[::1]:10249");
    let read = complete("healthzBindAddress: fd00::1\nmetricsBindAddress: 127.0.0.1:9\n");
    assert_eq!(read.healthz_bind_address, "[fd00::1]:10256");
    assert_eq!(read.metrics_bind_address, "127.0.0.1:9");
}

#[test]
fn of_each_mode_its_section_counts() {
    let sections = "iptables: {masqueradeAll: true, syncPeriod: 10s}\nipvs: {syncPeriod: 20s}\n\
                    nftables: {syncPeriod: 40s, minSyncPeriod: 2s}\n";
    for (mode, seconds, least, masquerades) in [
        ("''", 10, 1, true),
        ("iptables", 10, 1, true),
        ("ipvs", 20, 0, true),
        ("nftables", 40, 2, false),
    ] {
        let read = complete(&format!("mode: {mode}\n{sections}"));
        assert_eq!(read.sync_period(), GoDuration::seconds(seconds), "{mode}");
        assert_eq!(read.min_sync_period(), GoDuration::seconds(least), "{mode}");
        assert_eq!(read.masquerade_all(), masquerades, "{mode}");
        let primary = read.node_port_addresses.as_deref() == Some(&["primary".to_owned()]);
        assert_eq!(primary, mode == "nftables");
    }
}

#[test]
fn unknown_and_duplicated_fields_are_named_with_their_line() {
    for (more, field, line) in [
        ("bindAddres: ::\n", "bindAddres", 3),
        ("conntrack:\n  min: 1\n  max: 2\n", "max", 5),
        ("nftables:\n  syncPeriod: 1s\n  minSyncPeriod: 1s\n  syncPeriod: 2s\n", "syncPeriod", 6),
        ("mode: ''\nlogging:\n  options:\n    text:\n      splitstream: true\n", "splitstream", 7),
        ("clusterCidr: 10.0.0.0/8\n", "clusterCidr", 3),
        ("mode: nftables\nmode: iptables\n", "mode", 4),
    ] {
        let error = parse(more).unwrap_err().to_string();
        assert!(error.contains(&format!("`{field}`")) || error.contains(field), "{error}");
        assert!(error.contains(&format!("line {line}")), "{more}{error}");
    }
}

#[test]
fn values_of_other_types_are_refused() {
    for bad in [
        "conntrack: {min: many}\n",
        "bindAddressHardFail: 7\n",
        "clusterCIDR: [10.0.0.0/8]\n",
        "hostnameOverride: 7\n",
        "configSyncPeriod: 15\n",
        "configSyncPeriod: 15 minutes\n",
        "clientConnection: {qps: fast}\n",
        "iptables: 3\n",
    ] {
        let error = parse(bad).unwrap_err();
        assert!(matches!(error, ReadError::Syntax(_)), "{bad}{error}");
        assert!(error.to_string().contains("line 3"), "{bad}{error}");
    }
}

#[test]
fn other_objects_are_refused() {
    for text in [
        "apiVersion: kubeproxy.config.k8s.io/v1alpha2\nkind: KubeProxyConfiguration\n",
        "apiVersion: v1\nkind: ConfigMap\n",
        "bindAddress: ::1\n",
    ] {
        let error = KubeProxyConfiguration::parse(text).unwrap_err();
        assert!(matches!(error, ReadError::Kind { .. }), "{text}{error}");
    }
    for text in ["", "- 1\n", "a: [\n"] {
        let error = KubeProxyConfiguration::parse(text).unwrap_err();
        assert!(matches!(error, ReadError::Syntax(_) | ReadError::Kind { .. }), "{text}{error}");
    }
}

#[test]
fn what_kube_proxy_refuses_is_refused() {
    for (more, field) in [
        ("featureGates: {Nonsense: true}\n", "featureGates.Nonsense"),
        ("mode: userspace\n", "mode"),
        ("iptables: {masqueradeBit: 32}\n", "iptables.masqueradeBit"),
        ("mode: nftables\nnftables: {masqueradeBit: -1}\n", "nftables.masqueradeBit"),
        ("nftables: {masqueradeBit: -1}\n", ""),
        (
            "iptables: {syncPeriod: -1s, minSyncPeriod: -2s}\n",
            "iptables.syncPeriod iptables.minSyncPeriod",
        ),
        ("iptables: {syncPeriod: 1s, minSyncPeriod: 2s}\n", "iptables.syncPeriod"),
        ("ipvs: {udpTimeout: -1s}\n", ""),
        ("mode: ipvs\nipvs: {udpTimeout: -1s}\n", "ipvs.udpTimeout"),
        ("mode: ipvs\nipvs: {excludeCIDRs: ['::/0', x]}\n", "ipvs.excludeCIDRs[1]"),
        ("conntrack: {maxPerCore: -1, min: -1}\n", "conntrack.maxPerCore conntrack.min"),
        ("conntrack: {tcpEstablishedTimeout: -1s}\n", "conntrack.tcpEstablishedTimeout"),
        ("conntrack: {udpStreamTimeout: -1ms}\n", "conntrack.udpStreamTimeout"),
        ("bindAddress: localhost\n", "bindAddress healthzBindAddress"),
        ("healthzBindAddress: 0.0.0.0:0\n", "healthzBindAddress"),
        ("metricsBindAddress: '[::1]:70000'\n", "metricsBindAddress"),
        ("nodePortAddresses: [primary, 10.0.0.0/8]\n", "nodePortAddresses[0]"),
        ("nodePortAddresses: [10.0.0.0/8, 10.0.0.1]\n", "nodePortAddresses[1]"),
        ("nodePortAddresses: ['::/0', 10.0.0.0/8, '::/1']\n", ""),
        ("detectLocalMode: clustercidr\n", "detectLocalMode"),
        ("detectLocalMode: BridgeInterface\n", "detectLocal.bridgeInterface"),
        ("detectLocalMode: InterfaceNamePrefix\n", "detectLocal.interfaceNamePrefix"),
        ("clusterCIDR: 10.0.0.0/8,11.0.0.0/8\n", "clusterCIDR"),
        ("clusterCIDR: 10.0.0.0/8,fd00::/8,fd01::/16\n", "clusterCIDR"),
        ("clusterCIDR: '10.0.0.0/8, fd00::/8'\n", "clusterCIDR"),
        ("clusterCIDR: fd00::/8,10.0.0.0/8\n", ""),
        ("detectLocalMode: NodeCIDR\nclusterCIDR: nonsense\n", ""),
        ("clientConnection: {burst: -1}\n", "clientConnection.burst"),
        ("clientConnection: {qps: -1}\n", ""),
        ("oomScoreAdj: 1001\n", "oomScoreAdj"),
        ("configSyncPeriod: -1s\n", "configSyncPeriod"),
        ("showHiddenMetricsForVersion: '1.34'\n", "showHiddenMetricsForVersion"),
        ("showHiddenMetricsForVersion: '1.35'\n", ""),
        ("portRange: 7-5\n", "portRange"),
        ("portRange: 5-7\n", ""),
        ("portRange: 5+7\n", ""),
        ("logging: {format: xml}\n", "logging.format logging.vmodule"),
        ("logging: {format: json, vmodule: [{filePattern: a, verbosity: 1}]}\n", "logging.vmodule"),
    ] {
        let expected = match more {
            // What follows from the first.
            "bindAddress: localhost\n" => "bindAddress",
            "logging: {format: xml}\n" => "logging.format",
            _ => field,
        };
        assert_eq!(wrong(more).join(" "), expected, "{more}");
    }
}

#[test]
fn every_field_has_a_meaning() {
    let mut all = complete("");
    let _: Option<bool> = all.feature_gates.insert("AllAlpha".to_owned(), true);
    let Value::Object(fields) = serde_json::to_value(all).unwrap() else { panic!("no object") };
    let mut paths: Vec<_> = fields.into_iter().collect();
    let mut count = 0;
    while let Some((path, value)) = paths.pop() {
        if let Value::Object(below) = value {
            let below = below.into_iter().map(|(name, value)| (format!("{path}.{name}"), value));
            paths.extend(below);
        } else {
            assert!(Field::at(&path).is_some(), "{path}");
            count += 1;
        }
    }
    assert!(count > 50, "{count}");
    assert_eq!(Field::at("iptables.nonsense"), None);
}

#[test]
fn defaults_are_nothing_that_is_said() {
    for mode in ["", "iptables", "ipvs", "nftables"] {
        let mut all = KubeProxyConfiguration::of_mode(mode);
        let defaults = all.clone();
        assert_eq!(all.ignored_beside(&defaults).unwrap(), []);
        all.enable_profiling = true;
        assert_eq!(all.ignored_beside(&defaults).unwrap()[0].0, "enableProfiling");
        assert!(all.ignored().unwrap().len() > 1);
    }
}

#[test]
fn what_means_nothing_is_told_with_the_reason() {
    let read = parse(
        "featureGates: {AllAlpha: true, AllowServiceExternalIPs: true}\nenableProfiling: true\n\
         iptables: {masqueradeAll: true, localhostNodePorts: false}\nmode: nftables\n\
         nftables: {syncPeriod: 1m, minSyncPeriod: 5s}\nipvs: {scheduler: rr, excludeCIDRs: ['::/0']}\n",
    );
    let ignored: Vec<_> =
        read.unwrap().ignored().unwrap().into_iter().map(|(path, _)| path).collect();
    let expected = json!([
        "enableProfiling",
        "featureGates.AllAlpha",
        "iptables.masqueradeAll",
        "ipvs.excludeCIDRs",
        "ipvs.scheduler",
        "nftables.minSyncPeriod",
    ]);
    assert_eq!(json!(ignored), expected);
}
