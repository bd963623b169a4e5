// SPDX-License-Identifier: Apache-2.0
//! What a configuration without faults asks for, in the terms of those who do it.

use std::{net::IpAddr, path::PathBuf};

use ipnet::IpNet;
use tracing_subscriber::filter::{LevelFilter, Targets};

use super::{KubeProxyConfiguration, defaults::PRIMARY};
use crate::{
    local_clients::{Detection, LocalClients},
    plan::NodePortAddresses,
    status::Places,
};

/// Without it no external IP is served.
const EXTERNAL_IPS: &str = "AllowServiceExternalIPs";
/// From this verbosity on Kubernetes' programs log what is for debugging, and from the other one on what is for tracing.
const DEBUG: u32 = 4;
const TRACE: u32 = 8;

impl KubeProxyConfiguration {
    /// The kubeconfig; nothing for the pod's own credentials.
    #[must_use]
    pub fn kubeconfig(&self) -> Option<PathBuf> {
        let path = &self.client_connection.kubeconfig;
        (!path.is_empty()).then(|| path.into())
    }

    /// At which of the node's addresses node ports are served.
    #[must_use]
    pub fn served_node_ports(&self) -> NodePortAddresses {
        let said = self.node_port_addresses.as_deref().unwrap_or_default();
        if said.iter().any(|word| word == PRIMARY) {
            let own: Option<IpAddr> = self.bind_address.parse().ok();
            return NodePortAddresses::Primary(own.filter(|own| !own.is_unspecified()));
        }
        let ranges = said.iter().filter_map(|range| range.parse::<IpNet>().ok());
        NodePortAddresses::Within(ranges.collect())
    }

    /// Whether external IPs are served.
    #[must_use]
    pub fn allows_external_ips(&self) -> bool {
        self.feature_gates.get(EXTERNAL_IPS).copied().unwrap_or(true)
    }

    /// Where health and metrics are answered.
    #[must_use]
    pub fn status_places(&self) -> Places {
        Places {
            healthz: self.healthz_bind_address.parse().ok(),
            metrics: self.metrics_bind_address.parse().ok(),
            hard_fail: self.bind_address_hard_fail,
        }
    }

    /// How the node's own pods are told from other clients.
    #[must_use]
    pub fn detection(&self) -> Detection {
        let device = &self.detect_local;
        let local = match self.detect_local_mode.as_str() {
            "NodeCIDR" => LocalClients::WithinNode,
            "BridgeInterface" => LocalClients::ByBridge(device.bridge_interface.clone()),
            "InterfaceNamePrefix" => {
                LocalClients::ByNamePrefix(device.interface_name_prefix.clone())
            }
            _ => match self.cluster_cidrs() {
                Some(ranges) => LocalClients::Within(ranges),
                None => LocalClients::ByRole,
            },
        };
        Detection { local, masquerades_all: self.masquerade_all() }
    }

    /// What is logged.
    #[must_use]
    pub fn log_level(&self) -> Targets {
        let level = match self.logging.verbosity {
            ..DEBUG => LevelFilter::INFO,
            DEBUG..TRACE => LevelFilter::DEBUG,
            TRACE.. => LevelFilter::TRACE,
        };
        Targets::new().with_default(level)
    }

    /// Whether it is logged as JSON.
    #[must_use]
    pub fn logs_json(&self) -> bool {
        self.logging.format == "json"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> KubeProxyConfiguration {
        let head = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n";
        let mut read = KubeProxyConfiguration::parse(&format!("{head}{text}")).unwrap();
        read.complete();
        assert_eq!(read.check(), [], "{text}");
        read
    }

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn node_ports_are_at_primary_addresses_or_within_ranges() {
        let served = |text: &str| of(text).served_node_ports();
        let everywhere = NodePortAddresses::Within(Vec::new());
        assert_eq!(served(""), everywhere);
        assert_eq!(served("mode: ipvs\n"), everywhere);
        let primary = NodePortAddresses::Primary(None);
        assert_eq!(served("mode: nftables\n"), primary);
        assert_eq!(served("mode: nftables\nbindAddress: '::'\n"), primary);
        assert_eq!(served("nodePortAddresses: [primary]\n"), primary);
        let own = NodePortAddresses::Primary(Some("fd00::7".parse().unwrap()));
        assert_eq!(served("mode: nftables\nbindAddress: fd00::7\n"), own);
        let ranges = NodePortAddresses::Within(nets(&["fd00::/8", "10.0.0.0/8"]));
        assert_eq!(served("mode: nftables\nnodePortAddresses: ['fd00::/8', 10.0.0.0/8]\n"), ranges);
    }

    #[test]
    fn external_ips_are_served_unless_the_feature_is_off() {
        assert!(of("").allows_external_ips());
        assert!(of("featureGates: {AllAlpha: false}\n").allows_external_ips());
        assert!(!of("featureGates: {AllowServiceExternalIPs: false}\n").allows_external_ips());
    }

    #[test]
    fn each_mode_tells_local_clients_by_its_field() {
        let local = |text: &str| of(text).detection().local;
        assert_eq!(local(""), LocalClients::ByRole);
        for ranges in [["10.244.0.0/16", "fd00:10:244::/56"], ["fd00:10:244::/56", "10.244.0.0/16"]]
        {
            let text = format!("clusterCIDR: {}\n", ranges.join(","));
            assert_eq!(local(&text), LocalClients::Within(nets(&ranges)));
        }
        assert_eq!(local("detectLocalMode: NodeCIDR\n"), LocalClients::WithinNode);
        let bridge = "detectLocalMode: BridgeInterface\ndetectLocal: {bridgeInterface: cni0}\n";
        assert_eq!(local(bridge), LocalClients::ByBridge("cni0".to_owned()));
        let prefix =
            "detectLocalMode: InterfaceNamePrefix\ndetectLocal: {interfaceNamePrefix: veth}\n";
        assert_eq!(local(prefix), LocalClients::ByNamePrefix("veth".to_owned()));
        assert!(of("iptables: {masqueradeAll: true}\n").detection().masquerades_all);
        assert!(!of("nftables: {masqueradeAll: true}\n").detection().masquerades_all);
    }

    #[test]
    fn more_is_logged_from_a_verbosity_on() {
        for (verbosity, level) in [
            (0, LevelFilter::INFO),
            (3, LevelFilter::INFO),
            (4, LevelFilter::DEBUG),
            (10, LevelFilter::TRACE),
        ] {
            let logging = of(&format!("logging: {{verbosity: {verbosity}, format: json}}\n"));
            assert_eq!(logging.log_level().default_level(), Some(level));
            assert!(logging.logs_json());
        }
    }
}
