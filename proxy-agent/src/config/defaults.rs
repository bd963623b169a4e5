// SPDX-License-Identifier: Apache-2.0
//! What holds where a configuration says nothing: kube-proxy's defaults (`pkg/proxy/apis/config/v1alpha1/defaults.go`,
//! and `platformApplyDefaults` in `cmd/kube-proxy/app/server_linux.go`, Kubernetes 1.36).

use std::net::IpAddr;

use super::{API_VERSION, FlushFrequency, GoDuration, KIND, KubeProxyConfiguration};

/// The port at which `/healthz` is answered.
pub const HEALTHZ_PORT: u16 = 10256;
/// The port at which `/metrics` is answered.
pub const METRICS_PORT: u16 = 10249;
/// `node_port_addresses` for the Node's own ones.
pub(super) const PRIMARY: &str = "primary";

/// Which of kube-proxy's modes a configuration is for: of that one the section counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// `iptables`, or none.
    IpTables,
    /// `ipvs`, which takes some of the other one's section.
    Ipvs,
    /// `nftables`.
    NfTables,
}

impl Mode {
    /// The name in files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::IpTables => "iptables",
            Self::Ipvs => "ipvs",
            Self::NfTables => "nftables",
        }
    }
}

impl KubeProxyConfiguration {
    /// The mode, if it is one of kube-proxy's.
    #[must_use]
    pub fn known_mode(&self) -> Option<Mode> {
        let modes = [Mode::IpTables, Mode::Ipvs, Mode::NfTables];
        let name = if self.mode.is_empty() { Mode::IpTables.name() } else { &self.mode };
        modes.into_iter().find(|mode| mode.name() == name)
    }

    /// What holds in a mode where nothing else is said.
    #[must_use]
    pub fn of_mode(mode: &str) -> Self {
        let mut all = Self { mode: mode.to_owned(), ..Self::default() };
        all.complete();
        all
    }

    /// Fills in what is not said. What other modes' sections say of what there is once for all modes is left out, as
    /// kube-proxy does.
    pub fn complete(&mut self) {
        KIND.clone_into(&mut self.kind);
        API_VERSION.clone_into(&mut self.api_version);
        fill(&mut self.bind_address, "0.0.0.0");
        let is_v4 = self.bind_address.parse().is_ok_and(|address: IpAddr| address.is_ipv4());
        let (all, own) = if is_v4 { ("0.0.0.0", "127.0.0.1") } else { ("::", "::1") };
        fill(&mut self.healthz_bind_address, all);
        fill(&mut self.metrics_bind_address, own);
        append_port(&mut self.healthz_bind_address, HEALTHZ_PORT);
        append_port(&mut self.metrics_bind_address, METRICS_PORT);
        self.complete_logging();
        self.complete_connections();
        self.complete_mode();
        fill(&mut self.detect_local_mode, "ClusterCIDR");
        let _: &mut i32 = self.oom_score_adj.get_or_insert(-999);
        fill_duration(&mut self.config_sync_period, GoDuration::seconds(15 * 60));
    }

    fn complete_logging(&mut self) {
        let logging = &mut self.logging;
        fill(&mut logging.format, "text");
        if matches!(
            logging.flush_frequency,
            FlushFrequency::Nanoseconds(0) | FlushFrequency::Text(GoDuration::ZERO)
        ) {
            logging.flush_frequency = FlushFrequency::Text(GoDuration::seconds(5));
        }
    }

    fn complete_connections(&mut self) {
        let connection = &mut self.client_connection;
        fill(&mut connection.content_type, "application/vnd.kubernetes.protobuf");
        if connection.qps == 0.0 {
            connection.qps = 5.0;
        }
        if connection.burst == 0 {
            connection.burst = 10;
        }
        let conntrack = &mut self.conntrack;
        let _: &mut i32 = conntrack.max_per_core.get_or_insert(32 * 1024);
        let _: &mut i32 = conntrack.min.get_or_insert(128 * 1024);
        let hour = GoDuration::seconds(3600);
        let day = GoDuration::seconds(24 * 3600);
        let _: &mut GoDuration = conntrack.tcp_established_timeout.get_or_insert(day);
        let _: &mut GoDuration = conntrack.tcp_close_wait_timeout.get_or_insert(hour);
    }

    fn complete_mode(&mut self) {
        let mode = self.known_mode();
        if self.mode.is_empty() {
            Mode::IpTables.name().clone_into(&mut self.mode);
        }
        let Self { iptables, ipvs, nftables, .. } = self;
        let _: &mut i32 = iptables.masquerade_bit.get_or_insert(14);
        let _: &mut i32 = nftables.masquerade_bit.get_or_insert(14);
        let _: &mut bool = iptables.localhost_node_ports.get_or_insert(true);
        if mode == Some(Mode::NfTables) {
            iptables.masquerade_all = false;
            if self.node_port_addresses.as_ref().is_none_or(Vec::is_empty) {
                self.node_port_addresses = Some(vec![PRIMARY.to_owned()]);
            }
        } else {
            nftables.masquerade_all = false;
        }
        for (section, period, least, least_default) in [
            (Mode::IpTables, &mut iptables.sync_period, &mut iptables.min_sync_period, 1),
            (Mode::Ipvs, &mut ipvs.sync_period, &mut ipvs.min_sync_period, 0),
            (Mode::NfTables, &mut nftables.sync_period, &mut nftables.min_sync_period, 1),
        ] {
            if mode == Some(section) {
                fill_duration(period, GoDuration::seconds(30));
                fill_duration(least, GoDuration::seconds(least_default));
            } else {
                (*period, *least) = (GoDuration::ZERO, GoDuration::ZERO);
            }
        }
    }

    /// After which time what failed is tried again; twice as long may an update take before `/healthz` says so. That of
    /// the mode's section.
    #[must_use]
    pub fn sync_period(&self) -> GoDuration {
        match self.known_mode() {
            Some(Mode::Ipvs) => self.ipvs.sync_period,
            Some(Mode::NfTables) => self.nftables.sync_period,
            _ => self.iptables.sync_period,
        }
    }

    /// How long kube-proxy waits between two updates at least: of the mode's section.
    #[must_use]
    pub(super) fn min_sync_period(&self) -> GoDuration {
        match self.known_mode() {
            Some(Mode::Ipvs) => self.ipvs.min_sync_period,
            Some(Mode::NfTables) => self.nftables.min_sync_period,
            _ => self.iptables.min_sync_period,
        }
    }

    /// Whether all that is sent to cluster IPs is masqueraded: of the mode's section.
    #[must_use]
    pub fn masquerade_all(&self) -> bool {
        match self.known_mode() {
            Some(Mode::NfTables) => self.nftables.masquerade_all,
            _ => self.iptables.masquerade_all,
        }
    }
}

fn fill(text: &mut String, default: &str) {
    if text.is_empty() {
        default.clone_into(text);
    }
}

fn fill_duration(duration: &mut GoDuration, default: GoDuration) {
    if *duration == GoDuration::ZERO {
        *duration = default;
    }
}

/// Gives an address without a port one. What is no address stays what it is, and is refused later.
pub fn append_port(address: &mut String, port: u16) {
    if let Ok(ip) = address.parse::<IpAddr>() {
        *address =
            if ip.is_ipv4() { format!("{address}:{port}") } else { format!("[{address}]:{port}") };
    }
}
