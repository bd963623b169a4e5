// SPDX-License-Identifier: Apache-2.0

//! The Internet checksum (RFC 1071) and its pseudo headers (RFC 9293,
//! RFC 8200).

use std::net::IpAddr;

use anyhow::{Context as _, Result};
use etherparse::IpNumber;
use etherparse::checksum::Sum16BitWords;

use super::Packet;

/// The checksum of `bytes`; 0 if they contain a right one.
pub(super) fn plain(bytes: &[u8]) -> u16 {
    // It sums as the bytes lie in memory.
    u16::from_be(Sum16BitWords::new().add_slice(bytes).ones_complement())
}

/// The checksum of `content`, of the type `protocol`, with the pseudo header
/// of the packet around it; 0 if it contains a right one.
pub(super) fn with_pseudo_header(
    packet: &Packet,
    protocol: IpNumber,
    content: &[u8],
) -> Result<u16> {
    let mut bytes = Vec::with_capacity(40 + content.len());
    for address in [packet.source, packet.destination] {
        match address {
            IpAddr::V4(address) => bytes.extend(address.octets()),
            IpAddr::V6(address) => bytes.extend(address.octets()),
        }
    }
    // IPv4 has the length in two bytes and the protocol before it: the sum
    // is the same.
    let length = u32::try_from(content.len()).context("the packet is too long")?;
    bytes.extend(length.to_be_bytes());
    bytes.extend([0, 0, 0, protocol.0]);
    bytes.extend(content);
    Ok(plain(&bytes))
}
