// SPDX-License-Identifier: Apache-2.0
//! What is said about sockets.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::PinRoot;

/// Which processes are served at their sockets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum SocketLb {
    /// Those of the host's network namespace.
    #[default]
    Host,
    /// Those of pods, too: their packets then need no translation.
    All,
    /// None.
    Off,
}

/// Which pods are not served at their sockets. What is said counts from the next connection or
/// datagram on, until the agent ends.
#[derive(Debug, Subcommand)]
pub enum SocketLbCommand {
    /// Leave a pod out: its packets are translated on its device.
    Exclude(Excluded),
    /// Serve it again.
    Include(Excluded),
    /// Print the cookies of the network namespaces that are left out.
    List(PinRoot),
}

/// A pod, by its network namespace.
#[derive(Args, Debug)]
pub struct Excluded {
    /// Which it is.
    #[command(flatten)]
    pub netns: Netns,

    /// The maps' place.
    #[command(flatten)]
    pub pin_root: PinRoot,
}

/// A network namespace.
#[derive(Args, Clone, Debug)]
#[group(required = true, multiple = false)]
pub struct Netns {
    /// That of this process.
    #[arg(long, value_name = "PID")]
    pub pid: Option<u32>,

    /// That of this file, as in /run/netns.
    #[arg(long, value_name = "FILE")]
    pub netns: Option<PathBuf>,

    /// That with this cookie (`SO_NETNS_COOKIE`).
    #[arg(long, value_name = "NUMBER")]
    pub cookie: Option<u64>,
}

#[cfg(test)]
mod tests {
    use clap::{Parser as _, error::ErrorKind};

    use crate::cli::Cli;

    #[test]
    fn a_pod_is_named_in_one_way() {
        let parse = |named: &[&str]| {
            Cli::try_parse_from(["sixfour", "socket-lb", "exclude"].iter().chain(named))
        };
        for way in [["--pid", "7"], ["--netns", "/run/netns/x"], ["--cookie", "4711"]] {
            assert!(parse(&way).is_ok(), "{way:?}");
        }
        let error = |named: &[&str]| parse(named).unwrap_err().kind();
        assert_eq!(error(&[]), ErrorKind::MissingRequiredArgument);
        assert_eq!(error(&["--pid", "7", "--cookie", "1"]), ErrorKind::ArgumentConflict);
    }
}
