// SPDX-License-Identifier: Apache-2.0

//! What must come out, to the byte.
//!
//! Checksums are judged by what they do: before and after, the one's complement sum over all that
//! a checksum covers must be the same. So what was right stays right, and what was wrong stays
//! wrong by the same amount, so that nothing that was damaged is mended. The same holds of SCTP's,
//! which is no sum.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Result, ensure};

use super::frame::{Kind, NETWORK, View, addresses, number};
use super::{Run, Verdict};
use crate::family::IpFamily;
use crate::packet::crc32c;
use crate::protocol::Protocol;

/// A part of a frame: where it begins and ends.
pub(super) type Place = (usize, usize);

/// A checksum: where it is, and what changes of what it covers.
struct Sum {
    field: usize,
    covers: Vec<Place>,
    /// Whether zero means that there is none.
    may_lack: bool,
}

/// A frame that must come out.
pub(super) struct Expected {
    frame: Vec<u8>,
    sums: Vec<Sum>,
    /// The SCTP packet in it, if it has another checksum afterwards.
    sctp: Option<Place>,
}

impl Run<'_> {
    /// It must have passed untouched.
    pub(super) fn is_untouched(&self) -> Result<()> {
        ensure!(self.verdict == Verdict::Pass, "it should pass untouched");
        ensure!(self.frame == self.sent, "it should pass untouched");
        Ok(())
    }

    /// It must have been dropped.
    pub(super) fn is_dropped(&self) -> Result<()> {
        ensure!(self.verdict == Verdict::Drop, "it should be dropped");
        Ok(())
    }

    /// It must have left like this.
    pub(super) fn is(&self, verdict: Verdict, expected: Expected) -> Result<()> {
        ensure!(self.verdict == verdict, "the verdict should be {verdict:?}");
        let Expected { frame: mut wanted, sums, sctp } = expected;
        ensure!(
            self.frame.len() == wanted.len(),
            "it has {} bytes, should have {}",
            self.frame.len(),
            wanted.len()
        );
        for sum in sums {
            let at = sum.field;
            let (before, after) = (number(self.sent, at), number(self.frame, at));
            wanted[at..at + 2].copy_from_slice(&self.frame[at..at + 2]);
            if sum.may_lack && (before == Some(0) || after == Some(0)) {
                ensure!(before == after, "the checksum at {at} was {before:x?}, is {after:x?}");
                continue;
            }
            let (before, after) = (total(self.sent, &sum.covers), total(self.frame, &sum.covers));
            ensure!(
                before == after,
                "the sum that the checksum at {at} balances was {before:#x}, is {after:#x}"
            );
        }
        if let Some(place) = sctp {
            let (before, after) = (sctp_error(self.sent, place), sctp_error(self.frame, place));
            ensure!(before == after, "the SCTP checksum was off by {before:x?}, is {after:x?}");
            let field = place.0 + 8..place.0 + 12;
            wanted[field.clone()].copy_from_slice(&self.frame[field]);
        }
        let first = (0..wanted.len()).find(|at| self.frame[*at] != wanted[*at]);
        ensure!(first.is_none(), "from byte {first:?} on it should be {wanted:02x?}");
        Ok(())
    }

    /// The frame with the hardware addresses the other way round.
    pub(super) fn turned(frame: &[u8]) -> Vec<u8> {
        let mut turned = frame.to_vec();
        turned[..6].copy_from_slice(&frame[6..12]);
        turned[6..12].copy_from_slice(&frame[..6]);
        turned
    }
}

/// The one's complement sum (RFC 1071) over several places, of which each begins at a whole word
/// of what is summed; 0 stands for 0xffff as well.
pub(super) fn total(frame: &[u8], places: &[Place]) -> u32 {
    let mut sum = 0_u64;
    for (begin, end) in places {
        let bytes = frame.get(*begin..*end).unwrap_or_default();
        for pair in bytes.chunks(2) {
            sum += u64::from(pair[0]) << 8 | u64::from(pair.get(1).copied().unwrap_or_default());
        }
    }
    u32::try_from(sum % 0xffff).unwrap_or_default()
}

