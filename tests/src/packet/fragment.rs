// SPDX-License-Identifier: Apache-2.0

//! Cutting packets into fragments.

use anyhow::{Result, ensure};

use super::{Content, Packet};

/// Which part of a fragmented packet a fragment is; the identification is
/// the packet's label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// Where it starts, in units of eight bytes.
    pub offset: u16,
    /// Whether it is not the last one.
    pub more: bool,
}

impl Packet {
    /// The fragments of this packet, of which each carries this much, in
    /// units of eight bytes.
    pub fn fragments(&self, length: u16) -> Result<Vec<Self>> {
        let (protocol, bytes) = self.content_bytes()?;
        let chunks: Vec<_> = bytes.chunks(8 * usize::from(length)).collect();
        ensure!(chunks.len() > 1, "the packet is too short to be cut");
        let last = chunks.len() - 1;
        let cut = |(number, chunk): (usize, &&[u8])| {
            let offset = u16::try_from(number)? * length;
            let fragment = Some(Fragment { offset, more: number < last });
            let content = Content::Other { protocol: protocol.0, payload: chunk.to_vec() };
            Ok(Self { fragment, content, dont_fragment: false, ..self.clone() })
        };
        chunks.iter().enumerate().map(cut).collect()
    }
}
