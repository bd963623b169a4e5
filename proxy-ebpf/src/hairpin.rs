// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! A pod that is its own backend: its packets turn around at its device.
//!
//! They must not go up the stack: a bridge does not send a frame back out of the port that it came
//! by, and the host would take a packet from its own address for a martian. The pod sees the
//! host's address as the client, or it would answer itself directly.

use core::ptr;

use aya_ebpf::{
    bindings::BPF_F_INGRESS,
    helpers::generated::{bpf_redirect, bpf_redirect_neigh},
    programs::TcContext,
};

use crate::{family::Datapath, frame, packet::Packet, verdict::Verdict};

/// The way back to who has sent a packet.
#[repr(u32)]
#[derive(Clone, Copy)]
pub(crate) enum Back {
    /// Out of the frame's device.
    Out,
    /// In by the frame's device: the sender is the node, or behind it.
    In,
    /// By the node's routes, over the device with this index.
    Route(u32),
}

/// Sends a frame back out of the device that it came by.
#[inline(always)]
pub(crate) fn turn_around<F: Datapath>(
    context: &TcContext,
    packet: &Packet<F>,
) -> Result<Verdict, ()> {
    if packet.has_link_header() {
        frame::swap_mac_addresses(context)?;
    }
    Ok(send_back(context, Back::Out))
}

/// Sends a frame back, as it is.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "an action of the kernel's")]
pub(crate) fn send_back(context: &TcContext, back: Back) -> Verdict {
    let device = frame::device(context);
    // SAFETY: the helpers take integers; without parameters, the second looks the route up.
    let action = unsafe {
        match back {
            Back::Out => bpf_redirect(device, 0),
            Back::In => bpf_redirect(device, BPF_F_INGRESS.into()),
            Back::Route(by) => bpf_redirect_neigh(by, ptr::null_mut(), 0, 0),
        }
    };
    Verdict::Redirect(action as i32)
}
