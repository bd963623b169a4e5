// SPDX-License-Identifier: Apache-2.0
//! The flags by which the node's own pods are told from other clients. They are kube-proxy's.

use clap::{Args, ValueEnum, error::ErrorKind};
use ipnet::IpNet;

use crate::local_clients::{Detection, LocalClients};

/// How the node's own pods are told from other clients.
#[derive(Args, Clone, Debug, Default)]
pub struct LocalClientsArgs {
    /// How the node's own pods are told from other clients: they are served from all nodes whatever
    /// `externalTrafficPolicy` says, and keep their address at cluster IPs. What a mode needs and
    /// does not have is told by devices: what comes by those that lead to pods is theirs.
    #[arg(long, value_name = "MODE", value_enum, ignore_case = true, default_value_t)]
    pub detect_local_mode: DetectLocalMode,

    /// The ranges that pods have their addresses from, one of each family, for `ClusterCIDR`.
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    pub cluster_cidr: Vec<IpNet>,

    /// The bridge that joins the node's pods, for `BridgeInterface`.
    #[arg(long, value_name = "DEVICE")]
    pub pod_bridge_interface: Option<String>,

    /// What the names of the devices of pods begin with, for `InterfaceNamePrefix`. Where these are
    /// ports of a bridge, it is the bridge's name that counts.
    #[arg(long, value_name = "PREFIX")]
    pub pod_interface_name_prefix: Option<String>,

    /// Masquerade all that leaves the node from cluster IPs, the node's own pods included.
    #[arg(long)]
    pub masquerade_all: bool,
}

/// What tells the node's own pods from other clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum DetectLocalMode {
    /// Their addresses, by --cluster-cidr.
    #[default]
    #[value(name = "ClusterCIDR")]
    ClusterCidr,
    /// Their addresses, by the Node's `podCIDRs`.
    #[value(name = "NodeCIDR")]
    NodeCidr,
    /// The device that they come by, by --pod-bridge-interface.
    #[value(name = "BridgeInterface")]
    BridgeInterface,
    /// The device that they come by, by --pod-interface-name-prefix.
    #[value(name = "InterfaceNamePrefix")]
    InterfaceNamePrefix,
}

impl LocalClientsArgs {
    /// What the flags say.
    ///
    /// # Errors
    ///
    /// If a mode lacks the flag that it cannot do without, or there are two ranges of one family.
    pub fn detection(&self) -> Result<Detection, clap::Error> {
        let lacks = |flag: &str| {
            let message =
                format!("--detect-local-mode={:?} needs {flag}\n", self.detect_local_mode);
            clap::Error::raw(ErrorKind::MissingRequiredArgument, message)
        };
        let local = match self.detect_local_mode {
            DetectLocalMode::ClusterCidr if self.cluster_cidr.is_empty() => LocalClients::ByRole,
            DetectLocalMode::ClusterCidr => {
                let of_v4 = self.cluster_cidr.iter().filter(|range| range.addr().is_ipv4()).count();
                if of_v4 > 1 || self.cluster_cidr.len() - of_v4 > 1 {
                    let message = "--cluster-cidr takes one range of each family\n";
                    return Err(clap::Error::raw(ErrorKind::TooManyValues, message));
                }
                LocalClients::Within(self.cluster_cidr.clone())
            }
            DetectLocalMode::NodeCidr => LocalClients::WithinNode,
            DetectLocalMode::BridgeInterface => {
                let bridge = self.pod_bridge_interface.clone().filter(|name| !name.is_empty());
                LocalClients::ByBridge(bridge.ok_or_else(|| lacks("--pod-bridge-interface"))?)
            }
            DetectLocalMode::InterfaceNamePrefix => {
                let prefix = self.pod_interface_name_prefix.clone().filter(|name| !name.is_empty());
                let prefix = prefix.ok_or_else(|| lacks("--pod-interface-name-prefix"))?;
                LocalClients::ByNamePrefix(prefix)
            }
        };
        Ok(Detection { local, masquerades_all: self.masquerade_all })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        local: LocalClientsArgs,
    }

    fn detection(arguments: &[&str]) -> Result<LocalClients, clap::Error> {
        let line = Line::try_parse_from(["sixfour"].iter().chain(arguments))?;
        line.local.detection().map(|detection| detection.local)
    }

    #[test]
    fn without_flags_devices_tell() {
        assert_eq!(detection(&[]).unwrap(), LocalClients::ByRole);
    }

    #[test]
    fn each_mode_takes_its_flag() {
        let both = ["fd00:10:244::/56", "10.244.0.0/16"];
        let ranges = both.map(|text| text.parse().unwrap()).to_vec();
        let flag = format!("--cluster-cidr={}", both.join(","));
        assert_eq!(detection(&[&flag]).unwrap(), LocalClients::Within(ranges));
        let by_bridge = ["--detect-local-mode=BridgeInterface", "--pod-bridge-interface=cni0"];
        let expected = LocalClients::ByBridge("cni0".to_owned());
        assert_eq!(detection(&by_bridge).unwrap(), expected);
        let by_name =
            ["--detect-local-mode=InterfaceNamePrefix", "--pod-interface-name-prefix=veth"];
        let expected = LocalClients::ByNamePrefix("veth".to_owned());
        assert_eq!(detection(&by_name).unwrap(), expected);
        let by_node = ["--detect-local-mode=nodecidr"];
        assert_eq!(detection(&by_node).unwrap(), LocalClients::WithinNode);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for bad in [
            &["--detect-local-mode=BridgeInterface"][..],
            &["--detect-local-mode=InterfaceNamePrefix", "--pod-interface-name-prefix="],
            &["--detect-local-mode=Guess"],
            &["--cluster-cidr=10.244.0.0/16,10.245.0.0/16"],
            &["--cluster-cidr=10.244.0.0"],
        ] {
            assert!(detection(bad).is_err(), "{bad:?}");
        }
    }
}
