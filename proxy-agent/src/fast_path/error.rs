// SPDX-License-Identifier: Apache-2.0
//! Why the fast path is not taken, or the rules cannot be read.

use std::{fmt, io};

use thiserror::Error;

use super::{found::Found, nftables::ATTEMPTS};
use crate::netlink::AskError;

/// How many rules are named.
const NAMED: usize = 3;

/// Why `--fast-path on` is refused, or ends.
#[derive(Debug, Error)]
pub enum Error {
    /// There are rules that it would go past.
    #[error(
        "the fast path goes past netfilter and IPsec, which may drop, reject, translate or encrypt \
         what this node forwards ({0}): remove these rules, leave --fast-path off, or say \
         --fast-path force if no connection to a Service needs them, for then network policies made \
         by netfilter do not hold, nothing is masqueraded for endpoints outside the pod network, \
         whose answers may not find back, and no IPsec policy encrypts anything"
    )]
    Found(FoundList),
    /// It is not known whether there are.
    #[error(
        "the fast path goes past netfilter and IPsec, and whether these may drop, reject, translate \
         or encrypt what this node forwards cannot be told: leave --fast-path off, or say \
         --fast-path force if no connection to a Service needs them, as network policies made by \
         netfilter, masquerading and IPsec between nodes do"
    )]
    Unknown(#[source] ReadError),
    /// What looks out for rules has crashed.
    #[error("nothing looks out any more for rules that the fast path must not go past")]
    Unwatched,
}

/// Why the rules cannot be read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The kernel has not told them.
    #[error(transparent)]
    Asked(#[from] AskError),
    /// The rules changed each time while they were read.
    #[error("the rules of nftables changed while they were read, {ATTEMPTS} times")]
    Restless,
    /// The names of the tables of legacy iptables.
    #[error("cannot read {0}")]
    Legacy(&'static str, #[source] io::Error),
}

/// What was found, of which the first few are displayed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundList(pub Vec<Found>);

impl fmt::Display for FoundList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named: Vec<_> = self.0.iter().take(NAMED).map(ToString::to_string).collect();
        f.write_str(&named.join(", "))?;
        match self.0.len().saturating_sub(NAMED) {
            0 => Ok(()),
            more => write!(f, ", and {more} more"),
        }
    }
}
