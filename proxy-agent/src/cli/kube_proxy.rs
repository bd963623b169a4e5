// SPDX-License-Identifier: Apache-2.0
//! kube-proxy's flags (`cmd/kube-proxy/app/options.go`, Kubernetes 1.36). All but a few stand for a field of its
//! configuration, and count only without a file of it.

use std::{net::IpAddr, path::PathBuf, str::FromStr};

use clap::Args;
use http::Uri;
use serde::Serialize;

use crate::config::{GoBool, GoDuration};

mod configuration;

pub use configuration::ConfigurationError;

/// kube-proxy's flags.
///
/// Serialized, it is what was said, by the names of the flags.
#[derive(Args, Clone, Debug, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
#[command(next_help_heading = "kube-proxy's flags, ignored beside --config")]
pub struct KubeProxyArgs {
    /// What counts beside a file, too.
    #[command(flatten)]
    #[serde(skip)]
    pub always: AlwaysArgs,

    /// Switch features of Kubernetes on or off. One matters here: `AllowServiceExternalIPs` (on), without which no
    /// external IP is served.
    #[arg(long, value_name = "FEATURE=BOOL", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub feature_gates: Vec<FeatureSwitch>,

    /// Read objects from the Kubernetes API that this kubeconfig names. Without this and --manifests, the API and the
    /// credentials are those of the pod that this runs in.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,

    /// The encoding of what the Kubernetes API is asked.
    #[arg(long, value_name = "TYPE")]
    pub kube_api_content_type: Option<String>,

    /// How many requests the API gets at once.
    #[arg(long, value_name = "COUNT")]
    pub kube_api_burst: Option<i32>,

    /// How many requests the API gets a second; as many as there are if negative.
    #[arg(long, value_name = "COUNT", allow_negative_numbers = true)]
    pub kube_api_qps: Option<f32>,

    /// The node's primary address. Its family is the primary one.
    #[arg(long, value_name = "ADDRESS")]
    pub bind_address: Option<IpAddr>,

    /// Where /healthz and /livez are answered; nowhere if empty.
    #[arg(long, value_name = "ADDRESS[:PORT]")]
    pub healthz_bind_address: Option<String>,

    /// Where /metrics, /proxyMode and /configz are answered; nowhere if empty.
    #[arg(long, value_name = "ADDRESS[:PORT]")]
    pub metrics_bind_address: Option<String>,

    /// End where one of these cannot be bound.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub bind_address_hard_fail: Option<GoBool>,

    /// Go's profiles, which there are none of here.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub profiling: Option<GoBool>,

    /// Means nothing here: no metrics are hidden.
    #[arg(long, value_name = "VERSION")]
    pub show_hidden_metrics_for_version: Option<String>,

    /// The mode of kube-proxy whose defaults hold: iptables, ipvs or nftables. Without this and without a file they are
    /// those of nftables.
    #[arg(long, value_name = "MODE")]
    pub proxy_mode: Option<String>,

    /// Means nothing here: there are no marks of iptables.
    #[arg(long, value_name = "BIT", allow_negative_numbers = true)]
    pub iptables_masquerade_bit: Option<i32>,

    /// Masquerade all that leaves the node from cluster IPs, the node's own pods included.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub masquerade_all: Option<GoBool>,

    /// Means nothing here: the node's own processes reach node ports at 127.0.0.1 by their sockets.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub iptables_localhost_nodeports: Option<GoBool>,

    /// Half of the time that an update may take before /healthz says so, unless the mode is ipvs.
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
    pub iptables_sync_period: Option<GoDuration>,

    /// Means nothing here: each change is applied at once.
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
    pub iptables_min_sync_period: Option<GoDuration>,

    /// Half of the time that an update may take before /healthz says so, if the mode is ipvs.
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
    pub ipvs_sync_period: Option<GoDuration>,

    /// Means nothing here: each change is applied at once.
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
    pub ipvs_min_sync_period: Option<GoDuration>,

    /// Means nothing here: IPVS is not used.
    #[arg(long, value_name = "NAME")]
    pub ipvs_scheduler: Option<String>,

    /// Means nothing here: IPVS is not used.
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ipvs_exclude_cidrs: Vec<String>,

    /// Means nothing here: IPVS is not used.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub ipvs_strict_arp: Option<GoBool>,

    /// Means nothing here: IPVS is not used.
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
    pub ipvs_tcp_timeout: Option<GoDuration>,

    /// Means nothing here: IPVS is not used.
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
    pub ipvs_tcpfin_timeout: Option<GoDuration>,

    /// Means nothing here: IPVS is not used.
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
    pub ipvs_udp_timeout: Option<GoDuration>,

    /// How the node's own pods are told from other clients (`ClusterCIDR`, `NodeCIDR`, `BridgeInterface` or
    /// `InterfaceNamePrefix`): they are served from all nodes whatever `externalTrafficPolicy` says, and keep their
    /// address at cluster IPs. What a mode needs and does not have is told by devices: what comes by those that lead to
    /// pods is theirs.
    #[arg(long, value_name = "MODE")]
    pub detect_local_mode: Option<String>,

    /// The bridge that joins the node's pods, for `BridgeInterface`.
    #[arg(long, value_name = "DEVICE")]
    pub pod_bridge_interface: Option<String>,

