// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! A pod that is its own backend: its packets turn around at its device.
//!
//! They must not go up the stack: a bridge does not send a frame back out of the port that it came
//! by, and the host would take a packet from its own address for a martian. The pod sees the
//! host's address as the client, or it would answer itself directly.

use aya_ebpf::{helpers::generated::bpf_redirect, programs::TcContext};

use crate::{family::Datapath, frame, packet::Packet, verdict::Verdict};

/// The flags of `bpf_redirect` for a frame that leaves by its device.
pub(crate) const OUT: u64 = 0;

/// Sends a frame back out of the device that it came by.
#[inline(always)]
pub(crate) fn turn_around<F: Datapath>(
    context: &TcContext,
    packet: &Packet<F>,
) -> Result<Verdict, ()> {
    if packet.has_link_header() {
        frame::swap_mac_addresses(context)?;
    }
    Ok(send_back(context, OUT))
}

/// Sends a frame, as it is, through its device again, in the direction that `flags` of
/// `bpf_redirect` say.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "an action of the kernel's")]
pub(crate) fn send_back(context: &TcContext, flags: u64) -> Verdict {
    // SAFETY: the helper takes integers.
    Verdict::Redirect(unsafe { bpf_redirect(frame::device(context), flags) } as i32)
}
