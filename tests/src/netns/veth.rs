// SPDX-License-Identifier: Apache-2.0

//! The ends of veth and netkit pairs.

use rtnetlink::LinkMessageBuilder;
use rtnetlink::packet_route::link::LinkAttribute::{NumRxQueues, NumTxQueues};

/// One end of a veth pair.
#[derive(Clone, Copy, Debug)]
pub struct Veth<'a> {
    /// Its name, at most 15 bytes.
    pub name: &'a str,
    /// Its hardware address, or the kernel's choice.
    pub mac: Option<[u8; 6]>,
    /// Its MTU in bytes, or the kernel's default.
    pub mtu: Option<u32>,
    /// How many queues it has for what it sends, and how many for what it
    /// receives; one of each by default. A program in its driver wants no
    /// fewer to receive than the other end has to send.
    pub queues: Option<u32>,
}

impl<'a> Veth<'a> {
    /// An end with the kernel's defaults.
    #[must_use]
    pub const fn named(name: &'a str) -> Self {
        Self { name, mac: None, mtu: None, queues: None }
    }

    pub(super) fn describe<T>(self, mut link: LinkMessageBuilder<T>) -> LinkMessageBuilder<T> {
        if let Some(mac) = self.mac {
            link = link.address(mac.to_vec());
        }
        if let Some(mtu) = self.mtu {
            link = link.mtu(mtu);
        }
        if let Some(queues) = self.queues {
            link = link.append_extra_attribute(NumTxQueues(queues));
            link = link.append_extra_attribute(NumRxQueues(queues));
        }
        link.name(self.name)
    }
}
