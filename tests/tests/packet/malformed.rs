// SPDX-License-Identifier: Apache-2.0

//! Headers that are cut short, contradict themselves, or are longer than anybody's: such packets
//! pass both hooks as they are, for their receivers to throw away.

use anyhow::Result;
use proxy_common::counter::Reason;
use proxy_common::frontend::ServiceIndex;
use proxy_tests::both_families;
use proxy_tests::family::IpFamily;
use proxy_tests::packet::{Fragment, Packet};
use proxy_tests::protocol::Protocol;

use crate::frames::{backend, client, opening, syn, udp, vip, with_extension};
use crate::programs::{At, Verdict};
use crate::rig::{Rig, Tabled};

both_families!(
    frames_of_every_length_pass_or_are_whole,
    network_headers_may_lie,
    transport_headers_may_lie,
    extension_headers_have_a_bound,
);

const ETHERNET: usize = 14;

fn served<F: Tabled>() -> Result<Rig<F>> {
    let mut rig = Rig::<F>::new()?;
    for protocol in Protocol::ALL {
        let _: ServiceIndex = rig.service(vip::<F>(1), protocol, &[backend::<F>(1)])?;
    }
    Ok(rig)
}

fn new<F: Tabled>(protocol: Protocol) -> Packet {
    opening(protocol, client::<F>(12, 40_000), vip::<F>(1))
}

/// A frame must pass both hooks as it is.
#[track_caller]
fn passes<F: Tabled>(rig: &Rig<F>, frame: &[u8]) -> Result<()> {
    for at in [At::Ingress, At::Egress] {
        let outcome = rig.programs.run(at, frame)?;
        assert_eq!(outcome.verdict, Verdict::Pass, "{at:?} {frame:02x?}");
        assert_eq!(outcome.frame, frame, "{at:?}");
    }
    assert_eq!(rig.count(Reason::FlowCreated)?, 0, "{frame:02x?}");
    Ok(())
}

/// The same with other bytes at an offset behind the Ethernet header.
fn with(frame: &[u8], at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    frame[ETHERNET + at..ETHERNET + at + bytes.len()].copy_from_slice(bytes);
    frame
}

const fn header<F: Tabled>() -> usize {
    match F::FAMILY {
        IpFamily::V4 => 20,
        IpFamily::V6 => 40,
    }
}

fn frames_of_every_length_pass_or_are_whole<F: Tabled>() -> Result<()> {
    let rig = served::<F>()?;
    for protocol in Protocol::ALL {
        for packet in [new::<F>(protocol), new::<F>(protocol).with_options()] {
            let frame = packet.build()?;
            // A frame without a whole network header cannot be given to a program here.
            for length in ETHERNET + header::<F>()..frame.len() {
                passes(&rig, &frame[..length])?;
            }
        }
    }
    Ok(())
}

fn network_headers_may_lie<F: Tabled>() -> Result<()> {
    let rig = served::<F>()?;
    for protocol in Protocol::ALL {
        let frame = new::<F>(protocol).build()?;
        let length = u16::try_from(frame.len() - ETHERNET)?;
        match F::FAMILY {
            IpFamily::V4 => {
                // Another version, no header, half a header, a header beyond the packet.
                for first in [0x65, 0x05, 0x40, 0x44, 0x4f] {
                    passes(&rig, &with(&frame, 0, &[first]))?;
                }
                // Shorter than its headers, longer than the frame.
                for length in [1, 19, 20, 27, length + 1, u16::MAX] {
                    passes(&rig, &with(&frame, 2, &length.to_be_bytes()))?;
                }
            }
            IpFamily::V6 => {
                for first in [0x40, 0x00, 0xf0] {
                    passes(&rig, &with(&frame, 0, &[first]))?;
                }
                for length in [1, 7, length - 40 + 1, u16::MAX] {
                    passes(&rig, &with(&frame, 4, &length.to_be_bytes()))?;
                }
            }
        }
    }
    Ok(())
}

fn transport_headers_may_lie<F: Tabled>() -> Result<()> {
    let rig = served::<F>()?;
    let at = header::<F>();
    // TCP's offset, in words in the upper half.
    let frame = new::<F>(Protocol::Tcp).build()?;
    for offset in [0, 1, 4, 6, 15] {
        passes(&rig, &with(&frame, at + 12, &[offset << 4]))?;
    }
    let frame = udp(client::<F>(12, 40_000), vip::<F>(1), b"text").build()?;
    for length in [1_u16, 7, 13, u16::MAX] {
        passes(&rig, &with(&frame, at + 4, &length.to_be_bytes()))?;
    }
    Ok(())
}

fn extension_headers_have_a_bound<F: Tabled>() -> Result<()> {
    let rig = served::<F>()?;
    if F::FAMILY == IpFamily::V4 {
        // The longest header that there can be.
        let mut packet = syn(client::<F>(12, 40_000), vip::<F>(1));
        packet.options = vec![1; 40];
        let expected = packet.clone().to(backend::<F>(1));
        return rig.programs.ingress(&packet)?.is(Verdict::Pass, &expected);
    }
    let frame = syn(client::<F>(12, 40_000), vip::<F>(1)).build()?;
    let extended = |count| (0..count).fold(frame.clone(), |frame, _| with_extension(&frame, 60));
    passes(&rig, &extended(7))?;
    assert_eq!(rig.count(Reason::PassExtensionHeaders)?, 2, "once at each hook");
    // One that is long.
    let long = with(&extended(1), 41, &[8]);
    passes(&rig, &[long, vec![0; 80]].concat())?;
    assert_eq!(rig.count(Reason::PassExtensionHeaders)?, 4);
    // A fragment of a fragment, and one whose header is cut.
    let atomic = Packet {
        fragment: Some(Fragment { offset: 0, more: false }),
        ..syn(client::<F>(12, 40_000), vip::<F>(1))
    }
    .build()?;
    let mut twice = with_extension(&atomic, 60);
    twice[ETHERNET + 6] = 44;
    passes(&rig, &twice)?;
    passes(&rig, &atomic[..ETHERNET + 44])?;
    assert_eq!(rig.count(Reason::PassExtensionHeaders)?, 4);
    let outcome = rig.programs.run(At::Ingress, &extended(6))?;
    assert_ne!(outcome.frame, extended(6));
    Ok(())
}
