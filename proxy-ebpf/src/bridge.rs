// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Bridge ports: which frames are for the node, and backends on the client's own bridge.
//!
//! A request to a backend on the client's own bridge gets the backend's MAC address, so that it
//! is switched as its replies are. Routed, it would make an ICMP redirect, and netfilter would see
//! one direction of a connection only.

use core::mem;

use aya_ebpf::{bindings::bpf_fib_lookup, programs::TcContext};
use proxy_common::{Protocol, flow::Tuple};

use crate::{
    family::Datapath,
    frame::{
        self, PACKET_BROADCAST, PACKET_HOST, PACKET_MULTICAST, PACKET_OTHERHOST, device,
        packet_type,
    },
    maps::DEVICES,
    route::{self, Ends, Route},
};

/// Whom a frame from a client is addressed to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Addressee {
    /// The node, which would route it.
    Node,
    /// A neighbour of the client's.
    Neighbour,
    /// A group.
    Group,
    /// Nobody who could be reached from here.
    Nobody,
}

/// Whom a frame is addressed to. On a bridge port the node has the bridge's MAC address, not the
/// port's.
#[inline(always)]
pub(crate) fn addressee(context: &TcContext) -> Addressee {
    match packet_type(context) {
        PACKET_HOST => Addressee::Node,
        PACKET_OTHERHOST => {
            // SAFETY: a device's entry is replaced, not changed, and rarely.
            let port = unsafe { DEVICES.get(device(context)) };
            let destination: Option<[u8; 6]> = frame::read(context, 0);
            match (port, destination) {
                (Some(port), Some(mac)) if port.bridge != 0 && port.mac == mac => Addressee::Node,
                (Some(port), _) if port.bridge != 0 => Addressee::Neighbour,
                _ => Addressee::Nobody,
            }
        }
        PACKET_BROADCAST | PACKET_MULTICAST => Addressee::Group,
        _ => Addressee::Nobody,
    }
}

/// Finds the MAC address of a flow's backend, if it is on the bridge that the frame's device is a
/// port of, and if the node knows it.
#[inline(never)]
pub(crate) fn neighbour<F: Datapath>(
    context: &TcContext,
    protocol: Protocol,
    to: &Tuple<F>,
    mac: &mut [u8; 6],
) -> bool {
    // SAFETY: a device's entry is replaced, not changed, and rarely.
    let bridge = match unsafe { DEVICES.get(device(context)) } {
        Some(device) if device.bridge != 0 => device.bridge,
        _ => return false,
    };
    // SAFETY: all zero is a valid value of this structure of integers.
    let mut way: bpf_fib_lookup = unsafe { mem::zeroed() };
    let route = route::ask::<F>(context, &mut way, bridge, Ends::of(protocol, to), 0);
    // Behind a router, which the look-up would have put into the destination's place, is not on
    // the bridge.
    if route != Route::Known
        || way.ifindex != bridge
        || way.family != F::ADDRESS_FAMILY
        || F::next_hop(&way) != to.destination
    {
        return false;
    }
    *mac = way.dmac;
    true
}
