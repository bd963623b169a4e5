// SPDX-License-Identifier: Apache-2.0

//! Frames that are damaged: what was wrong stays wrong by the same amount, or passes untouched.

use anyhow::Result;
use proxy_tests::both_families;
use proxy_tests::family::{IpFamily, TestFamily};
use proxy_tests::model::{Hook, Verdict};
use proxy_tests::packet::{Content, Packet};
use proxy_tests::protocol::Protocol;

use crate::{backend, client, frontend, model};

both_families!(
    a_wrong_checksum_stays_wrong,
    a_missing_checksum_stays_missing,
    padding_stays,
    what_is_cut_short_passes,
);

/// A datagram, and what it becomes.
fn datagram<F: TestFamily>() -> Packet {
    Packet::udp(client::<F>(1), frontend::<F>(1), b"text")
}

/// Where the checksum of a datagram is.
const fn checksum<F: TestFamily>() -> usize {
    match F::FAMILY {
        IpFamily::V4 => 14 + 20 + 6,
        IpFamily::V6 => 14 + 40 + 6,
    }
}

fn is_right<F: TestFamily>(sent: &[u8], frame: &[u8]) -> bool {
    model::<F>().judge(Hook::Ingress, sent, Verdict::Pass, frame).is_ok()
}

fn a_wrong_checksum_stays_wrong<F: TestFamily>() -> Result<()> {
    let (mut sent, right) = (datagram::<F>().build()?, datagram::<F>().to(backend::<F>(12)));
    let mut frame = right.build()?;
    assert!(is_right::<F>(&sent, &frame));
    // One bit of what it carries.
    let last = sent.len() - 1;
    sent[last] ^= 1;
    assert!(!is_right::<F>(&sent, &frame), "mended");
    frame[last] ^= 1;
    assert!(is_right::<F>(&sent, &frame));
    frame[checksum::<F>()] ^= 1;
    assert!(!is_right::<F>(&sent, &frame), "wrong by another amount");
    Ok(())
}

fn a_missing_checksum_stays_missing<F: TestFamily>() -> Result<()> {
    let at = checksum::<F>();
    let (mut sent, mut frame) =
        (datagram::<F>().build()?, datagram::<F>().to(backend::<F>(12)).build()?);
    sent[at..at + 2].fill(0);
    assert!(!is_right::<F>(&sent, &frame), "it had none");
    frame[at..at + 2].fill(0);
    assert!(is_right::<F>(&sent, &frame));
    Ok(())
}

fn padding_stays<F: TestFamily>() -> Result<()> {
    let (mut sent, mut frame) =
        (datagram::<F>().build()?, datagram::<F>().to(backend::<F>(12)).build()?);
    sent.extend([7; 5]);
    assert!(!is_right::<F>(&sent, &frame), "cut");
    frame.extend([7, 7, 7, 7, 6]);
    assert!(!is_right::<F>(&sent, &frame), "changed");
    let last = frame.len() - 1;
    frame[last] = 7;
    assert!(is_right::<F>(&sent, &frame));
    Ok(())
}

fn what_is_cut_short_passes<F: TestFamily>() -> Result<()> {
    for protocol in Protocol::ALL {
        let mut packet = Packet::opening(protocol, client::<F>(1), frontend::<F>(1));
        if let Content::Udp(udp) = &mut packet.content {
            udp.payload.clear();
        }
        let frame = packet.build()?;
        for length in 34..frame.len() {
            assert!(is_right::<F>(&frame[..length], &frame[..length]), "{length} bytes");
        }
        assert!(!is_right::<F>(&frame, &frame));
    }
    Ok(())
}
