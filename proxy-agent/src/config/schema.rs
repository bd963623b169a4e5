// SPDX-License-Identifier: Apache-2.0
//! `KubeProxyConfiguration`, version `kubeproxy.config.k8s.io/v1alpha1`, as of Kubernetes 1.36
//! (`staging/src/k8s.io/kube-proxy/config/v1alpha1/types.go`), in the order in which kube-proxy prints its fields.
//!
//! What a file leaves out, or sets to `null`, is what it is in Go: empty, zero, or nothing at all.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{duration::GoDuration, logging::Logging};

/// `apiVersion` of such a file.
pub const API_VERSION: &str = "kubeproxy.config.k8s.io/v1alpha1";
/// Its `kind`.
pub const KIND: &str = "KubeProxyConfiguration";

/// The whole file.
#[serde_with::apply(_ => #[serde(deserialize_with = "null_is_nothing")])]
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct KubeProxyConfiguration {
    /// [`KIND`].
    pub kind: String,
    /// [`API_VERSION`].
    pub api_version: String,
    /// Features that are switched on or off.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub feature_gates: BTreeMap<String, bool>,
    /// How the Kubernetes API is spoken to.
    pub client_connection: ClientConnection,
    /// What is logged, and how.
    pub logging: Logging,
    /// The name of the own Node, if it is not the host's.
    pub hostname_override: String,
    /// The node's primary address, whose family is the primary one. Nothing is bound to it.
    pub bind_address: String,
    /// Where `/healthz` and `/livez` are answered: an address, with or without a port.
    pub healthz_bind_address: String,
    /// Where `/metrics` and the like are answered.
    pub metrics_bind_address: String,
    /// Whether the process ends where one of these two cannot be bound.
    pub bind_address_hard_fail: bool,
    /// Whether Go's profiles are answered at the latter.
    pub enable_profiling: bool,
    /// Of which version hidden metrics are shown.
    pub show_hidden_metrics_for_version: String,
    /// `iptables`, `ipvs`, `nftables`, or nothing, which is the first of these.
    pub mode: String,
    /// What concerns the first mode.
    pub iptables: IpTables,
    /// What concerns the second.
    pub ipvs: Ipvs,
    /// What concerns the third.
    pub nftables: NfTables,
    /// What concerns Windows.
    pub winkernel: Winkernel,
    /// How the node's own pods are told from other clients.
    pub detect_local_mode: String,
    /// By which device, for some of these ways.
    pub detect_local: DetectLocal,
    /// The ranges of pods' addresses: one, or one of each family with a comma between them.
    #[serde(rename = "clusterCIDR")]
    pub cluster_cidr: String,
    /// At which addresses node ports are served: ranges, or the one word `primary`.
    pub node_port_addresses: Option<Vec<String>>,
    /// The process's `oom_score_adj`.
    pub oom_score_adj: Option<i32>,
    /// The kernel's connection tracking.
    pub conntrack: Conntrack,
    /// How often caches of objects are gone through.
    pub config_sync_period: GoDuration,
    /// Was for the userspace mode.
    pub port_range: String,
    /// Whether it is a service of Windows.
    #[serde(skip_serializing_if = "is_false")]
    pub windows_run_as_service: bool,
}

/// How the Kubernetes API is spoken to.
#[serde_with::apply(_ => #[serde(deserialize_with = "null_is_nothing")])]
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct ClientConnection {
    /// The kubeconfig; the pod's own credentials without it.
    pub kubeconfig: String,
    /// Which encodings are accepted, if they are not that of requests.
    pub accept_content_types: String,
    /// The encoding of requests.
    pub content_type: String,
    /// Requests a second; none of them is held back if negative.
    #[serde(serialize_with = "as_go_prints_floats")]
    pub qps: f32,
    /// Requests at once.
    pub burst: i32,
}

