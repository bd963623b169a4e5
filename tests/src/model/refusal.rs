// SPDX-License-Identifier: Apache-2.0

//! How a new connection is refused.

use anyhow::{Context as _, Result, ensure};

use super::{Outcome, Verdict};
use crate::family::IpFamily;
use crate::packet::{Content, Icmp, Packet, Tcp, TcpFlags};

/// Expects the answer that refuses `sent`: sent back where it came from,
/// from the address that it was sent to; a RST, or an ICMP port unreachable.
/// A RST itself is never answered.
pub(super) fn expect(sent: &Packet, outcome: &Outcome) -> Result<()> {
    if let Content::Tcp(tcp) = &sent.content
        && tcp.flags.contains(TcpFlags::RST)
    {
        ensure!(outcome.verdict != Verdict::SendBack, "a RST was answered");
        return Ok(());
    }
    let answer = &outcome.packet;
    ensure!(outcome.verdict == Verdict::SendBack, "it should be refused");
    ensure!(answer.source == sent.destination, "the answer is from {}", answer.source);
    ensure!(answer.destination == sent.source, "the answer is to {}", answer.destination);
    ensure!(answer.link == sent.clone().turned().link, "the answer is to {:?}", answer.link);
    ensure!(answer.hop_limit >= 32, "the answer's hop limit is {}", answer.hop_limit);
    // A RST is made of the packet that it answers, and may keep its options.
    let kept = answer.protocol().is_some() && answer.options == sent.options;
    ensure!(kept || answer.options.is_empty(), "the answer has options of its own");
    match (&sent.content, &answer.content) {
        (Content::Tcp(sent), Content::Tcp(answer)) => expect_reset(sent, answer),
        (Content::Udp(_), Content::Icmp(message)) => expect_port_unreachable(sent, message),
        _ => anyhow::bail!("it was answered in another protocol"),
    }
}

/// RFC 9293, 3.10.7.1.
fn expect_reset(sent: &Tcp, answer: &Tcp) -> Result<()> {
    let mut expected = Tcp::new(sent.destination, sent.source, TcpFlags::RST);
    expected.window = answer.window;
    if sent.flags.contains(TcpFlags::ACK) {
        (expected.sequence, expected.acknowledgment) = (sent.acknowledgment, 0);
    } else {
        let counted = [TcpFlags::SYN, TcpFlags::FIN].map(|flag| sent.flags.contains(flag));
        let length = u32::try_from(sent.payload.len()).context("the segment is too long")?;
        let length = counted.into_iter().map(u32::from).sum::<u32>() + length;
        expected.flags = TcpFlags::RST | TcpFlags::ACK;
        (expected.sequence, expected.acknowledgment) = (0, sent.sequence.wrapping_add(length));
    }
    ensure!(*answer == expected, "the RST should be {expected:?}");
    Ok(())
}

fn expect_port_unreachable(sent: &Packet, message: &Icmp) -> Result<()> {
    let family = IpFamily::of(sent.source);
    ensure!(message.is_port_unreachable(family), "it is not a port unreachable");
    ensure!(message.rest == [0; 4], "the four bytes are {:?}", message.rest);
    let original = sent.build_ip()?;
    let least = original.len().min(sent.headers_length() + 8);
    ensure!(original.starts_with(&message.payload), "the quote is not what was sent");
    ensure!(message.payload.len() >= least, "the quote has {} bytes", message.payload.len());
    Ok(())
}

impl Packet {
    /// The length of the IP headers, in bytes.
    fn headers_length(&self) -> usize {
        match IpFamily::of(self.source) {
            IpFamily::V4 => 20 + self.options.len(),
            IpFamily::V6 if self.options.is_empty() => 40,
            IpFamily::V6 => 42 + self.options.len(),
        }
    }
}
