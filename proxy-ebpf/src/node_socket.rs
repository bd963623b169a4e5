// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Sockets of the node's own at addresses that are frontends.
//!
//! A load balancer's address can be the node's. Connections that processes have there already, or make
//! from a port that is a Service's, are none of the Service's: kube-proxy translates new ones only.

use aya_ebpf::{
    bindings::BPF_F_CURRENT_NETNS,
    helpers::{bpf_sk_release, bpf_skc_lookup_tcp},
    programs::TcContext,
};
use proxy_common::flow::Tuple;

use crate::{family::Datapath, packet::Packet};

/// `BPF_TCP_LISTEN`.
const LISTENS: u32 = 10;

/// Whether the node has a socket for the connection that a packet belongs to. Of TCP: those of SCTP cannot
/// be looked up.
#[inline(never)]
pub(crate) fn exists<F: Datapath>(context: &TcContext, packet: &mut Packet<F>) -> bool {
    if !packet.is_tcp() {
        return false;
    }
    let tuple: *mut Tuple<F> = &raw mut packet.tuple;
    let (size, netns) = (size_of::<Tuple<F>>() as u32, BPF_F_CURRENT_NETNS as u64);
    // SAFETY: a tuple is laid out as `struct bpf_sock_tuple` is for its family, by whose size the
    // kernel tells the two; the socket is there until it is released.
    unsafe {
        let socket = bpf_skc_lookup_tcp(context.skb.skb.cast(), tuple.cast(), size, netns, 0);
        if socket.is_null() {
            return false;
        }
        let state = (*socket).state;
        let _: i64 = bpf_sk_release(socket.cast());
        state != LISTENS
    }
}
