// SPDX-License-Identifier: Apache-2.0

//! How a packet is refused: sent back where it came from, from the address that it was sent to; a
//! RST (RFC 9293, 3.10.7.1), an ABORT (RFC 9260, 8.4), or an ICMP port unreachable (RFC 792, RFC
//! 4443).

use anyhow::{Context as _, Result, ensure};

use super::expect::total;
use super::frame::{NETWORK, View, number};
use super::segment::Segment;
use super::{Model, Run, Verdict};
use crate::family::IpFamily;
use crate::packet::crc32c;

/// The least hop limit that an answer may begin with.
const HOP_LIMIT: u8 = 32;
const RST: u8 = 4;
const ACK: u8 = 16;

impl Model {
    /// Expects the answer that refuses a packet.
    #[expect(clippy::unused_self, reason = "as all other rules")]
    pub(super) fn expect_refusal(&self, view: &View, run: &Run<'_>) -> Result<()> {
        ensure!(run.verdict == Verdict::SendBack, "it should be refused");
        match view.segment {
            Some(segment) => match segment.chunk {
                Some(chunk) => expect_abort(view, segment, chunk, run),
                None => expect_reset(view, segment, run),
            },
            None => expect_unreachable(view, run),
        }
    }
}

fn set(frame: &mut [u8], at: usize, bytes: &[u8]) {
    frame[at..at + bytes.len()].copy_from_slice(bytes);
}

/// Takes over what an answer may choose.
fn take(wanted: &mut [u8], run: &Run<'_>, at: usize, length: usize) {
    wanted[at..at + length].copy_from_slice(&run.frame[at..at + length]);
}

/// The packet itself, turned around and cut to so many bytes of transport: network header and
/// extension headers stay.
fn turned(view: &View, run: &Run<'_>, length: usize) -> Result<Vec<u8>> {
    let (at, network) = (view.transport, view.network);
    let end = at + length;
    ensure!(run.frame.len() == end, "the answer has {} bytes", run.frame.len());
    let mut wanted = Run::turned(&run.sent[..end]);
    turn_addresses(view, run, &mut wanted);
    let hop_limit = match view.family {
        IpFamily::V4 => {
            set(&mut wanted, network + 2, &u16::try_from(end - network)?.to_be_bytes());
            // No fragment, however the packet came.
            wanted[network + 6] &= 0x40;
            wanted[network + 7] = 0;
            take(&mut wanted, run, network + 10, 2);
            let header = [(network, at)];
            let (before, after) = (total(run.sent, &header), total(run.frame, &header));
            ensure!(before == after, "the header checksum was off by {before:#x}, is {after:#x}");
            network + 8
        }
        IpFamily::V6 => {
            set(&mut wanted, network + 4, &u16::try_from(end - network - 40)?.to_be_bytes());
            if let Some(fragment) = view.fragment_header {
                set(&mut wanted, fragment + 2, &[0; 2]);
            }
            network + 7
        }
    };
    ensure!(run.frame[hop_limit] >= HOP_LIMIT, "the hop limit is {}", run.frame[hop_limit]);
    take(&mut wanted, run, hop_limit, 1);
    set(&mut wanted, at, &run.sent[at + 2..at + 4]);
    set(&mut wanted, at + 2, &run.sent[at..at + 2]);
    Ok(wanted)
}

/// One chunk, with the tag that is asked for or reflected.
fn expect_abort(view: &View, sent: Segment, chunk: u8, run: &Run<'_>) -> Result<()> {
    const ABORT: u8 = 6;
    const SHUTDOWN_ACK: u8 = 8;
    const SHUTDOWN_COMPLETE: u8 = 14;
    let at = view.transport;
    let mut wanted = turned(view, run, 16)?;
    let (tag, reflected) = if sent.opens() { (sent.sequence, 0) } else { (sent.acknowledgment, 1) };
    let answer = if chunk == SHUTDOWN_ACK { SHUTDOWN_COMPLETE } else { ABORT };
    set(&mut wanted, at + 4, &tag.to_be_bytes());
    set(&mut wanted, at + 8, &[0, 0, 0, 0, answer, reflected, 0, 4]);
    let sum = crc32c(&wanted[at..]);
    set(&mut wanted, at + 8, &sum);
    ensure!(run.frame == wanted, "the answer should be {wanted:02x?}");
    Ok(())
}

