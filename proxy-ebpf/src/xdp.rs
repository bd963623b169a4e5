// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Flows of clients outside to backends elsewhere, in the driver of the uplink by which their packets come: before
//! the kernel has made a socket buffer of a frame, it has left again.
//!
//! What is done here is what most packets of [folded](crate::folded) flows need, and opening these: whole segments
//! and datagrams without options. Everything else goes up untouched to the programs of the host's stack, which know
//! the same flows, and is counted. The stack also gets a packet for each next hop about once a second: the kernel
//! asks a neighbour that has been silent whether it is still there if it sends to it, and not if a driver does.

pub(crate) mod frame;
mod keep;
mod known;
mod open;
mod send;

use aya_ebpf::{bindings::xdp_action::XDP_PASS, programs::XdpContext};
use proxy_common::{V4, V6, counter::Reason};

use crate::{
    counter::count,
    family::Datapath,
    frame::{ETHERNET, read},
};

/// Where the Ethernet type is in a frame.
const ETHERTYPE: usize = 12;

/// The Ethernet type of a tag (IEEE 802.1Q), its length in bytes, and the bits of it that name the VLAN.
const TAG: u16 = 0x8100;
const TAG_LENGTH: usize = 4;
const VLAN: u16 = 0x0fff;

/// Handles a frame in its driver.
#[inline(always)]
pub(crate) fn run(context: &XdpContext) -> u32 {
    match ethertype(context, ETHERTYPE) {
        Some(V4::ETHERTYPE) => handle::<V4>(context, ETHERNET, 0),
        Some(V6::ETHERTYPE) => handle::<V6>(context, ETHERNET, 0),
        Some(TAG) => run_tagged(context),
        _ => XDP_PASS,
    }
}

/// Handles a frame with a VLAN's tag, and no other: it comes to the VLAN's own device.
#[inline(always)]
fn run_tagged(context: &XdpContext) -> u32 {
    const NETWORK: usize = ETHERNET + TAG_LENGTH;
    let Some(vlan) = read::<u16, _>(context, ETHERNET).map(|tag| u16::from_be(tag) & VLAN) else {
        return XDP_PASS;
    };
    match ethertype(context, ETHERTYPE + TAG_LENGTH) {
        // Without a VLAN, the tag has a priority alone.
        _ if vlan == 0 => XDP_PASS,
        Some(V4::ETHERTYPE) => handle::<V4>(context, NETWORK, vlan),
        Some(V6::ETHERTYPE) => handle::<V6>(context, NETWORK, vlan),
        _ => XDP_PASS,
    }
}

#[inline(always)]
fn ethertype(context: &XdpContext, at: usize) -> Option<u16> {
    read::<u16, _>(context, at).map(u16::from_be)
}

/// Handles a packet of a family, one step after the other, as the stack of each has no room for the next: Linux 6.1
/// rounds what each function takes of it up to 32 bytes, newer kernels to 16.
#[inline(always)]
fn handle<F: Datapath>(context: &XdpContext, network: usize, vlan: u16) -> u32 {
    let action = match known::follow::<F>(context, network, vlan) {
        known::MAY_OPEN => match open::open::<F>(context, network) {
            open::OPENED => open::opened::<F>(),
            action => action,
        },
        known::HAS_TO_TELL => keep::go_on::<F>(context, network),
        action => action,
    };
    if action == send::GOES_ON { send::go_on::<F>(context, network) } else { action }
}

/// Leaves a frame to the host's stack, for a reason.
#[inline(always)]
fn up<F: Datapath>(reason: Reason) -> u32 {
    count::<F>(reason);
    XDP_PASS
}
