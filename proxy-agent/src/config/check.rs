// SPDX-License-Identifier: Apache-2.0
//! What is wrong with a configuration: kube-proxy's rules (`pkg/proxy/apis/config/validation/validation.go`, Kubernetes
//! 1.36).

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::{
    FeatureGate, FlushFrequency, GoDuration, KubeProxyConfiguration, Mode, defaults::PRIMARY,
};

/// The one version of which hidden metrics may be asked for: that before 1.36.
const VERSION_BEFORE: &str = "1.35";
/// The ways to tell the node's own pods from other clients.
const LOCAL_MODES: [&str; 4] =
    ["ClusterCIDR", "NodeCIDR", "BridgeInterface", "InterfaceNamePrefix"];

/// A value that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {value:?} {why}")]
pub struct Invalid {
    /// The path of the field, as in `conntrack.min`.
    pub field: String,
    /// What it is.
    pub value: String,
    /// What it must be.
    pub why: String,
}

/// Collects what is wrong.
#[derive(Debug, Default)]
struct Findings(Vec<Invalid>);

impl Findings {
    fn ensure(&mut self, holds: bool, field: &str, value: &dyn ToString, why: &str) {
        if !holds {
            let (field, value, why) = (field.to_owned(), value.to_string(), why.to_owned());
            self.0.push(Invalid { field, value, why });
        }
    }

    fn ensure_within(&mut self, value: Option<i32>, field: &str, least: i32, most: i32) {
        if let Some(value) = value {
            let why = match most {
                i32::MAX => format!("must not be less than {least}"),
                _ => format!("must be within {least} and {most}"),
            };
            self.ensure((least..=most).contains(&value), field, &value, &why);
        }
    }

    fn ensure_not_negative(&mut self, durations: &[(&str, GoDuration)]) {
        for (field, duration) in durations {
            let holds = *duration >= GoDuration::ZERO;
            self.ensure(holds, field, duration, "must not be negative");
        }
    }
}

impl KubeProxyConfiguration {
    /// What is wrong with a configuration that is [complete](Self::complete).
    #[must_use]
    pub fn check(&self) -> Vec<Invalid> {
        let mut findings = Findings::default();
        self.check_features(&mut findings);
        self.check_mode(&mut findings);
        self.check_conntrack(&mut findings);
        self.check_addresses(&mut findings);
        self.check_local_clients(&mut findings);
        self.check_rest(&mut findings);
        findings.0
    }

    fn check_features(&self, findings: &mut Findings) {
        for (name, value) in &self.feature_gates {
            if let Err(unknown) = name.parse::<FeatureGate>() {
                let field = format!("featureGates.{name}");
                findings.ensure(false, &field, value, &format!("cannot be: {unknown}"));
            }
        }
    }

    fn check_mode(&self, findings: &mut Findings) {
        let Some(mode) = self.known_mode() else {
            let why = "must be iptables, ipvs, nftables, or nothing, which is iptables";
            return findings.ensure(false, "mode", &self.mode, why);
        };
        findings.ensure_within(self.iptables.masquerade_bit, "iptables.masqueradeBit", 0, 31);
        match mode {
            Mode::IpTables => {}
            Mode::Ipvs => self.check_ipvs(findings),
            Mode::NfTables => {
                let bit = self.nftables.masquerade_bit;
                findings.ensure_within(bit, "nftables.masqueradeBit", 0, 31);
            }
        }
        let (period, least) = (self.sync_period(), self.min_sync_period());
        let field = |name| format!("{}.{name}", mode.name());
        let holds = period > GoDuration::ZERO;
        findings.ensure(holds, &field("syncPeriod"), &period, "must be more than nothing");
        findings.ensure_not_negative(&[(&field("minSyncPeriod"), least)]);
        let why = format!("must not be less than minSyncPeriod, {least}");
        findings.ensure(least <= period, &field("syncPeriod"), &period, &why);
    }

    fn check_ipvs(&self, findings: &mut Findings) {
        findings.ensure_not_negative(&[
            ("ipvs.tcpTimeout", self.ipvs.tcp_timeout),
            ("ipvs.tcpFinTimeout", self.ipvs.tcp_fin_timeout),
            ("ipvs.udpTimeout", self.ipvs.udp_timeout),
        ]);
        for (at, range) in self.ipvs.exclude_cidrs.iter().flatten().enumerate() {
            let holds = range.parse::<IpNet>().is_ok();
            findings.ensure(holds, &format!("ipvs.excludeCIDRs[{at}]"), range, "must be a CIDR");
        }
    }

    fn check_conntrack(&self, findings: &mut Findings) {
        let conntrack = &self.conntrack;
        findings.ensure_within(conntrack.max_per_core, "conntrack.maxPerCore", 0, i32::MAX);
        findings.ensure_within(conntrack.min, "conntrack.min", 0, i32::MAX);
        let timeout = Option::unwrap_or_default;
        findings.ensure_not_negative(&[
            ("conntrack.tcpEstablishedTimeout", timeout(conntrack.tcp_established_timeout)),
            ("conntrack.tcpCloseWaitTimeout", timeout(conntrack.tcp_close_wait_timeout)),
            ("conntrack.udpTimeout", conntrack.udp_timeout),
            ("conntrack.udpStreamTimeout", conntrack.udp_stream_timeout),
        ]);
    }

