// SPDX-License-Identifier: Apache-2.0

//! What first fragments say of the others.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::Result;

use super::flows::{Over, after};
use super::frame::View;
use super::{Hook, Model, Rule, Run};
use crate::protocol::Protocol;

/// For so many seconds a first fragment is remembered (`docs/packets.md`).
const SECONDS: u32 = 5;

/// By what all fragments of a packet are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name {
    hook: Hook,
    source: IpAddr,
    destination: IpAddr,
    identification: (u32, Option<u8>),
}

/// A first fragment that was translated.
#[derive(Clone, Copy, Debug)]
pub(super) struct First {
    protocol: Protocol,
    ports: [u16; 2],
    pub(super) heard: Duration,
}

fn name(hook: Hook, view: &View) -> Name {
    let (source, destination) = (view.source, view.destination);
    Name { hook, source, destination, identification: view.identification }
}

impl Model {
    /// Takes note that a first fragment was translated.
    pub(super) fn remember(&mut self, hook: Hook, view: &View, protocol: Protocol) {
        let (ports, heard) = (view.ports(), self.now);
        let _ = self.firsts.insert(name(hook, view), First { protocol, ports, heard });
    }

    /// A first fragment has come: what was known by its name is another packet's.
    pub(super) fn forget_namesake(&mut self, hook: Hook, view: &View) {
        if view.is_first {
            let _ = self.firsts.remove(&name(hook, view));
        }
    }

    /// What the first fragment of a later one says, if that is remembered.
    pub(super) fn recall(&self, hook: Hook, view: &View) -> Option<(Protocol, [u16; 2])> {
        self.firsts.get(&name(hook, view)).map(|first| (first.protocol, first.ports))
    }

    /// Forgets what is over for certain; says whether something that may matter to a packet may be
    /// over or not.
    pub(super) fn forget_what_is_over(&mut self, is_later: bool) -> bool {
        let (now, mut is_uncertain) = (self.now, false);
        self.firsts.retain(|_, first| {
            let over = after(now.saturating_sub(first.heard), SECONDS);
            is_uncertain |= is_later && over == Over::Perhaps;
            over != Over::Yes
        });
        self.flows.retain(|key, flow| {
            let over = flow.over(key.protocol, now);
            is_uncertain |= over == Over::Perhaps;
            over != Over::Yes
        });
        is_uncertain
    }

    /// Forgets all that may be over.
    pub(super) fn forget_what_is_uncertain(&mut self) {
        let now = self.now;
        self.firsts.retain(|_, first| after(now.saturating_sub(first.heard), SECONDS) == Over::No);
        self.flows.retain(|key, flow| flow.over(key.protocol, now) == Over::No);
    }

    /// A first fragment that cannot be given its ports.
    pub(super) fn expect_dropped_fragment(&mut self, run: &Run<'_>) -> Result<Rule> {
        run.is_dropped()?;
        self.count("drop-sctp-fragment");
        Ok(Rule::SctpFragmentDropped)
    }
}

/// Whether it takes more than is there to give a packet these ports: SCTP's checksum depends on all
/// fragments.
pub(super) fn is_out_of_reach(protocol: Protocol, view: &View, ports: [u16; 2]) -> bool {
    protocol == Protocol::Sctp && view.is_first && view.ports() != ports
}
