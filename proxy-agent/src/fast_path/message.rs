// SPDX-License-Identifier: Apache-2.0
//! Messages of nftables, as of `linux/netfilter/nfnetlink.h` and `nf_tables.h`, and the attributes
//! in them.

use netlink_packet_core::{
    DecodeError, DefaultNla, Emitable as _, NLA_HEADER_SIZE, NetlinkDeserializable, NetlinkHeader,
    NetlinkSerializable, NlasIterator, parse_string,
};

/// `NFNL_SUBSYS_NFTABLES`, where the type of a message has it.
const SUBSYSTEM: u16 = 10 << 8;

/// The bytes of `struct nfgenmsg`: family, version, resource.
const HEADER: usize = 4;

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

/// A message: a request, or an object of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    kind: u16,
    /// `NFPROTO_*`; in a request for all families, 0.
    pub(super) family: u8,
    /// All of them, as they are sent.
    pub(super) attributes: Vec<u8>,
}

impl Message {
    /// Asks for all objects of a family that the attributes, which are texts, do not leave out.
    pub(super) fn request(objects: Objects, family: u8, attributes: &[(u16, &str)]) -> Self {
        let text =
            |(kind, text): &(u16, &str)| DefaultNla::new(*kind, [text.as_bytes(), &[0]].concat());
        let attributes: Vec<_> = attributes.iter().map(text).collect();
        let attributes = attributes.as_slice();
        let mut bytes = vec![0; attributes.buffer_len()];
        attributes.emit(&mut bytes);
        Self { kind: SUBSYSTEM | objects as u16, family, attributes: bytes }
    }
}

impl NetlinkSerializable for Message {
    fn message_type(&self) -> u16 {
        self.kind
    }

    fn buffer_len(&self) -> usize {
        HEADER + self.attributes.len()
    }

    fn serialize(&self, buffer: &mut [u8]) {
        buffer[..HEADER].copy_from_slice(&[self.family, 0, 0, 0]);
        buffer[HEADER..].copy_from_slice(&self.attributes);
    }
}

impl NetlinkDeserializable for Message {
    type Error = DecodeError;

    fn deserialize(header: &NetlinkHeader, payload: &[u8]) -> Result<Self, DecodeError> {
        let (&[family, ..], attributes) = payload
            .split_first_chunk::<HEADER>()
            .ok_or_else(|| DecodeError::from("a message of nftables without a header"))?;
        Ok(Self { kind: header.message_type, family, attributes: attributes.to_vec() })
    }
}

/// The attributes in `bytes`: kinds and values.
pub(super) fn attributes(bytes: &[u8]) -> impl Iterator<Item = Result<(u16, &[u8]), DecodeError>> {
    NlasIterator::new(bytes).map(|attribute| {
        let attribute = attribute?;
        let (kind, end) = (attribute.kind(), usize::from(attribute.length()));
        Ok((kind, &attribute.into_inner()[NLA_HEADER_SIZE..end]))
    })
}

/// The value of the first attribute of a kind.
pub(super) fn find(bytes: &[u8], kind: u16) -> Result<Option<&[u8]>, DecodeError> {
    for attribute in attributes(bytes) {
        let (found, value) = attribute?;
        if found == kind {
            return Ok(Some(value));
        }
    }
    Ok(None)
}

/// The text of an attribute that must be there.
pub(super) fn text(bytes: &[u8], kind: u16) -> Result<String, DecodeError> {
    let value = find(bytes, kind)?
        .ok_or_else(|| DecodeError::from(format!("attribute {kind} is missing")))?;
    parse_string(value)
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::{NetlinkMessage, NetlinkPayload};

    use super::*;

    #[test]
    fn a_request_is_as_nft_sends_it() {
        let request = Message::request(Objects::Elements, 1, &[(1, "t"), (2, "map")]);
        let payload = NetlinkPayload::InnerMessage(request.clone());
        let mut message = NetlinkMessage::new(NetlinkHeader::default(), payload);
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        // The length is in the machine's order, as is the type.
        assert_eq!(bytes[..4], 36_u32.to_ne_bytes());
        assert_eq!(bytes[4..6], 0x0a0d_u16.to_ne_bytes());
        assert_eq!(bytes[16..20], [1, 0, 0, 0]);
        assert_eq!(bytes.len(), 36);
        assert_eq!(text(&bytes[20..], 1).unwrap(), "t");
        assert_eq!(text(&bytes[20..], 2).unwrap(), "map");
        assert!(text(&bytes[20..], 3).is_err());
        let back = Message::deserialize(&message.header, &bytes[16..]).unwrap();
        assert_eq!(back, request);
    }

    #[test]
    fn what_is_cut_off_is_told() {
        assert!(Message::deserialize(&NetlinkHeader::default(), &[1, 0]).is_err());
        let cut = [&9_u16.to_ne_bytes()[..], &1_u16.to_ne_bytes(), &[0]].concat();
        assert!(find(&cut, 1).is_err());
    }
}
