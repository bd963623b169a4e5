// SPDX-License-Identifier: Apache-2.0
//! Whether the programs may take the fast path, which goes past netfilter and IPsec.
//!
//! What it redirects meets no rule at the hooks prerouting, forward and postrouting, nor at a
//! device's own. Where such rules drop, reject or translate packets they are there for a reason, such as
//! network policies, or answers that would not find back: so the fast path is refused, unless it is
//! forced. The rules are looked at when the agent starts, and then again whenever the kernel tells of
//! a change, or ten seconds have gone by: the agent ends if there are any.
//!
//! Policies of IPsec are applied where the stack sends and forwards, so the fast path goes past them as well.
//!
//! Looked at are these, nftables, and with it iptables-nft, by netlink; of legacy iptables only which
//! tables there are. BPF programs at netfilter's hooks and legacy ebtables are not.

use tracing::{info, warn};

use crate::{chain::chain, cli::FastPath};

mod error;
mod found;
mod legacy;
mod nftables;
mod parse;
mod request;
mod watch;
mod xfrm;

pub use error::{Error, FoundList, ReadError};
pub use found::{Action, Chain, Found};
pub use watch::Watch;

pub use crate::netlink::AskError;

/// Whether to take the fast path in the calling thread's network namespace. Unless it is off, what
/// follows is logged.
///
/// # Errors
///
/// If it is on, without being forced, and there are rules for forwarded packets, or it cannot be told.
pub fn decide(choice: FastPath) -> Result<bool, Error> {
    match choice {
        FastPath::Off => return Ok(false),
        FastPath::On => {
            let found = look().map_err(Error::Unknown)?;
            if !found.is_empty() {
                return Err(Error::Found(FoundList(found)));
            }
            info!(
                "the fast path is on: no rule of netfilter or IPsec here is for what is forwarded"
            );
        }
        FastPath::Force => {
            let rules = rules().unwrap_or_else(|| "none is found".to_owned());
            warn!(
                rules,
                "the fast path is forced: what it redirects goes past netfilter and IPsec on this node, with its connection tracking, and past all rules that drop, reject or translate what is forwarded: network policies made by them do not hold, nothing is masqueraded by them, and no IPsec policy encrypts it"
            );
        }
    }
    Ok(true)
}

/// Logs which rules of the calling thread's network namespace do not hold for what is handled in drivers, if there are
/// any.
pub fn tell_of_drivers() {
    if let Some(rules) = rules() {
        warn!(
            rules,
            "packets that are handled in drivers (--xdp) go past netfilter and IPsec on this node, and past all rules that drop, reject or translate what is forwarded"
        );
    }
}

/// The rules, for people; nothing if there are none.
fn rules() -> Option<String> {
    match look() {
        Ok(found) if found.is_empty() => None,
        Ok(found) => Some(FoundList(found).to_string()),
        Err(error) => Some(format!("not known: {}", chain(&error))),
    }
}

/// What drops, rejects or translates packets that are forwarded in the calling thread's network namespace: all of it,
/// nftables first, in the order of names. IPsec is there for what must not leave as it is.
///
/// # Errors
///
/// If the kernel does not say what rules there are. That it has no nftables, or no IPsec, is no error.
pub fn look() -> Result<Vec<Found>, ReadError> {
    let mut found = nftables::Ruleset::read()?.found();
    found.extend(legacy::tables()?);
    found.extend(xfrm::policies()?);
    Ok(found)
}

#[cfg(test)]
mod tests;
