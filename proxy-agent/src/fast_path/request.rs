// SPDX-License-Identifier: Apache-2.0
//! Requests to nftables, as of `linux/netfilter/nf_tables.h`.

use netlink_packet_core::DefaultNla;

use crate::netlink::Message;

/// `NFNL_SUBSYS_NFTABLES`, where the type of a message has it.
const SUBSYSTEM: u16 = 10 << 8;

/// What can be asked for: the type of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Objects {
    /// `NFT_MSG_GETCHAIN`.
    Chains = 4,
    /// `NFT_MSG_GETRULE`.
    Rules = 7,
    /// `NFT_MSG_GETSETELEM`.
    Elements = 13,
    /// `NFT_MSG_GETGEN`: no list, but how often all of these have changed.
    Generation = 16,
}

/// Asks for all objects of a family, or of all (0), that the attributes, which are texts, do not leave out.
pub(super) fn request(objects: Objects, family: u8, texts: &[(u16, &str)]) -> Message {
    let text =
        |(kind, text): &(u16, &str)| DefaultNla::new(*kind, [text.as_bytes(), &[0]].concat());
    let attributes: Vec<_> = texts.iter().map(text).collect();
    Message::request(SUBSYSTEM | objects as u16, family, &attributes)
}
