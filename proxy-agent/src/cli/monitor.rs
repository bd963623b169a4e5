// SPDX-License-Identifier: Apache-2.0
//! The command line of `sixfour monitor`.

use clap::{Args, ValueEnum};
use proxy_common::{
    V4, V6,
    counter::Reason,
    event::{Event, Happening},
};

use super::{FilterArgs, Output, PinRoot};

/// What is to be watched.
#[derive(Args, Debug)]
pub struct MonitorArgs {
    /// Of whom.
    #[command(flatten)]
    pub filter: FilterArgs,

    /// Only what happens like this (may be repeated). Without this, all of it.
    #[arg(long, value_enum, value_name = "WHAT")]
    pub only: Vec<Watched>,

    /// Only what happens for this reason, as metrics and logs name it (may be repeated).
    #[arg(long, value_name = "REASON", value_parser = reason)]
    pub reason: Vec<Reason>,

    /// End after so many events.
    #[arg(short, long, value_name = "COUNT")]
    pub count: Option<u64>,

    /// The maps' place.
    #[command(flatten)]
    pub pin_root: PinRoot,

    /// How to print it: a line for people, or a JSON object a line.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
}

/// What can be watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Watched {
    /// Flows that are created.
    Flow,
    /// Sockets, and datagrams of unconnected ones, that are given a backend.
    Socket,
    /// Packets and calls at sockets that are dropped.
    Drop,
    /// Packets and calls at sockets that are refused.
    Reject,
}

impl From<Watched> for Happening {
    fn from(watched: Watched) -> Self {
        match watched {
            Watched::Flow => Self::Flow,
            Watched::Socket => Self::Socket,
            Watched::Drop => Self::Drop,
            Watched::Reject => Self::Reject,
        }
    }
}

impl MonitorArgs {
    /// What programs are to tell, as bits.
    #[must_use]
    pub fn wanted(&self) -> u64 {
        let is_wanted = |happening: &Happening| {
            (self.only.is_empty() || self.only.iter().any(|only| *happening == (*only).into()))
                && (self.reason.is_empty()
                    || self.reason.iter().any(|reason| Happening::of(*reason) == Some(*happening)))
        };
        let bits = |happening: Happening| {
            let v4 = if self.filter.has_family::<V4>() { happening.bit::<V4>() } else { 0 };
            let v6 = if self.filter.has_family::<V6>() { happening.bit::<V6>() } else { 0 };
            v4 | v6
        };
        Happening::ALL.into_iter().filter(is_wanted).map(bits).fold(0, |all, bits| all | bits)
    }

    /// Whether an event has a reason that is of interest.
    #[must_use]
    pub fn has_reason(&self, event: &Event) -> bool {
        self.reason.is_empty() || self.reason.iter().any(|reason| *reason as u8 == event.reason)
    }
}

fn reason(text: &str) -> Result<Reason, String> {
    let mut told = Reason::ALL.iter().filter(|reason| Happening::of(**reason).is_some());
    told.clone().find(|reason| reason.name() == text).copied().ok_or_else(|| {
        let first = told.next().map_or("", |reason| reason.name());
        let others: Vec<_> = told.map(|reason| reason.name()).collect();
        format!("one of {first}, {} is wanted", others.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use crate::cli::{Cli, Command};

    fn wanted(arguments: &[&str]) -> u64 {
        let all = ["sixfour", "monitor"].iter().chain(arguments);
        match Cli::try_parse_from(all).unwrap().command {
            Command::Monitor(arguments) => arguments.wanted(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn programs_tell_no_more_than_is_wanted() {
        assert_eq!(wanted(&[]), 0xff);
        assert_eq!(wanted(&["--family=ipv4"]), 0x0f);
        assert_eq!(wanted(&["--family=IPv6", "--only=drop"]), 1 << 6);
        assert_eq!(wanted(&["--reason=reject-no-endpoints"]), 1 << 3 | 1 << 7);
        assert_eq!(wanted(&["--reason=reject-no-endpoints", "--only=flow"]), 0);
        let unknown = ["sixfour", "monitor", "--reason=flow-evicted"];
        let error = Cli::try_parse_from(unknown).unwrap_err().to_string();
        assert!(
            error.contains("one of flow-created, ") && error.contains("drop-loopback"),
            "{error}"
        );
    }
}