/// What concerns the mode `iptables`, and `ipvs` too.
#[serde_with::apply(_ => #[serde(deserialize_with = "null_is_nothing")])]
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct IpTables {
    /// The bit of marks that says what is to be masqueraded.
    pub masquerade_bit: Option<i32>,
    /// Whether all that is sent to cluster IPs is masqueraded.
    pub masquerade_all: bool,
    /// Whether node ports are served at 127.0.0.1.
    pub localhost_node_ports: Option<bool>,
    /// How often rules are written at least, and after which time what failed is tried again.
    pub sync_period: GoDuration,
    /// How often at the most.
    pub min_sync_period: GoDuration,
}

/// What concerns the mode `ipvs` alone.
#[serde_with::apply(_ => #[serde(deserialize_with = "null_is_nothing")])]
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Ipvs {
    /// As in the other modes.
    pub sync_period: GoDuration,
    /// As in the other modes.
    pub min_sync_period: GoDuration,
    /// By which algorithm endpoints are chosen.
    pub scheduler: String,
    /// Which virtual servers are left alone.
    #[serde(rename = "excludeCIDRs")]
    pub exclude_cidrs: Option<Vec<String>>,
    /// Whether the node answers ARP for its devices' own addresses only.
    #[serde(rename = "strictARP")]
    pub strict_arp: bool,
    /// How long connections are remembered.
    pub tcp_timeout: GoDuration,
    /// The same after a FIN.
    pub tcp_fin_timeout: GoDuration,
    /// The same of UDP.
    pub udp_timeout: GoDuration,
}

/// What concerns the mode `nftables`.
#[serde_with::apply(_ => #[serde(deserialize_with = "null_is_nothing")])]
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct NfTables {
    /// As in the mode `iptables`.
    pub masquerade_bit: Option<i32>,
    /// As in the mode `iptables`.
    pub masquerade_all: bool,
    /// As in the mode `iptables`.
    pub sync_period: GoDuration,
    /// As in the mode `iptables`.
    pub min_sync_period: GoDuration,
}

/// What concerns Windows.
#[serde_with::apply(_ => #[serde(deserialize_with = "null_is_nothing")])]
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Winkernel {
    /// The HNS network.
    pub network_name: String,
    /// The address of the HNS endpoint for masquerading.
    pub source_vip: String,
    /// Whether replies go straight to clients.
    #[serde(rename = "enableDSR")]
    pub enable_dsr: bool,
    /// The endpoint of root services.
    pub root_hns_endpoint_name: String,
    /// Whether health checks at VIPs are forwarded.
    pub forward_health_check_vip: bool,
}

/// By which device the node's own pods are told from other clients.
#[serde_with::apply(_ => #[serde(deserialize_with = "null_is_nothing")])]
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct DetectLocal {
    /// A bridge.
    pub bridge_interface: String,
    /// What devices' names begin with.
    pub interface_name_prefix: String,
}

/// Sysctls of the kernel's connection tracking; what is nothing or zero is left as it is.
#[serde_with::apply(_ => #[serde(deserialize_with = "null_is_nothing")])]
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Conntrack {
    /// Connections for each processor; with 0, `min` does not count either.
    pub max_per_core: Option<i32>,
    /// Connections at least.
    pub min: Option<i32>,
    /// How long an established TCP connection may be silent.
    pub tcp_established_timeout: Option<GoDuration>,
    /// How long one that one side has closed may be.
    pub tcp_close_wait_timeout: Option<GoDuration>,
    /// Whether segments outside of the window are taken.
    pub tcp_be_liberal: bool,
    /// How long a UDP flow without a reply may be silent.
    pub udp_timeout: GoDuration,
    /// How long one with replies may be.
    pub udp_stream_timeout: GoDuration,
}

pub(super) fn null_is_nothing<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
pub(super) const fn is_false(value: &bool) -> bool {
    !*value
}

/// Go leaves out what follows the point if it is zero.
#[expect(
    clippy::trivially_copy_pass_by_ref,
    clippy::cast_possible_truncation,
    reason = "as serde calls it; of a number that has no fraction and is small"
)]
fn as_go_prints_floats<S: Serializer>(value: &f32, serializer: S) -> Result<S::Ok, S::Error> {
    if value.fract() == 0.0 && value.abs() < 1e9 {
        serializer.serialize_i64(*value as i64)
    } else {
        serializer.serialize_f32(*value)
    }
}
