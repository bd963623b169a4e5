// SPDX-License-Identifier: Apache-2.0
//! What each field of a configuration means here.

use serde_json::Value;

use super::{KubeProxyConfiguration, Mode};

/// A field, and what it means here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its path, as in `conntrack.min`.
    pub path: &'static str,
    /// What it means.
    pub meaning: Meaning,
}

/// What a field means here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// What it means to kube-proxy.
    Same,
    /// The same, if kube-proxy has this mode.
    SameIn(&'static [Mode]),
    /// Nothing, and why not.
    Nothing(&'static str),
}

const NOT_YET: Meaning = Meaning::Nothing("there is nothing like it yet");
const NETFILTER: Meaning = Meaning::Nothing("no rules of netfilter are written");
const AT_ONCE: Meaning = Meaning::Nothing("each change is applied at once");
const IPVS: Meaning = Meaning::Nothing("IPVS is not used");
const WINDOWS: Meaning = Meaning::Nothing("it is for Windows");
const KLOG: Meaning = Meaning::Nothing("it is for kube-proxy's own logger");
const IN_IPTABLES: Meaning = Meaning::SameIn(&[Mode::IpTables]);
const IN_IPVS: Meaning = Meaning::SameIn(&[Mode::Ipvs]);
const IN_IPTABLES_AND_IPVS: Meaning = Meaning::SameIn(&[Mode::IpTables, Mode::Ipvs]);
const IN_NFTABLES: Meaning = Meaning::SameIn(&[Mode::NfTables]);

/// Those that stand for all below them end in a point.
const FIELDS: &[(&str, Meaning)] = &[
    ("kind", Meaning::Same),
    ("apiVersion", Meaning::Same),
    ("featureGates.AllowServiceExternalIPs", Meaning::Same),
    ("featureGates.", Meaning::Nothing("nothing here depends on this feature")),
    ("clientConnection.kubeconfig", Meaning::Same),
    ("clientConnection.acceptContentTypes", NOT_YET),
    ("clientConnection.contentType", NOT_YET),
    ("clientConnection.qps", NOT_YET),
    ("clientConnection.burst", NOT_YET),
    ("logging.format", Meaning::Same),
    ("logging.verbosity", Meaning::Same),
    ("logging.", KLOG),
    ("hostnameOverride", Meaning::Same),
    ("bindAddress", Meaning::Same),
    ("healthzBindAddress", Meaning::Same),
    ("metricsBindAddress", Meaning::Same),
    ("bindAddressHardFail", Meaning::Same),
    ("enableProfiling", Meaning::Nothing("the profiles are Go's")),
    ("showHiddenMetricsForVersion", Meaning::Nothing("no metrics are hidden")),
    ("mode", Meaning::Same),
    ("iptables.masqueradeAll", IN_IPTABLES_AND_IPVS),
    ("iptables.syncPeriod", IN_IPTABLES),
    ("iptables.minSyncPeriod", AT_ONCE),
    ("iptables.masqueradeBit", NETFILTER),
    ("iptables.localhostNodePorts", NETFILTER),
    ("ipvs.syncPeriod", IN_IPVS),
    ("ipvs.minSyncPeriod", AT_ONCE),
    ("ipvs.", IPVS),
    ("nftables.masqueradeAll", IN_NFTABLES),
    ("nftables.syncPeriod", IN_NFTABLES),
    ("nftables.minSyncPeriod", AT_ONCE),
    ("nftables.masqueradeBit", NETFILTER),
    ("winkernel.", WINDOWS),
    ("detectLocalMode", Meaning::Same),
    ("detectLocal.bridgeInterface", Meaning::Same),
    ("detectLocal.interfaceNamePrefix", Meaning::Same),
    ("clusterCIDR", Meaning::Same),
    ("nodePortAddresses", Meaning::Same),
    ("oomScoreAdj", Meaning::Same),
    ("conntrack.", Meaning::Same),
    ("configSyncPeriod", Meaning::Nothing("there are no caches to go through")),
    ("portRange", Meaning::Nothing("it was for a mode that there is no more")),
    ("windowsRunAsService", WINDOWS),
];

impl Field {
    /// The one with this path.
    #[must_use]
    pub fn at(path: &str) -> Option<Self> {
        FIELDS
            .iter()
            .find(|(known, _)| match known.strip_suffix('.') {
                Some(_) => path.starts_with(known),
                None => path == *known,
            })
            .map(|&(path, meaning)| Self { path, meaning })
    }

    /// Why it means nothing with a configuration for this mode; nothing if it means something.
    #[must_use]
    pub fn why_ignored(&self, mode: Option<Mode>) -> Option<String> {
        match self.meaning {
            Meaning::Same => None,
            Meaning::SameIn(modes) if mode.is_some_and(|mode| modes.contains(&mode)) => None,
            Meaning::SameIn(_) => Some("it is for another mode".to_owned()),
            Meaning::Nothing(why) => Some(why.to_owned()),
        }
    }
}

impl KubeProxyConfiguration {
    /// All fields that have a value other than nothing, zero or an empty one, with their paths and values.
    ///
    /// # Errors
    ///
    /// None that is known of.
    pub fn said(&self) -> serde_json::Result<Vec<(String, Value)>> {
        let mut said = Vec::new();
        collect(String::new(), serde_json::to_value(self)?, &mut said);
        Ok(said)
    }

    /// Those of them that mean nothing here, and why, unless these defaults say the same.
    ///
    /// # Errors
    ///
    /// None that is known of.
    pub fn ignored_beside(&self, defaults: &Self) -> serde_json::Result<Vec<(String, String)>> {
        let (mode, defaults) = (self.known_mode(), defaults.said()?);
        let said = self.said()?.into_iter().filter(|field| !defaults.contains(field));
        let ignored = said.filter_map(|(path, _)| {
            let why = Field::at(&path)?.why_ignored(mode)?;
            Some((path, why))
        });
        Ok(ignored.collect())
    }

    /// The same of a file.
    ///
    /// # Errors
    ///
    /// None that is known of.
    pub fn ignored(&self) -> serde_json::Result<Vec<(String, String)>> {
        self.ignored_beside(&Self::default())
    }
}

fn collect(path: String, value: Value, said: &mut Vec<(String, Value)>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let below = if path.is_empty() { name } else { format!("{path}.{name}") };
                collect(below, value, said);
            }
        }
        value if is_nothing(&value) => {}
        value => said.push((path, value)),
    }
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => ["", "0", "0s"].contains(&text.as_str()),
        Value::Array(values) => values.is_empty(),
        Value::Bool(true) | Value::Object(_) => false,
    }
}
