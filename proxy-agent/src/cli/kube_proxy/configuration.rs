// SPDX-License-Identifier: Apache-2.0
//! What a file or flags come to, by kube-proxy's rules of precedence (`Options.Complete`).

use std::path::{Path, PathBuf};

use super::{AlwaysArgs, KubeProxyArgs};
use crate::config::{
    FlushFrequency, GoBool, HEALTHZ_PORT, Invalid, KubeProxyConfiguration, METRICS_PORT, Mode,
    Quantity, ReadError, VmoduleItem, append_port,
};

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigurationError {
    /// The file is of no use.
    #[error("{}", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: ReadError,
    },
    /// There are values that cannot be.
    #[error("{origin} cannot be used:\n{}", lines(invalid))]
    Invalid {
        /// Where they are from.
        origin: String,
        /// All of them.
        invalid: Vec<Invalid>,
    },
    /// The name of the node is empty.
    #[error("--hostname-override is empty")]
    NoName,
    /// A flag of the logger.
    #[error("--vmodule: {0:?} is not as PATTERN=NUMBER")]
    Vmodule(String),
}

fn lines(invalid: &[Invalid]) -> String {
    invalid.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

impl KubeProxyArgs {
    /// What the file says that is named, or else what the flags do: complete, and without what cannot be.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, or something in it or in a flag cannot be.
    pub fn configuration(&self) -> Result<KubeProxyConfiguration, ConfigurationError> {
        let (mut configuration, origin) = match &self.always.config {
            None => (self.of_flags(), "what the flags say".to_owned()),
            Some(path) => (read(path)?, path.display().to_string()),
        };
        self.always.overrule(&mut configuration)?;
        let invalid = configuration.check();
        if invalid.is_empty() {
            Ok(configuration)
        } else {
            Err(ConfigurationError::Invalid { origin, invalid })
        }
    }

    /// The flags that are said and do not count, since a file does: their names, without the dashes.
    #[must_use]
    pub fn overruled(&self) -> Vec<String> {
        if self.always.config.is_none() {
            return Vec::new();
        }
        let said = serde_json::to_value(self).unwrap_or_default();
        let said = said.as_object().into_iter().flatten();
        said.filter(|(_, value)| !value.is_null()).map(|(name, _)| name.clone()).collect()
    }

    /// Whether a flag says something of the kernel's connection tracking.
    #[must_use]
    pub fn configures_conntrack(&self) -> bool {
        self.conntrack_max_per_core.is_some()
            || self.conntrack_min.is_some()
            || self.conntrack_tcp_timeout_established.is_some()
            || self.conntrack_tcp_timeout_close_wait.is_some()
            || self.conntrack_tcp_be_liberal.is_some()
            || self.conntrack_udp_timeout.is_some()
            || self.conntrack_udp_timeout_stream.is_some()
    }

    /// What the flags say, over what holds without them.
    fn of_flags(&self) -> KubeProxyConfiguration {
        let mode = self.proxy_mode.as_deref().unwrap_or(Mode::NfTables.name());
        let mut all = KubeProxyConfiguration { mode: mode.to_owned(), ..Default::default() };
        put(&mut all.bind_address, self.bind_address.map(|address| address.to_string()).as_ref());
        all.complete();
        let gates = self.feature_gates.iter().map(|switch| (switch.name.clone(), switch.on));
        all.feature_gates = gates.collect();
        self.put_connection(&mut all);
        self.put_addresses(&mut all);
        self.put_mode(&mut all);
        self.put_local_clients(&mut all);
        self.put_conntrack(&mut all);
        put_bool(&mut all.enable_profiling, self.profiling);
        let version = &mut all.show_hidden_metrics_for_version;
        put(version, self.show_hidden_metrics_for_version.as_ref());
        put(&mut all.oom_score_adj, self.oom_score_adj.map(Some).as_ref());
        put(&mut all.config_sync_period, self.config_sync_period.as_ref());
        put(&mut all.port_range, self.proxy_port_range.as_ref());
        all
    }

    fn put_connection(&self, all: &mut KubeProxyConfiguration) {
        let connection = &mut all.client_connection;
        let kubeconfig = self.kubeconfig.as_ref().map(|path| path.display().to_string());
        put(&mut connection.kubeconfig, kubeconfig.as_ref());
        put(&mut connection.content_type, self.kube_api_content_type.as_ref());
        put(&mut connection.burst, self.kube_api_burst.as_ref());
        put(&mut connection.qps, self.kube_api_qps.as_ref());
    }

    fn put_addresses(&self, all: &mut KubeProxyConfiguration) {
        for (address, said, port, default) in [
            (
                &mut all.healthz_bind_address,
                &self.healthz_bind_address,
                self.healthz_port,
                HEALTHZ_PORT,
            ),
            (
                &mut all.metrics_bind_address,
                &self.metrics_bind_address,
                self.metrics_port,
                METRICS_PORT,
            ),
        ] {
            put(address, said.as_ref());
            match port {
                Some(0) => address.clear(),
                port => append_port(address, port.unwrap_or(default)),
            }
        }
        put_bool(&mut all.bind_address_hard_fail, self.bind_address_hard_fail);
        if !self.nodeport_addresses.is_empty() {
            all.node_port_addresses = Some(self.nodeport_addresses.clone());
        }
    }

    fn put_mode(&self, all: &mut KubeProxyConfiguration) {
        let mode = all.known_mode();
        put(&mut all.iptables.masquerade_bit, self.iptables_masquerade_bit.map(Some).as_ref());
        let localhost = self.iptables_localhost_nodeports.map(|GoBool(on)| Some(on));
        put(&mut all.iptables.localhost_node_ports, localhost.as_ref());
        let KubeProxyConfiguration { iptables, ipvs, nftables, .. } = all;
        let (masquerades, period, least) = match mode {
            Some(Mode::NfTables) => (
                &mut nftables.masquerade_all,
                &mut nftables.sync_period,
                &mut nftables.min_sync_period,
            ),
            Some(Mode::Ipvs) => {
                (&mut iptables.masquerade_all, &mut ipvs.sync_period, &mut ipvs.min_sync_period)
            }
            _ => (
                &mut iptables.masquerade_all,
                &mut iptables.sync_period,
                &mut iptables.min_sync_period,
            ),
        };
        put_bool(masquerades, self.masquerade_all);
        let (said_period, said_least) = match mode {
            Some(Mode::Ipvs) => (self.ipvs_sync_period, self.ipvs_min_sync_period),
            _ => (self.iptables_sync_period, self.iptables_min_sync_period),
        };
        put(period, said_period.as_ref());
        put(least, said_least.as_ref());
        put(&mut ipvs.scheduler, self.ipvs_scheduler.as_ref());
        if !self.ipvs_exclude_cidrs.is_empty() {
            ipvs.exclude_cidrs = Some(self.ipvs_exclude_cidrs.clone());
        }
        put_bool(&mut ipvs.strict_arp, self.ipvs_strict_arp);
        put(&mut ipvs.tcp_timeout, self.ipvs_tcp_timeout.as_ref());
        put(&mut ipvs.tcp_fin_timeout, self.ipvs_tcpfin_timeout.as_ref());
        put(&mut ipvs.udp_timeout, self.ipvs_udp_timeout.as_ref());
    }

    fn put_local_clients(&self, all: &mut KubeProxyConfiguration) {
        put(&mut all.detect_local_mode, self.detect_local_mode.as_ref());
        let device = &mut all.detect_local;
        put(&mut device.bridge_interface, self.pod_bridge_interface.as_ref());
        put(&mut device.interface_name_prefix, self.pod_interface_name_prefix.as_ref());
        put(&mut all.cluster_cidr, self.cluster_cidr.as_ref());
    }

    fn put_conntrack(&self, all: &mut KubeProxyConfiguration) {
        let conntrack = &mut all.conntrack;
        put(&mut conntrack.max_per_core, self.conntrack_max_per_core.map(Some).as_ref());
        put(&mut conntrack.min, self.conntrack_min.map(Some).as_ref());
        let established = self.conntrack_tcp_timeout_established.map(Some);
        put(&mut conntrack.tcp_established_timeout, established.as_ref());
        let close_wait = self.conntrack_tcp_timeout_close_wait.map(Some);
        put(&mut conntrack.tcp_close_wait_timeout, close_wait.as_ref());
        put_bool(&mut conntrack.tcp_be_liberal, self.conntrack_tcp_be_liberal);
        put(&mut conntrack.udp_timeout, self.conntrack_udp_timeout.as_ref());
        put(&mut conntrack.udp_stream_timeout, self.conntrack_udp_timeout_stream.as_ref());
    }
}

impl AlwaysArgs {
    /// Puts what is said here over what a file or other flags say.
    fn overrule(&self, all: &mut KubeProxyConfiguration) -> Result<(), ConfigurationError> {
        if let Some(name) = self.hostname_override.as_ref().filter(|name| !name.is_empty()) {
            all.hostname_override = name.trim().to_lowercase();
            if all.hostname_override.is_empty() {
                return Err(ConfigurationError::NoName);
            }
        }
        let logging = &mut all.logging;
        put(&mut logging.verbosity, self.verbosity.as_ref());
        put(&mut logging.format, self.logging_format.as_ref());
        let frequency = self.log_flush_frequency.map(FlushFrequency::Text);
        put(&mut logging.flush_frequency, frequency.as_ref());
        for (routing, split, size) in [
            (
                &mut logging.options.text,
                self.log_text_split_stream,
                &self.log_text_info_buffer_size,
            ),
            (
                &mut logging.options.json,
                self.log_json_split_stream,
                &self.log_json_info_buffer_size,
            ),
        ] {
            put_bool(&mut routing.split_stream, split);
            put(&mut routing.info_buffer_size, size.clone().map(Quantity::Text).as_ref());
        }
        // Those of flags come first, and so have precedence.
        for (at, text) in self.vmodule.iter().enumerate() {
            let item = text.split_once('=').and_then(|(pattern, verbosity)| {
                let verbosity = verbosity.parse().ok()?;
                Some(VmoduleItem { file_pattern: pattern.to_owned(), verbosity })
            });
            let item = item.ok_or_else(|| ConfigurationError::Vmodule(text.clone()))?;
            logging.vmodule.insert(at, item);
        }
        Ok(())
    }
}

fn read(path: &Path) -> Result<KubeProxyConfiguration, ConfigurationError> {
    let mut read = KubeProxyConfiguration::read(path)
        .map_err(|source| ConfigurationError::File { path: path.to_owned(), source })?;
    read.complete();
    Ok(read)
}

/// Puts what is said in the place of what is there.
fn put<T: Clone>(field: &mut T, said: Option<&T>) {
    if let Some(said) = said {
        said.clone_into(field);
    }
}

fn put_bool(field: &mut bool, said: Option<GoBool>) {
    put(field, said.map(|GoBool(on)| on).as_ref());
}
