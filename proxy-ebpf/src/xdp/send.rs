// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Rewriting a frame in its driver, and sending it on. Its checksum is complete, as a network card hands it over:
//! one that is still to be completed (`CHECKSUM_PARTIAL`, between devices that are no hardware) cannot be told from
//! that here.

use aya_ebpf::{
    bindings::xdp_action::{XDP_DROP, XDP_TX},
    helpers::{bpf_redirect, generated::bpf_xdp_adjust_head},
    programs::XdpContext,
};
use proxy_common::{
    Protocol,
    counter::Reason,
    device::{DeviceTraits, Wire},
    flow::{Flow, FlowKey, Kind, Tuple},
    frontend::ServiceIndex,
    ways::Hop,
};

use super::{
    ETHERTYPE, TAG, TAG_LENGTH,
    frame::{is_in_one_buffer, write},
    up,
};
use crate::{
    counter::count,
    family::Datapath,
    flow::now,
    frame::{ETHERNET, Frame, read},
    hops,
    rewrite::{addresses_difference, carry, fold, ports_difference},
    traffic,
    work::Work,
};

/// Where the checksum is in a header of TCP and of UDP, in bytes.
const TCP_CHECKSUM: usize = 16;
const UDP_CHECKSUM: usize = 6;

/// What a step says instead of an action if the packet is to be sent on by [`go_on`].
pub(super) const GOES_ON: u32 = 18;

/// Sends a packet, whose key is [`Work::key`], on as [`Work::flow`] says.
#[inline(never)]
pub(super) fn go_on<F: Datapath>(context: &XdpContext, network: usize) -> u32 {
    let Some(work) = Work::<F>::get() else {
        return up::<F>(Reason::XdpUpFlow);
    };
    let Flow { to, kind, service, device, mac, .. } = &work.flow;
    send(context, network, &work.key, (to, *kind, *service), (*device, mac))
}

/// Gives a packet where it leads to, and sends it on by a device to the next hop with this MAC address.
#[inline(always)]
pub(super) fn send<F: Datapath>(
    context: &XdpContext,
    network: usize,
    key: &FlowKey<F>,
    (to, kind, service): (&Tuple<F>, Kind, ServiceIndex),
    (next, mac): (u32, &[u8; 6]),
) -> u32 {
    let Some(&Hop { own, traits, .. }) = hops::used(next, mac, now()) else {
        return up::<F>(Reason::XdpUpNeighbour);
    };
    let wire = Wire::of_number(next);
    let is_own = wire.device == context.device();
    let is_limited = !is_own && traits.has(DeviceTraits::XDP_ONE_BUFFER);
    if is_limited && !is_in_one_buffer(context) || F::time_to_live(context, network) <= 1 {
        return up::<F>(Reason::XdpUpUnusual);
    }
    let length = context.length();
    let Some(network) = tag(context, network, wire.vlan) else {
        return up::<F>(Reason::XdpUpUnusual);
    };
    if rewrite(context, network, key, to).is_none() {
        return dropped::<F>();
    }
    let [d0, d1, d2, d3, d4, d5] = *mac;
    let [s0, s1, s2, s3, s4, s5] = own;
    if write(context, 0, &[d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5]).is_none() {
        return dropped::<F>();
    }
    count::<F>(Reason::XdpSent);
    traffic::translated::<F>(service, kind, length);
    if is_own {
        return XDP_TX;
    }
    // SAFETY: the helper takes integers.
    unsafe { bpf_redirect(wire.device, 0) as u32 }
}

/// What cannot be, as far as the verifier knows: the headers were read.
#[inline(always)]
fn dropped<F: Datapath>() -> u32 {
    count::<F>(Reason::DropRewrite);
    XDP_DROP
}

/// Gives a frame the tag of this VLAN, or none, in the place of what it has; says where its network header is then.
/// Nothing, and nothing has been changed, if there is no room for a tag. The MAC addresses are left to the caller.
#[inline(always)]
fn tag(context: &XdpContext, network: usize, vlan: u16) -> Option<usize> {
    let is_tagged = network != ETHERNET;
    if vlan == 0 && !is_tagged {
        return Some(network);
    }
    let (shift, network) = match (is_tagged, vlan) {
        (true, 0) => (TAG_LENGTH as i32, network - TAG_LENGTH),
        (true, _) => (0, network),
        (false, _) => (-(TAG_LENGTH as i32), network + TAG_LENGTH),
    };
    // SAFETY: the kernel gives programs a valid context.
    if shift != 0 && unsafe { bpf_xdp_adjust_head(context.ctx, shift) } != 0 {
        return None;
    }
    if vlan != 0 {
        // The priority, of a frame that has one, goes with the former tag.
        write(context, ETHERTYPE, &[TAG.to_be(), vlan.to_be()])?;
    }
    Some(network)
}

/// Gives a packet other addresses and ports. Nothing, and nothing has been changed, if it must not go on.
#[inline(always)]
fn rewrite<F: Datapath>(
    context: &XdpContext,
    network: usize,
    key: &FlowKey<F>,
    to: &Tuple<F>,
) -> Option<()> {
    let from = &key.tuple;
    let is_tcp = key.protocol == Protocol::TCP;
    let at = network + F::HEADER + if is_tcp { TCP_CHECKSUM } else { UDP_CHECKSUM };
    let checksum: u16 = read(context, at)?;
    let addresses = addresses_difference(from, to);
    F::forward(context, network, to, carry(addresses))?;
    // Without a checksum, UDP keeps none; and what becomes zero is written as 0xffff (RFC 768).
    if is_tcp || checksum != 0 {
        let sum = !fold(u64::from(!checksum) + addresses + ports_difference(from, to));
        let sum = if !is_tcp && sum == 0 { u16::MAX } else { sum };
        write(context, at, &sum)?;
    }
    Some(())
}
