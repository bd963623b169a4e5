// SPDX-License-Identifier: Apache-2.0
//! The command line.

use std::{ops::RangeInclusive, path::PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};
use globset::Glob;
use tracing_subscriber::filter::Targets;

use crate::{
    config::KubeProxyConfiguration,
    devices::{AttachMode, Included, XdpChoice},
    plan::{Options, Reach},
};

mod capacity;
mod configuration;
mod filter;
mod kube_proxy;
mod monitor;
mod outside;
mod socket_lb;

pub use capacity::CapacityArgs;
pub use configuration::{CheckArgs, ConfigCommand};
pub use filter::{FamilyName, FilterArgs, ServicePattern};
pub use kube_proxy::{AlwaysArgs, ConfigurationError, FeatureSwitch, KubeProxyArgs};
pub use monitor::{MonitorArgs, Watched};
pub use outside::OutsideArgs;
pub use socket_lb::{Excluded, Netns, SocketLb, SocketLbCommand};

/// The first port above Linux's default ephemeral range, up to the last port.
const SOURCE_PORTS: &str = "61000-65535";

/// A dual-stack eBPF Service proxy for Kubernetes: kube-proxy's job, done in the kernel.
#[derive(Debug, Parser)]
#[command(name = "sixfour", version = env!("SIXFOUR_VERSION"), propagate_version = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve the Services on this node until told to stop. What serves them in the kernel goes on then: `sixfour
    /// cleanup` removes it.
    Run(Box<RunArgs>),
    /// Print what is in the kernel's tables.
    List(ListArgs),
    /// Print new flows, and what is dropped and refused, as it happens.
    Monitor(MonitorArgs),
    /// Remove what serves Services on this node, whichever version of Sixfour has left it.
    Cleanup(PinRoot),
    /// Leave what begins to another proxy, once no agent runs: what is known goes on being served, until `sixfour
    /// cleanup` ends it.
    Drain(DrainArgs),
    /// Look at configurations of kube-proxy's.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Say which pods are not served at their sockets, where those of pods are.
    #[command(subcommand)]
    SocketLb(SocketLbCommand),
}

/// Where maps, programs and links are pinned.
#[derive(Args, Clone, Debug)]
pub struct PinRoot {
    /// The directory, on a BPF file system, that maps, programs and links are pinned under.
    #[arg(long, value_name = "DIR", default_value = "/sys/fs/bpf/sixfour")]
    pub pin_root: PathBuf,
}

/// What is to be drained.
#[derive(Args, Debug)]
pub struct DrainArgs {
    /// The maps' place.
    #[command(flatten)]
    pub pin_root: PinRoot,

    /// Whether or not there are rules of kube-proxy, which serve what begins.
    #[arg(long)]
    pub force: bool,
}

/// How to serve.
#[derive(Args, Debug)]
pub struct RunArgs {
    /// Read Services, EndpointSlices, Nodes and Service CIDRs from the YAML and JSON files of this
    /// directory, and follow its changes; whatever kubeconfig a file of --config names.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["kubeconfig", "master"])]
    pub manifests: Option<PathBuf>,

    /// The maps' place.
    #[command(flatten)]
    pub pin_root: PinRoot,

    /// How to attach the programs to devices.
    #[arg(long, value_enum, default_value_t)]
    pub attach: Attach,

    /// Treat devices with these names as those of pods, whatever they are; with a role before the
    /// glob, as having that: workload (pods), uplink or tunnel (may be repeated).
    #[arg(long, value_name = "[ROLE=]GLOB")]
    pub include_device: Vec<Included>,

    /// Leave devices with these names alone, whatever they are (a glob; may be repeated).
    #[arg(long, value_name = "GLOB")]
    pub exclude_device: Vec<Glob>,

    /// Which processes are served at their sockets. Those of the host's network namespace have no
    /// other way to Services: with `off` they are not served.
    #[arg(long, value_enum, default_value_t)]
    pub socket_lb: SocketLb,

    /// The control group, of cgroup2, whose processes are served at their sockets. Without this it
    /// is the root of the hierarchy, wherever that is mounted.
    #[arg(long, value_name = "DIR")]
    pub cgroup_root: Option<PathBuf>,

    /// Let IPv6 sockets reach Services that have IPv4 endpoints only, by IPv4-mapped addresses:
    /// TCP, and UDP sockets that are connected. Pods need `--socket-lb all` for it.
    #[arg(long)]
    pub socket_lb_mapped: bool,

    /// Whether packets of Services take the fast path, past the host's stack and its netfilter. Where
    /// rules of netfilter drop, reject or translate what is forwarded, as for network policies and to
    /// masquerade, or IPsec encrypts it, it must be forced.
    #[arg(long, value_enum, default_value_t)]
    pub fast_path: FastPath,

    /// Whether packets of clients outside to backends elsewhere are handled in the drivers of uplinks, past
    /// the host's stack and its netfilter: off, native, or generic for drivers that take no program; with
    /// a glob behind it, as in native=eth*, at devices with such names, which a veth needs (may be repeated).
    #[arg(long, value_name = "MODE[=GLOB]")]
    pub xdp: Vec<XdpChoice>,

    /// What the outside reaches.
    #[command(flatten)]
    pub outside: OutsideArgs,

    /// kube-proxy's configuration.
    #[command(flatten)]
    pub kube_proxy: KubeProxyArgs,

    /// How much the tables have room for.
    #[command(flatten)]
    pub capacity: CapacityArgs,