fn expect_reset(view: &View, sent: Segment, run: &Run<'_>) -> Result<()> {
    let at = view.transport;
    let mut wanted = turned(view, run, 20)?;
    let (sequence, acknowledgment, flags) = if sent.is_ack() {
        (sent.acknowledgment, 0, RST)
    } else {
        let data = view.end.saturating_sub(at + sent.header);
        let taken = u32::try_from(data)? + u32::from(sent.is_syn()) + u32::from(sent.is_fin());
        (0, sent.sequence.wrapping_add(taken), RST | ACK)
    };
    set(&mut wanted, at + 4, &sequence.to_be_bytes());
    set(&mut wanted, at + 8, &acknowledgment.to_be_bytes());
    set(&mut wanted, at + 12, &[5 << 4, flags]);
    take(&mut wanted, run, at + 14, 4);
    set(&mut wanted, at + 18, &[0; 2]);
    ensure!(run.frame == wanted, "the RST should be {wanted:02x?}");
    let sum = total(run.frame, &[view.addresses(), (at, at + 20)]) + 6 + 20;
    ensure!(sum.is_multiple_of(0xffff), "the RST's checksum is wrong, by {sum:#x}");
    Ok(())
}

fn turn_addresses(view: &View, run: &Run<'_>, wanted: &mut [u8]) {
    let (begin, end) = view.addresses();
    let middle = usize::midpoint(begin, end);
    set(wanted, begin, &run.sent[middle..end]);
    set(wanted, middle, &run.sent[begin..middle]);
}

/// An error that quotes the packet.
fn expect_unreachable(view: &View, run: &Run<'_>) -> Result<()> {
    let frame = run.frame;
    let (header, protocol, kind) = match view.family {
        IpFamily::V4 => (20, 1, [3, 3]),
        IpFamily::V6 => (40, 58, [1, 4]),
    };
    let message = NETWORK + header;
    ensure!(frame.len() >= message + 8, "the answer has {} bytes", frame.len());
    ensure!(frame[..NETWORK] == Run::turned(run.sent)[..NETWORK], "the answer is to another");
    let mut wanted = frame.to_vec();
    let packet = view.addresses();
    // The header of the answer has no options, so its addresses are where the packet's are.
    turn_addresses(view, run, &mut wanted);
    ensure!(
        frame[packet.0..packet.1] == wanted[packet.0..packet.1],
        "the answer is between others"
    );
    let (length, hop_limit, next) = match view.family {
        IpFamily::V4 => {
            ensure!(frame[NETWORK] == 0x45, "the answer has options of its own");
            let place = number(frame, NETWORK + 6).context("no header")?;
            ensure!(place & 0xbfff == 0, "the answer is a fragment");
            let sum = total(frame, &[(NETWORK, message)]);
            ensure!(sum == 0, "the answer's header checksum is wrong, by {sum:#x}");
            (frame.len() - NETWORK, frame[NETWORK + 8], frame[NETWORK + 9])
        }
        IpFamily::V6 => {
            ensure!(frame[NETWORK] >> 4 == 6, "the answer is of another version");
            (frame.len() - message, frame[NETWORK + 7], frame[NETWORK + 6])
        }
    };
    let told = number(frame, NETWORK + if header == 20 { 2 } else { 4 });
    ensure!(told == u16::try_from(length).ok(), "the answer's length is {told:?}");
    ensure!(hop_limit >= HOP_LIMIT, "the answer's hop limit is {hop_limit}");
    ensure!(next == protocol && frame[message..message + 2] == kind, "it is no port unreachable");
    ensure!(frame[message + 4..message + 8] == [0; 4], "the four bytes are not zero");
    let mut sum = total(frame, &[(message, frame.len())]);
    if view.family == IpFamily::V6 {
        sum += total(frame, &[packet]) + u32::from(protocol);
        sum += u32::try_from(frame.len() - message)?;
    }
    ensure!(sum.is_multiple_of(0xffff), "the answer's checksum is wrong, by {sum:#x}");
    let (quote, original) = (&frame[message + 8..], &run.sent[NETWORK..view.end]);
    let least = original.len().min(view.transport - NETWORK + 8);
    ensure!(original.starts_with(quote), "the quote is not what was sent");
    ensure!(quote.len() >= least, "the quote has {} bytes", quote.len());
    Ok(())
}