    /// What the names of the devices of pods begin with, for `InterfaceNamePrefix`. Where these are ports of a bridge,
    /// it is the bridge's name that counts.
    #[arg(long, value_name = "PREFIX")]
    pub pod_interface_name_prefix: Option<String>,

    /// The range that pods have their addresses from, or one of each family with a comma between them, for
    /// `ClusterCIDR`.
    #[arg(long, value_name = "CIDR[,CIDR]")]
    pub cluster_cidr: Option<String>,

    /// Serve node ports at the addresses of the host within these ranges, and at all of a family of which no range is
    /// named; or, with the one word `primary`, at the address of each family that its Node object has first (may be
    /// repeated). Without this it is `primary` in the mode nftables, and all addresses in others.
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nodeport_addresses: Vec<String>,

    /// How soon the kernel ends this process where memory is short, from -1000, which is never, to 1000.
    #[arg(long, value_name = "SCORE", allow_negative_numbers = true)]
    pub oom_score_adj: Option<i32>,

    /// How many connections the kernel tracks for each processor; 0 leaves that as it is.
    #[arg(long, value_name = "COUNT", allow_negative_numbers = true)]
    pub conntrack_max_per_core: Option<i32>,

    /// How many connections the kernel tracks at least.
    #[arg(long, value_name = "COUNT", allow_negative_numbers = true)]
    pub conntrack_min: Option<i32>,

    /// How long the kernel tracks an established TCP connection that is silent; 0 leaves that as it is.
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
    pub conntrack_tcp_timeout_established: Option<GoDuration>,

    /// The same of one that one side has closed.
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
    pub conntrack_tcp_timeout_close_wait: Option<GoDuration>,

    /// Have the kernel track segments that are outside of the window.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub conntrack_tcp_be_liberal: Option<GoBool>,

    /// How long the kernel tracks a UDP flow without a reply.
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
    pub conntrack_udp_timeout: Option<GoDuration>,

    /// The same of one with replies.
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
    pub conntrack_udp_timeout_stream: Option<GoDuration>,

    /// Means nothing here: there are no caches to go through.
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
    pub config_sync_period: Option<GoDuration>,

    /// Deprecated: the port of --healthz-bind-address, where that has none; 0 for none at all.
    #[arg(long, value_name = "PORT")]
    pub healthz_port: Option<u16>,

    /// Deprecated: the port of --metrics-bind-address, where that has none; 0 for none at all.
    #[arg(long, value_name = "PORT")]
    pub metrics_port: Option<u16>,

    /// Deprecated: means nothing.
    #[arg(long, value_name = "RANGE")]
    pub proxy_port_range: Option<String>,
}

/// Those of kube-proxy's flags that count beside a file, too.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "kube-proxy's flags")]
pub struct AlwaysArgs {
    /// Be configured by this file (`KubeProxyConfiguration`, kubeproxy.config.k8s.io/v1alpha1), as kube-proxy is. When it
    /// changes, this process ends, so that whoever supervises it starts it anew.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Write what holds without a file, or with that of --config, to this one, and end.
    #[arg(long, value_name = "FILE")]
    pub write_config_to: Option<PathBuf>,

    /// Do what `sixfour cleanup` does, whatever else is asked for, and end.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub cleanup: Option<GoBool>,

    /// Set the kernel's connection tracking as it is to be, and end.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub init_only: Option<GoBool>,

    /// The address of the Kubernetes API, whatever the kubeconfig or the pod says; as in
    /// `https://[2001:db8::1]:6443`.
    #[arg(long, value_name = "URL")]
    pub master: Option<Uri>,

    /// The name of this node, if it is not the host's.
    #[arg(long, value_name = "NAME")]
    pub hostname_override: Option<String>,

    /// How much is logged, unless --log-level says so: from 4 on what is for debugging, too.
    #[arg(short = 'v', long = "v", value_name = "NUMBER")]
    pub verbosity: Option<u32>,

    /// text or json, unless --log-format says so.
    #[arg(long, value_name = "FORMAT")]
    pub logging_format: Option<String>,

    /// Means nothing here: what is logged is written at once.
    #[arg(long, value_name = "DURATION")]
    pub log_flush_frequency: Option<GoDuration>,

    /// Means nothing here: these are files of kube-proxy's source.
    #[arg(long, value_name = "PATTERN=NUMBER", value_delimiter = ',')]
    pub vmodule: Vec<String>,

    /// Means nothing here: all goes to the standard error.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub log_text_split_stream: Option<GoBool>,

    /// Means nothing here: what is logged is written at once.
    #[arg(long, value_name = "QUANTITY")]
    pub log_text_info_buffer_size: Option<String>,

    /// Means nothing here: all goes to the standard error.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub log_json_split_stream: Option<GoBool>,

    /// Means nothing here: what is logged is written at once.
    #[arg(long, value_name = "QUANTITY")]
    pub log_json_info_buffer_size: Option<String>,
}

/// A feature that is switched on or off, whichever it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FeatureSwitch {
    /// Its name.
    pub name: String,
    /// Whether it is on.
    pub on: bool,
}

impl FromStr for FeatureSwitch {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = text.split_once('=').ok_or("a feature is as Name=true")?;
        let GoBool(on) = value.trim().parse().map_err(|error| format!("{error}"))?;
        Ok(Self { name: name.trim().to_owned(), on })
    }
}