    /// The ports that translated sources take. The kernel should give none of them to sockets, and no
    /// Service should have one as a node port: what does is warned of.
    #[arg(long, value_name = "FIRST-LAST", default_value = SOURCE_PORTS, value_parser = port_range)]
    pub snat_port_range: RangeInclusive<u16>,

    /// What /proxyMode answers, for tools that want to hear the name of one of kube-proxy's modes.
    #[arg(long, value_name = "WORD", default_value = "sixfour")]
    pub report_proxy_mode: String,

    /// Of how many Services /metrics has series of their own: packets, bytes, flows, refusals. Those that have some keep
    /// them; 0 is for none.
    #[arg(long, value_name = "COUNT", default_value_t = 200)]
    pub metrics_services: usize,

    /// What is logged: a level (off, error, warn, info, debug, trace), or several as TARGET=LEVEL
    /// with commas between them. Without this, by the verbosity.
    #[arg(long, value_name = "LEVEL", env = "SIXFOUR_LOG")]
    pub log_level: Option<Targets>,

    /// How it is logged. Without this, by the logging format.
    #[arg(long, value_enum)]
    pub log_format: Option<LogFormat>,
}

impl RunArgs {
    /// What holds for all Services.
    #[must_use]
    pub fn options(&self, configuration: &KubeProxyConfiguration) -> Options {
        Options {
            reach: if self.socket_lb_mapped { Reach::Sockets } else { Reach::Family },
            external_ips: self.outside.external_ips(configuration.allows_external_ips()),
            node_ports: configuration.served_node_ports(),
        }
    }

    /// What is logged.
    #[must_use]
    pub fn log_level(&self, configuration: &KubeProxyConfiguration) -> Targets {
        self.log_level.clone().unwrap_or_else(|| configuration.log_level())
    }

    /// How it is logged.
    #[must_use]
    pub fn log_format(&self, configuration: &KubeProxyConfiguration) -> LogFormat {
        let said = if configuration.logs_json() { LogFormat::Json } else { LogFormat::Text };
        self.log_format.unwrap_or(said)
    }
}

/// Whether packets of Services take the fast path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum FastPath {
    /// They do not.
    #[default]
    Off,
    /// They do, if no rule drops, rejects, translates or encrypts what is forwarded.
    On,
    /// They do, past whatever rules there are.
    Force,
}

/// How to attach the programs to devices.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub enum Attach {
    /// By TCX where the kernel has it (6.6 and later), by clsact otherwise.
    #[default]
    Auto,
    /// By TCX.
    Tcx,
    /// By the clsact queueing discipline.
    Clsact,
}

impl From<Attach> for AttachMode {
    fn from(attach: Attach) -> Self {
        match attach {
            Attach::Auto => Self::Auto,
            Attach::Tcx => Self::Tcx,
            Attach::Clsact => Self::Clsact,
        }
    }
}

/// How to log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// A JSON object a line.
    Json,
}

/// What to print.
#[derive(Args, Debug)]
pub struct ListArgs {
    /// The table.
    #[arg(value_enum)]
    pub what: Listing,

    /// What of it.
    #[command(flatten)]
    pub filter: FilterArgs,

    /// The maps' place.
    #[command(flatten)]
    pub pin_root: PinRoot,

    /// How to print it.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
}

/// What can be listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Listing {
    /// Service ports: whether they are programmed, and why not; their backends, and what has been counted of them.
    Services,
    /// Frontends with the number of their backends; and what of Services is not in the tables, and why.
    Frontends,
    /// The backends of each Service port.
    Backends,
    /// Flows that are alive.
    Flows,
}

/// How to print.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// A table for people.
    #[default]
    Table,
    /// A JSON array.
    Json,
}

fn port_range(text: &str) -> Result<RangeInclusive<u16>, String> {
    let (first, last) = text.split_once('-').ok_or("two ports with a - between them are wanted")?;
    let port = |text: &str| match text.parse::<u16>() {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(format!("{text:?} is not a port")),
    };
    let range = port(first)?..=port(last)?;
    if range.is_empty() { Err("the range is empty".to_owned()) } else { Ok(range) }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser as _, error::ErrorKind};

    use super::{Cli, port_range};

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn port_ranges_are_checked() {
        assert_eq!(port_range("61000-65535"), Ok(61_000..=65_535));
        for bad in ["61000", "0-5", "7-5", "1-70000", "a-b"] {
            assert!(port_range(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn objects_come_from_one_place() {
        for other in ["--kubeconfig=/x", "--master=https://192.0.2.1"] {
            let both = ["sixfour", "run", "--manifests=/", other];
            let error = Cli::try_parse_from(both).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ArgumentConflict, "{other}");
        }
        let address = ["sixfour", "run", "--kubeconfig=/x", "--master=https://[fd00::1]:6443"];
        assert!(Cli::try_parse_from(address).is_ok());
        assert!(Cli::try_parse_from(["sixfour", "run"]).is_ok());
    }

    #[test]
    fn bad_values_are_told_with_their_flag() {
        for flag in ["--include-device=[a", "--include-device=pod=a*", "--exclude-device=[a"] {
            let error = Cli::try_parse_from(["sixfour", "run", "--manifests=/", flag]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ValueValidation, "{flag}");
        }
        let level = ["sixfour", "run", "--manifests=/", "--log-level=sixfour=loud"];
        assert_eq!(Cli::try_parse_from(level).unwrap_err().kind(), ErrorKind::ValueValidation);
    }
}
