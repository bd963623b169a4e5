// SPDX-License-Identifier: Apache-2.0

//! Network headers: IPv4 (RFC 791) with its options, IPv6 (RFC 8200) with its extension headers.

use super::frame::{Kind, View, number, number_of_four};

/// As many extension headers, and as many bytes of them, are walked over.
const MOST_EXTENSIONS: (usize, usize) = (6, 64);

impl View {
    pub(super) fn read_ipv4(mut self, header: &[u8]) -> Option<Self> {
        let (first, total) = (header[0], usize::from(number(header, 2)?));
        let length = usize::from(first & 15) * 4;
        if first >> 4 != 4 || length < 20 || total != 0 && total < length {
            return None;
        }
        self.protocol = header[9];
        self.transport += length;
        if total != 0 {
            self.end = self.network + total;
        }
        let place = number(header, 6)?;
        self.identification = (number(header, 4)?.into(), Some(self.protocol));
        self.set_fragment(place & 0x1fff != 0, place & 0x2000 != 0);
        Some(self)
    }

    pub(super) fn read_ipv6(mut self, frame: &[u8]) -> Option<Self> {
        let header = &frame[self.network..];
        let length = usize::from(number(header, 4)?);
        if header[0] >> 4 != 6 {
            return None;
        }
        let first = self.network + 40;
        if length != 0 {
            self.end = first + length;
        }
        (self.protocol, self.transport) = (header[6], first);
        let mut walked = 0;
        while matches!(self.protocol, 0 | 43 | 44 | 60) {
            let extension = frame.get(self.transport..self.transport + 8)?;
            if self.transport + 8 > self.end {
                return None;
            }
            let kind = self.protocol;
            self.protocol = extension[0];
            if kind == 44 {
                if self.fragment_header.replace(self.transport).is_some() {
                    return None;
                }
                let place = number(extension, 2)?;
                self.identification = (number_of_four(extension, 4)?, None);
                self.set_fragment(place & !7 != 0, place & 1 != 0);
                if self.kind == Kind::Later {
                    return Some(self);
                }
                self.transport += 8;
            } else {
                if kind == 43 && extension[3] != 0 {
                    return None;
                }
                self.transport += 8 * (usize::from(extension[1]) + 1);
            }
            walked += 1;
            if walked > MOST_EXTENSIONS.0 || self.transport - first > MOST_EXTENSIONS.1 {
                return None;
            }
        }
        (self.transport <= self.end).then_some(self)
    }

    fn set_fragment(&mut self, is_later: bool, has_more: bool) {
        if is_later {
            self.kind = Kind::Later;
        }
        self.is_first = has_more && !is_later;
    }
}