    fn check_addresses(&self, findings: &mut Findings) {
        let is_address = self.bind_address.parse::<IpAddr>().is_ok();
        findings.ensure(is_address, "bindAddress", &self.bind_address, "must be an address");
        for (field, address) in [
            ("healthzBindAddress", &self.healthz_bind_address),
            ("metricsBindAddress", &self.metrics_bind_address),
        ] {
            let holds = address.is_empty()
                || address.parse::<SocketAddr>().is_ok_and(|address| address.port() > 0);
            findings.ensure(holds, field, address, "must be an address with a port");
        }
        let served = self.node_port_addresses.as_deref().unwrap_or_default();
        for (at, text) in served.iter().enumerate() {
            let (holds, why) = match text.as_str() {
                PRIMARY => (served.len() == 1, "cannot be beside others"),
                range => (range.parse::<IpNet>().is_ok(), "must be a CIDR"),
            };
            findings.ensure(holds, &format!("nodePortAddresses[{at}]"), text, why);
        }
    }

    fn check_local_clients(&self, findings: &mut Findings) {
        let mode = self.detect_local_mode.as_str();
        let why = format!("must be one of {}, or nothing", LOCAL_MODES.join(", "));
        let is_known = mode.is_empty() || LOCAL_MODES.contains(&mode);
        findings.ensure(is_known, "detectLocalMode", &mode, &why);
        let needed = format!("must be said for {mode}");
        let device = &self.detect_local;
        match mode {
            "BridgeInterface" => {
                let (field, bridge) = ("detectLocal.bridgeInterface", &device.bridge_interface);
                findings.ensure(!bridge.is_empty(), field, bridge, &needed);
            }
            "InterfaceNamePrefix" => {
                let field = "detectLocal.interfaceNamePrefix";
                let prefix = &device.interface_name_prefix;
                findings.ensure(!prefix.is_empty(), field, prefix, &needed);
            }
            "ClusterCIDR" if !self.cluster_cidr.is_empty() => {
                let holds = self.cluster_cidrs().is_some_and(|ranges| match ranges[..] {
                    [_] => true,
                    [one, other] => one.addr().is_ipv4() != other.addr().is_ipv4(),
                    _ => false,
                });
                let why = "must be a CIDR, or one of each family with a comma between them";
                findings.ensure(holds, "clusterCIDR", &self.cluster_cidr, why);
            }
            _ => {}
        }
    }

    /// The ranges of pods' addresses; nothing if one of them is none.
    pub(super) fn cluster_cidrs(&self) -> Option<Vec<IpNet>> {
        self.cluster_cidr.split(',').map(|range| range.parse().ok()).collect()
    }

    fn check_rest(&self, findings: &mut Findings) {
        findings.ensure_within(
            Some(self.client_connection.burst),
            "clientConnection.burst",
            0,
            i32::MAX,
        );
        findings.ensure_within(self.oom_score_adj, "oomScoreAdj", -1000, 1000);
        let period = self.config_sync_period;
        let holds = period > GoDuration::ZERO;
        findings.ensure(holds, "configSyncPeriod", &period, "must be more than nothing");
        let version = self.show_hidden_metrics_for_version.as_str();
        let why = format!("must be {VERSION_BEFORE}, or nothing");
        let holds = ["", VERSION_BEFORE].contains(&version);
        findings.ensure(holds, "showHiddenMetricsForVersion", &version, &why);
        let range = &self.port_range;
        findings.ensure(is_port_range(range), "portRange", range, "must be as 300-2000");
        let format = &self.logging.format;
        let is_text = format == "text";
        let holds = is_text || format == "json";
        findings.ensure(holds, "logging.format", format, "must be text or json");
        let holds = is_text || self.logging.vmodule.is_empty();
        findings.ensure(holds, "logging.vmodule", format, "does not have it: only text does");
        if let FlushFrequency::Text(frequency) = self.logging.flush_frequency {
            findings.ensure_not_negative(&[("logging.flushFrequency", frequency)]);
        }
    }
}

/// One port, the first and the last, or the first and how many more, as Go's `ParsePortRange` takes them.
fn is_port_range(text: &str) -> bool {
    let port = |text: &str| text.trim().parse::<u16>().ok();
    let text = text.trim();
    if text.is_empty() {
        return true;
    }
    if let Some((first, last)) = text.split_once('-') {
        return port(first).zip(port(last)).is_some_and(|(first, last)| first <= last);
    }
    if let Some((first, more)) = text.split_once('+') {
        return port(first).zip(port(more)).is_some();
    }
    port(text).is_some()
}
