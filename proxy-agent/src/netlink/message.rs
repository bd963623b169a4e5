// SPDX-License-Identifier: Apache-2.0
//! Messages of netfilter's parts, as of `linux/netfilter/nfnetlink.h`, and the attributes in them.

use netlink_packet_core::{
    DecodeError, DefaultNla, Emitable as _, NLA_HEADER_SIZE, NetlinkDeserializable, NetlinkHeader,
    NetlinkSerializable, NlasIterator, parse_string,
};

/// The bytes of `struct nfgenmsg`: family, version, resource.
const HEADER: usize = 4;

/// A message: a request, or an object of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    kind: u16,
    /// `NFPROTO_*`; in a request for all families, 0.
    pub(crate) family: u8,
    /// All of them, as they are sent.
    pub(crate) attributes: Vec<u8>,
}

impl Message {
    /// A request of a kind: the part of netfilter in the upper byte, what it is asked for in the lower one. An
    /// answer of many objects has those of a family that the attributes do not leave out.
    pub(crate) fn request(kind: u16, family: u8, attributes: &[DefaultNla]) -> Self {
        let mut bytes = vec![0; attributes.buffer_len()];
        attributes.emit(&mut bytes);
        Self { kind, family, attributes: bytes }
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
            .ok_or_else(|| DecodeError::from("a message of netfilter without a header"))?;
        Ok(Self { kind: header.message_type, family, attributes: attributes.to_vec() })
    }
}

/// The attributes in `bytes`: kinds and values.
pub(crate) fn attributes(bytes: &[u8]) -> impl Iterator<Item = Result<(u16, &[u8]), DecodeError>> {
    NlasIterator::new(bytes).map(|attribute| {
        let attribute = attribute?;
        let (kind, end) = (attribute.kind(), usize::from(attribute.length()));
        Ok((kind, &attribute.into_inner()[NLA_HEADER_SIZE..end]))
    })
}

/// The value of the first attribute of a kind.
pub(crate) fn find(bytes: &[u8], kind: u16) -> Result<Option<&[u8]>, DecodeError> {
    for attribute in attributes(bytes) {
        let (found, value) = attribute?;
        if found == kind {
            return Ok(Some(value));
        }
    }
    Ok(None)
}

/// The text of an attribute that must be there.
pub(crate) fn text(bytes: &[u8], kind: u16) -> Result<String, DecodeError> {
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
        let text = |kind, text: &[u8]| DefaultNla::new(kind, text.to_vec());
        let request = Message::request(0x0a0d, 1, &[text(1, b"t\0"), text(2, b"map\0")]);
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
        assert_eq!(super::text(&bytes[20..], 1).unwrap(), "t");
        assert_eq!(super::text(&bytes[20..], 2).unwrap(), "map");
        assert!(super::text(&bytes[20..], 3).is_err());
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
