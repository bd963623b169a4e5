// SPDX-License-Identifier: Apache-2.0
//! By which addresses the own Node is known.

use std::{collections::BTreeSet, net::IpAddr};

use tokio::sync::watch;

/// The addresses of the own Node, as far as they are known.
#[derive(Debug)]
pub struct NodeAddresses {
    /// Those of before, which hold until the Node has been read.
    pub(super) former: BTreeSet<IpAddr>,
    pub(super) own: watch::Receiver<Option<BTreeSet<IpAddr>>>,
    /// Whether those that are current are the Node's own.
    pub(super) are_known: bool,
}

impl NodeAddresses {
    /// Those of the own Node, once it has been read, and whenever they change; until then, those that it had before.
    #[must_use]
    pub const fn new(
        own: watch::Receiver<Option<BTreeSet<IpAddr>>>,
        former: BTreeSet<IpAddr>,
    ) -> Self {
        Self { former, own, are_known: false }
    }

    /// Those that devices are to be judged by from now on.
    pub(super) fn current(&mut self) -> BTreeSet<IpAddr> {
        let own = self.own.borrow_and_update();
        self.are_known = own.is_some();
        own.as_ref().unwrap_or(&self.former).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn former_addresses_hold_until_there_are_others() {
        let addresses = |text: &str| BTreeSet::from([text.parse().unwrap()]);
        let (sender, own) = watch::channel(None);
        let mut node = NodeAddresses::new(own, addresses("192.0.2.1"));
        assert_eq!((node.current(), node.are_known), (addresses("192.0.2.1"), false));
        let _ = sender.send_replace(Some(addresses("2001:db8::1")));
        assert_eq!((node.current(), node.are_known), (addresses("2001:db8::1"), true));
        let _ = sender.send_replace(Some(BTreeSet::new()));
        assert_eq!((node.current(), node.are_known), (BTreeSet::new(), true), "it has none");
    }
}
