// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The BPF programs of Sixfour: entry points, and nothing else.
//!
//! A packet is translated on the device through which its client reaches the node: its
//! destination at that device's ingress, the source of the replies at its egress. Between the two
//! the node sees only clients and backends.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch, core_intrinsics))]
#![cfg_attr(
    target_arch = "bpf",
    expect(internal_features, reason = "the target has no atomic additions elsewhere")
)]
#![expect(
    missing_docs,
    unreachable_pub,
    clippy::needless_pass_by_value,
    reason = "what the classifier macro asks for and generates"
)]
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "sizes and offsets within a packet's headers, and halves of words that are meant"
)]
#![expect(
    clippy::needless_borrows_for_generic_args,
    reason = "keys and values stay in map memory; by value they would be copied to the stack"
)]

mod abort;
mod affinity;
mod atomic;
mod blame;
mod bridge;
mod brief;
mod choice;
mod claim;
mod confirm;
mod counter;
mod crc32c;
mod egress;
mod ending;
mod endless;
mod family;
mod fast;
mod flow;
mod folded;
mod follow;
mod foreign_nat;
mod fragment;
mod frame;
mod guard;
mod hairpin;
mod handshake;
mod hops;
mod icmp_error;
mod ingress;
mod known;
mod leave;
mod load;
mod maps;
mod masquerade;
mod node_socket;
mod open;
mod oust;
mod outset;
mod packet;
mod passing;
mod phase;
mod queue;
mod reject;
mod rewrite;
mod route;
mod sctp;
mod socket;
mod tcp;
mod telling;
mod traffic;
mod unfold;
mod verdict;
mod wire;
mod work;
mod xdp;

use aya_ebpf::{
    macros::{cgroup_sock_addr, classifier, xdp},
    programs::{SockAddrContext, TcContext, XdpContext},
};
use proxy_common::{V4, V6};

use crate::{
    family::Datapath,
    frame::ETHERNET,
    socket::{connect, named, reply, send, tell},
    verdict::Verdict,
};

/// The length of the link header of a device that has none.
const NO_HEADER: usize = 0;

/// Has a frame handled by its family, with its network header at `$network`. A macro, since a function that
/// is handed to another one may become a call of its own, and calls may be nested eight deep at most.
macro_rules! by_family {
    ($context:expr, $module:ident::$run:ident, $network:expr) => {
        match frame::ethertype($context) {
            V4::ETHERTYPE => $module::$run::<V4>($context, $network),
            V6::ETHERTYPE => $module::$run::<V6>($context, $network),
            _ => Verdict::Pass.to_action(),
        }
    };
}

/// At the ingress of a client's device: requests, on their way from the client.
#[classifier]
pub fn sixfour_ingress(context: TcContext) -> i32 {
    by_family!(&context, ingress::run, ETHERNET)
}

/// At the egress of a client's device: replies, on their way to the client.
#[classifier]
pub fn sixfour_egress(context: TcContext) -> i32 {
    by_family!(&context, egress::run, ETHERNET)
}

/// At the ingress of uplinks and tunnels: requests from outside, and answers to what left there.
#[classifier]
pub fn sixfour_up_in(context: TcContext) -> i32 {
    by_family!(&context, ingress::from_outside, ETHERNET)
}

/// At the egress of uplinks and tunnels: replies to outside, and what is masqueraded or held back.
#[classifier]
pub fn sixfour_up_out(context: TcContext) -> i32 {
    by_family!(&context, leave::run, ETHERNET)
}

/// [`sixfour_ingress`], where frames have no Ethernet header.
#[classifier]
pub fn sixfour_l3_in(context: TcContext) -> i32 {
    by_family!(&context, ingress::run, NO_HEADER)
}

/// [`sixfour_egress`], where frames have no Ethernet header.
#[classifier]
pub fn sixfour_l3_out(context: TcContext) -> i32 {
    by_family!(&context, egress::run, NO_HEADER)
}

/// [`sixfour_up_in`], where frames have no Ethernet header.
#[classifier]
pub fn sixfour_l3upin(context: TcContext) -> i32 {
    by_family!(&context, ingress::from_outside, NO_HEADER)
}

/// [`sixfour_up_out`], where frames have no Ethernet header.
#[classifier]
pub fn sixfour_l3upout(context: TcContext) -> i32 {
    by_family!(&context, leave::run, NO_HEADER)
}

/// In the driver of an uplink.
#[xdp(frags)]
pub fn sixfour_xdp(context: XdpContext) -> u32 {
    crate::xdp::run(&context)
}

/// Behind a driver, where the kernel can make one buffer of each frame. For a program that takes several, it copies most
/// frames instead (Linux 6.9 and later), and the programs of the stack see the copies without their Ethernet headers.
#[xdp]
pub fn sixfour_xdp_skb(context: XdpContext) -> u32 {
    crate::xdp::run(&context)
}

/// Where an IPv4 socket is about to connect.
#[cgroup_sock_addr(connect4)]
pub fn sixfour_conn4(context: SockAddrContext) -> i32 {
    connect::run::<V4, V4>(&context)
}

/// Where an IPv6 socket is about to connect.
#[cgroup_sock_addr(connect6)]
pub fn sixfour_conn6(context: SockAddrContext) -> i32 {
    by_form(&context, connect::run::<V6, V4>, connect::run::<V6, V6>)
}

/// Where an IPv4 datagram is about to go.
#[cgroup_sock_addr(sendmsg4)]
pub fn sixfour_send4(context: SockAddrContext) -> i32 {
    send::run::<V4, V4>(&context)
}

/// Where an IPv6 datagram is about to go. A socket's datagrams to mapped addresses are IPv4's.
#[cgroup_sock_addr(sendmsg6)]
pub fn sixfour_send6(context: SockAddrContext) -> i32 {
    send::run::<V6, V6>(&context)
}

/// Where a datagram of an IPv4 socket has come from.
#[cgroup_sock_addr(recvmsg4)]
pub fn sixfour_recv4(context: SockAddrContext) -> i32 {
    reply::source::<V4>(&context)
}

/// Where a datagram of an IPv6 socket has come from.
#[cgroup_sock_addr(recvmsg6)]
pub fn sixfour_recv6(context: SockAddrContext) -> i32 {
    reply::source::<V6>(&context)
}

/// Whom an IPv4 socket is connected to.
#[cgroup_sock_addr(getpeername4)]
pub fn sixfour_peer4(context: SockAddrContext) -> i32 {
    reply::peer::<V4>(&context)
}

/// Whom an IPv6 socket is connected to.
#[cgroup_sock_addr(getpeername6)]
pub fn sixfour_peer6(context: SockAddrContext) -> i32 {
    reply::peer::<V6>(&context)
}

/// What a UDP socket was given.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/udp")]
pub extern "C" fn sixfour_udp(context: *const tell::UdpSocket) -> i32 {
    tell::run(context)
}

/// Has an address that an IPv6 socket names handled by its family.
#[inline(always)]
fn by_form(
    context: &SockAddrContext,
    mapped: impl Fn(&SockAddrContext) -> i32,
    native: impl Fn(&SockAddrContext) -> i32,
) -> i32 {
    if named::<V6>(context).address.is_mapped() { mapped(context) } else { native(context) }
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[cfg(not(target_arch = "bpf"))]
fn main() {}

/// The verifier rejects a program in which this can be reached.
#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}