/// What an SCTP packet's checksum is off by; nothing if there is none.
fn sctp_error(frame: &[u8], (begin, end): Place) -> Option<[u8; 4]> {
    let mut packet = frame[begin..end].to_vec();
    let (_, field) = packet.get_mut(..12)?.split_last_chunk_mut::<4>()?;
    let found = std::mem::take(field);
    let right = crc32c(&packet);
    (found != [0; 4]).then(|| std::array::from_fn(|at| found[at] ^ right[at]))
}

impl View {
    /// Where both addresses are.
    pub(super) const fn addresses(&self) -> Place {
        let (at, length) = addresses(self.family);
        (self.network + at, self.network + at + 2 * length)
    }

    /// Where IPv4's header checksum is.
    pub(super) fn header_checksum(&self) -> Option<usize> {
        (self.family == IpFamily::V4).then_some(self.network + 10)
    }

    /// Where the sum is that covers the addresses and the ports.
    fn checksum(&self, protocol: Protocol) -> Option<usize> {
        match protocol {
            Protocol::Tcp => Some(self.transport + 16),
            Protocol::Udp => Some(self.transport + 6),
            Protocol::Sctp => None,
        }
    }
}

impl Expected {
    /// The frame as it was sent.
    pub(super) fn unchanged(frame: &[u8]) -> Self {
        Self { frame: frame.to_vec(), sums: Vec::new(), sctp: None }
    }

    /// With other addresses, and with other ports where it has some.
    pub(super) fn translated(
        mut self,
        view: &View,
        protocol: Protocol,
        source: SocketAddr,
        destination: SocketAddr,
    ) -> Self {
        self = self.between(view, source.ip(), destination.ip());
        if view.kind == Kind::Later {
            return self;
        }
        let (begin, end) = (view.transport, view.transport + 4);
        self.frame[begin..begin + 2].copy_from_slice(&source.port().to_be_bytes());
        self.frame[begin + 2..end].copy_from_slice(&destination.port().to_be_bytes());
        // In an error, SCTP's stays as it was quoted.
        if protocol == Protocol::Sctp && view.network == NETWORK {
            self.sctp = Some((begin, view.end));
        }
        // An error may quote so little that it is not there.
        if let Some(field) = view.checksum(protocol).filter(|field| field + 2 <= view.end) {
            let covers = vec![view.addresses(), (begin, end), (field, field + 2)];
            self.sums.push(Sum { field, covers, may_lack: protocol == Protocol::Udp });
        }
        self
    }

    /// With other addresses, and with what that does to the header.
    pub(super) fn between(mut self, view: &View, source: IpAddr, destination: IpAddr) -> Self {
        let mut at = view.addresses().0;
        for address in [source, destination] {
            let bytes = match address {
                IpAddr::V4(address) => address.octets().to_vec(),
                IpAddr::V6(address) => address.octets().to_vec(),
            };
            self.frame[at..at + bytes.len()].copy_from_slice(&bytes);
            at += bytes.len();
        }
        if let Some(field) = view.header_checksum() {
            let covers = vec![(view.network, view.transport)];
            self.sums.push(Sum { field, covers, may_lack: false });
        }
        self
    }

    /// With an ICMP error's checksum that covers what has changed.
    pub(super) fn with_error_checksum(mut self, view: &View) -> Self {
        let mut covers = vec![(view.transport, view.end)];
        if view.family == IpFamily::V6 {
            covers.push(view.addresses());
        }
        self.sums.push(Sum { field: view.transport + 2, covers, may_lack: false });
        self
    }

    /// Addressed to this hardware address.
    pub(super) fn addressed(mut self, mac: [u8; 6]) -> Self {
        self.frame[..6].copy_from_slice(&mac);
        self
    }

    /// With a hop less left.
    pub(super) fn aged(mut self, view: &View) -> Self {
        self.frame[view.network + if view.family == IpFamily::V4 { 8 } else { 7 }] -= 1;
        self
    }

    /// With the hardware addresses the other way round.
    pub(super) fn turned(mut self) -> Self {
        self.frame = Run::turned(&self.frame);
        self
    }
}
