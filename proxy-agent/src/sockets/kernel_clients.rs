// SPDX-License-Identifier: Apache-2.0
//! Sockets of the kernel itself: of NFS, SMB and others that connect and send.
//!
//! They are served as those of processes are, and for them the programs change the address in the
//! caller's own memory, unless the kernel hands out a copy. Without that copy the caller forgets the
//! frontend that it asked for, and connects to the endpoint that it was given for ever after.
//!
//! The copies came with commits 0bdf399342c5 (`kernel_connect()`: NFS), 26297b4ce1ce and cedc019b9f26
//! (who went round that, and SMB), and 86a7e0b69bd5 (`sock_sendmsg()`), all of Linux 6.6, and were
//! completed by 01b2885d9415 of 6.7. With 6.1.72 and 6.6.11 the series with long-term support have
//! all of them.

use std::fmt;

use aya::util::KernelVersion;

/// Kernels with all of them: of a series with long-term support from a release on, and every later
/// series. Other series ended before.
const FIXED: [KernelVersion; 3] =
    [KernelVersion::new(6, 1, 72), KernelVersion::new(6, 6, 11), KernelVersion::new(6, 7, 0)];

/// Where the series that [`FIXED`] are releases of end.
const ENDS: [KernelVersion; 2] = [KernelVersion::new(6, 2, 0), KernelVersion::new(6, 7, 0)];

/// That clients in the kernel may forget the Service that they asked for; displayed as one sentence
/// with what to do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Forgetful(());

impl fmt::Display for Forgetful {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "this kernel lets its own clients, such as NFS and SMB, forget the cluster IP that they \
             connect to, so that they keep the endpoint that they were given first, even when it has \
             gone: update to Linux 6.1.72, 6.6.11, 6.7 or later (or to one of the distribution's with \
             commits 0bdf399342c5, 26297b4ce1ce, cedc019b9f26, 86a7e0b69bd5 and 01b2885d9415), or run \
             with --socket-lb off.",
        )
    }
}

/// Whether the running kernel's own clients may forget the Service that they asked for; nothing if
/// they do not, or if it does not say which release it is.
#[must_use]
pub fn forgetful() -> Option<Forgetful> {
    judge(KernelVersion::current().ok()?)
}

/// The same of a release. Distributions give theirs other names: what counts is the release that
/// they are made from.
fn judge(kernel: KernelVersion) -> Option<Forgetful> {
    let [of_6_1, of_6_6, later] = FIXED;
    let [after_6_1, after_6_6] = ENDS;
    let fixed = kernel >= later
        || kernel >= of_6_6 && kernel < after_6_6
        || kernel >= of_6_1 && kernel < after_6_1;
    (!fixed).then_some(Forgetful(()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_with_all_fixes_are_not_warned_of() {
        for (major, minor, patch) in
            [(6, 1, 72), (6, 1, 176), (6, 6, 11), (6, 6, 300), (6, 7, 0), (6, 12, 1), (7, 0, 0)]
        {
            let kernel = KernelVersion::new(major, minor, patch);
            assert_eq!(judge(kernel), None, "{kernel:?}");
        }
    }

    #[test]
    fn others_are() {
        for (major, minor, patch) in [
            (6, 1, 0),
            (6, 1, 52),
            (6, 1, 71),
            (6, 2, 0),
            (6, 2, 99),
            (6, 5, 13),
            (6, 6, 0),
            (6, 6, 10),
            (5, 15, 200),
        ] {
            let kernel = KernelVersion::new(major, minor, patch);
            let warning = judge(kernel).expect("it lacks a fix").to_string();
            assert!(warning.contains("--socket-lb off"), "{kernel:?}: {warning}");
        }
    }
}
