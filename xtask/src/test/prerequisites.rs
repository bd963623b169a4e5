// SPDX-License-Identifier: Apache-2.0
//! What the tests need of the machine, installed where it is missing.

use std::path::Path;

use anyhow::{Result, bail};

use super::stage::Stage;
use crate::{
    apt,
    process::{Run as _, command, find},
    report,
};

/// A program that tests call.
struct Tool {
    name: &'static str,
    package: &'static str,
    why: &'static str,
    stages: &'static [Stage],
    /// Whether guests under other kernels get it too.
    in_guest: bool,
}

impl Tool {
    fn ensure(&self) -> Result<()> {
        if find(self.name).is_none() {
            apt::install(&[self.package], self.why)?;
        }
        if find(self.name).is_none() {
            bail!("{} is missing: {}; install it", self.name, self.why);
        }
        Ok(())
    }
}

/// What is there when `br_netfilter` is, which nothing loads by itself.
const BRIDGE_NETFILTER: &str = "/proc/sys/net/bridge";

const TRAFFIC: &[Stage] = &[Stage::Network, Stage::Kernels];
const IMAGE: &[Stage] = &[Stage::Kernels];

const fn traffic(name: &'static str, package: &'static str, why: &'static str) -> Tool {
    Tool { name, package, why, stages: TRAFFIC, in_guest: true }
}

const fn image(name: &'static str, package: &'static str, why: &'static str) -> Tool {
    Tool { name, package, why, stages: IMAGE, in_guest: false }
}

/// A tool for kube-proxy's rules, from which nodes of tests are moved.
const fn rules(name: &'static str, package: &'static str, why: &'static str) -> Tool {
    Tool { name, package, why, stages: &[Stage::Network], in_guest: false }
}

/// A tool that no stage needs as such: only what asks for it by name.
const fn on_demand(name: &'static str, package: &'static str, why: &'static str) -> Tool {
    Tool { name, package, why, stages: &[], in_guest: false }
}

const TOOLS: [Tool; 26] = [
    traffic("ip", "iproute2", "namespaces and devices for tests"),
    traffic("tc", "iproute2", "queueing disciplines for tests"),
    traffic("bridge", "iproute2", "bridges for tests"),
    traffic("ss", "iproute2", "to see sockets"),
    traffic("ethtool", "ethtool", "to switch offloads"),
    traffic("iperf3", "iperf3", "streams of TCP and UDP"),
    traffic("nft", "nftables", "network policies beside the proxy"),
    traffic("iptables", "iptables", "network policies beside the proxy"),
    traffic("ip6tables", "iptables", "network policies beside the proxy"),
    traffic("conntrack", "conntrack", "to see what the kernel tracks"),
    traffic("nsenter", "util-linux", "to enter namespaces"),
    traffic("setpriv", "util-linux", "to run the agent with some capabilities only"),
    traffic("unshare", "util-linux", "to make namespaces"),
    Tool {
        name: "wg",
        package: "wireguard-tools",
        why: "tunnels between nodes of tests",
        stages: IMAGE,
        in_guest: true,
    },
    Tool {
        name: "mount",
        package: "mount",
        why: "to have the kernel connect, for NFS",
        stages: IMAGE,
        in_guest: true,
    },
    rules("nfacct", "nfacct", "to count as kube-proxy's rules do"),
    rules("iptables-restore", "iptables", "to load kube-proxy's rules"),
    rules("ip6tables-restore", "iptables", "to load kube-proxy's rules"),
    rules("iptables-legacy", "iptables", "rules as some kube-proxies write them"),
    rules("ip6tables-legacy", "iptables", "rules as some kube-proxies write them"),
    on_demand("curl", "curl", "to ask Services by hand"),
    on_demand("modprobe", "kmod", "to load what netfilter has for bridges"),
    image("ldd", "libc-bin", "to find the libraries of what a guest runs"),
    image("strip", "binutils", "to make the guests' images small"),
    image("find", "findutils", "to pack the guests' images"),
    image("dpkg", "dpkg", "to unpack kernels"),
];

/// Installs what `stages` need and the machine lacks.
///
/// # Errors
///
/// If something can be neither found nor installed, or this machine cannot run a stage at all.
pub(super) fn ensure(stages: &[Stage]) -> Result<()> {
    if stages.contains(&Stage::Kernels) && std::env::consts::ARCH != "x86_64" {
        bail!(
            "the stage `kernels` boots kernels for amd64, and this machine is {}",
            std::env::consts::ARCH
        );
    }
    for tool in TOOLS.iter().filter(|tool| tool.stages.iter().any(|stage| stages.contains(stage))) {
        tool.ensure()?;
    }
    if stages.contains(&Stage::Network) && !Path::new(BRIDGE_NETFILTER).exists() {
        ensure_tools(&["modprobe"])?;
        report::step("modprobe br_netfilter: nodes whose bridged packets pass through iptables");
        command("modprobe").arg("br_netfilter").run()?;
    }
    Ok(())
}

/// Installs those of the tools `names` that the machine lacks.
///
/// # Errors
///
/// If one can be neither found nor installed.
pub(crate) fn ensure_tools(names: &[&str]) -> Result<()> {
    TOOLS.iter().filter(|tool| names.contains(&tool.name)).try_for_each(Tool::ensure)
}

/// The programs that guests under other kernels get.
pub(super) fn guest_tools() -> Vec<&'static str> {
    TOOLS.iter().filter(|tool| tool.in_guest).map(|tool| tool.name).collect()
}
