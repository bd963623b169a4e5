// SPDX-License-Identifier: Apache-2.0
//! The kernel's connection tracking, set as a configuration of kube-proxy's says (`cmd/kube-proxy/app/conntrack.go` and
//! `server_linux.go`, Kubernetes 1.36). Sixfour does not need it; the node's other connections do.

use std::{
    fs, io,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use tracing::{debug, info};

use crate::config::{Conntrack, GoDuration};

/// The most connections that a number for each processor may come to.
const MOST: i32 = 1_048_576;
/// Of each bucket of the table so many connections are a list.
const PER_BUCKET: i32 = 4;

/// Why it cannot be set.
#[derive(Debug, thiserror::Error)]
#[error("cannot set {} to {value}", path.display())]
pub struct SetError {
    path: PathBuf,
    value: i64,
    source: io::Error,
}

/// A setting, and what it must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Setting {
    path: &'static str,
    value: i64,
    /// Whether more is as good.
    at_least: bool,
}

impl Setting {
    const fn of(path: &'static str, value: i64) -> Self {
        Self { path, value, at_least: false }
    }
}

/// Sets what must be otherwise, and returns what could not be set. A kernel that does not track connections has none of
/// the settings, and needs none.
#[must_use]
pub fn configure(wanted: &Conntrack) -> Vec<SetError> {
    let processors = thread::available_parallelism().map_or(1, Into::into);
    configure_below(Path::new("/"), wanted, processors)
}

fn configure_below(root: &Path, wanted: &Conntrack, processors: usize) -> Vec<SetError> {
    let mut errors = Vec::new();
    for Setting { path, value, at_least } in settings(wanted, processors) {
        let path = root.join(path);
        let is = fs::read_to_string(&path).ok().and_then(|text| text.trim().parse::<i64>().ok());
        match is {
            None => debug!(setting = %path.display(), "the kernel has no such setting"),
            Some(is) if is == value || at_least && is > value => {}
            Some(is) => match fs::write(&path, value.to_string()) {
                Ok(()) => {
                    info!(setting = %path.display(), before = is, now = value, "set, as is configured");
                }
                Err(source) => errors.push(SetError { path, value, source }),
            },
        }
    }
    errors
}

/// What must be set, in this order.
fn settings(wanted: &Conntrack, processors: usize) -> Vec<Setting> {
    let mut settings = Vec::new();
    let most = connections(wanted, processors);
    if most > 0 {
        settings.push(Setting::of("proc/sys/net/netfilter/nf_conntrack_max", most.into()));
        settings.push(Setting {
            path: "sys/module/nf_conntrack/parameters/hashsize",
            value: i64::from(most / PER_BUCKET),
            at_least: true,
        });
    }
    for (path, timeout) in [
        (
            "proc/sys/net/netfilter/nf_conntrack_tcp_timeout_established",
            wanted.tcp_established_timeout,
        ),
        (
            "proc/sys/net/netfilter/nf_conntrack_tcp_timeout_close_wait",
            wanted.tcp_close_wait_timeout,
        ),
        ("proc/sys/net/netfilter/nf_conntrack_udp_timeout", Some(wanted.udp_timeout)),
        ("proc/sys/net/netfilter/nf_conntrack_udp_timeout_stream", Some(wanted.udp_stream_timeout)),
    ] {
        let seconds = timeout.and_then(GoDuration::positive).unwrap_or(Duration::ZERO).as_secs();
        if let Ok(seconds @ 1..) = i64::try_from(seconds) {
            settings.push(Setting::of(path, seconds));
        }
    }
    if wanted.tcp_be_liberal {
        settings.push(Setting::of("proc/sys/net/netfilter/nf_conntrack_tcp_be_liberal", 1));
    }
    settings
}

/// How many connections there must be room for; nothing if that is left as it is.
fn connections(wanted: &Conntrack, processors: usize) -> i32 {
    match wanted.max_per_core {
        Some(each @ 1..) => {
            let processors = i32::try_from(processors).unwrap_or(i32::MAX);
            each.saturating_mul(processors).min(MOST).max(wanted.min.unwrap_or_default())
        }
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: &str = "proc/sys/net/netfilter/nf_conntrack_max";
    const BUCKETS: &str = "sys/module/nf_conntrack/parameters/hashsize";
    const ESTABLISHED: &str = "proc/sys/net/netfilter/nf_conntrack_tcp_timeout_established";
    const STREAM: &str = "proc/sys/net/netfilter/nf_conntrack_udp_timeout_stream";
    const LIBERAL: &str = "proc/sys/net/netfilter/nf_conntrack_tcp_be_liberal";

    fn wanted(max_per_core: i32, min: i32) -> Conntrack {
        Conntrack { max_per_core: Some(max_per_core), min: Some(min), ..Conntrack::default() }
    }

    #[test]
    fn processors_count_up_to_a_limit() {
        for (each, least, processors, expected) in [
            (32_768, 131_072, 2, 131_072),
            (32_768, 131_072, 8, 262_144),
            (32_768, 131_072, 128, 1_048_576),
            (32_768, 2_000_000, 128, 2_000_000),
            (0, 131_072, 8, 0),
        ] {
            assert_eq!(connections(&wanted(each, least), processors), expected);
        }
        assert_eq!(connections(&Conntrack::default(), 8), 0);
    }

    /// What files of settings say after that.
    fn set(wanted: &Conntrack, before: &[(&str, &str)]) -> Vec<String> {
        let root = tempfile::tempdir().unwrap();
        for (path, value) in before {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, value).unwrap();
        }
        assert!(configure_below(root.path(), wanted, 2).is_empty());
        before.iter().map(|(path, _)| fs::read_to_string(root.path().join(path)).unwrap()).collect()
    }

    #[test]
    fn what_is_otherwise_is_set() {
        let before = [(MAX, "262144\n"), (BUCKETS, "1024\n")];
        assert_eq!(set(&wanted(100_000, 0), &before), ["200000", "50000"]);
        assert_eq!(set(&wanted(0, 7), &before), ["262144\n", "1024\n"]);
        // More buckets are kept, and so is what is as it must be.
        let before = [(MAX, "200000\n"), (BUCKETS, "65536\n")];
        assert_eq!(set(&wanted(100_000, 0), &before), ["200000\n", "65536\n"]);
        let timeouts = Conntrack {
            tcp_established_timeout: Some(GoDuration::seconds(86_400)),
            udp_stream_timeout: GoDuration::seconds(90),
            tcp_be_liberal: true,
            ..Conntrack::default()
        };
        let before = [(ESTABLISHED, "432000\n"), (STREAM, "120\n"), (LIBERAL, "0\n")];
        assert_eq!(set(&timeouts, &before), ["86400", "90", "1"]);
        let nothing = Conntrack { tcp_established_timeout: Some(GoDuration::ZERO), ..timeouts };
        let nothing =
            Conntrack { udp_stream_timeout: GoDuration::ZERO, tcp_be_liberal: false, ..nothing };
        assert_eq!(set(&nothing, &before), ["432000\n", "120\n", "0\n"]);
    }

    #[test]
    fn what_there_is_not_is_left_alone() {
        let root = tempfile::tempdir().unwrap();
        assert!(configure_below(root.path(), &wanted(7, 7), 1).is_empty());
        assert!(!root.path().join(MAX).exists());
    }
}
