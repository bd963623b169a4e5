// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What differs between the families. Everything else in this crate is generic over [`Datapath`].

mod v4;
mod v6;

use aya_ebpf::{
    bindings::bpf_fib_lookup,
    programs::{SockAddrContext, TcContext, XdpContext},
};
use aya_log_ebpf::macro_support::{Argument, IpFormatter};
use proxy_common::{Address, Family, Protocol, flow::Tuple};

use crate::{frame::Frame, maps::Tables, packet::Packet, rewrite::replace_header_checksum};

/// What kind of message an ICMP type stands for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Message {
    /// An error about a packet, which it quotes.
    Error,
    /// A question that an answer is waited for, or the answer.
    Query,
    /// Anything else: redirects, neighbour discovery, and what nobody has heard of.
    Control,
}

/// A family's own part of the datapath.
pub(crate) trait Datapath:
    crate::phase::Phases + Family<Addr: Address<Octets: Argument + IpFormatter>>
{
    /// The Ethernet type.
    const ETHERTYPE: u16;
    /// Where the source address begins in the header, in bytes; the destination address follows it.
    const ADDRESSES: usize;
    /// Flags for storing addresses: where no header checksum balances a change of them, a
    /// complete checksum of the frame (`CHECKSUM_COMPLETE`) must follow it.
    const STORE_ADDRESSES: u64;
    /// Flags of `bpf_fib_lookup` for the address family (`AF_INET` and so on).
    const ADDRESS_FAMILY: u8;
    /// The length of a network header without options, in bytes.
    const HEADER: usize;

    /// Where the header has a checksum of its own, in bytes from its beginning.
    const HEADER_CHECKSUM: Option<usize>;
    /// The family's ICMP.
    const ICMP: Protocol;
    /// Whether ICMP's checksum covers a pseudo header.
    const ICMP_PSEUDO_HEADER: bool;

    /// The tables of the family.
    fn tables() -> Tables<Self>;

    /// Reads the network header at `network`: addresses, protocol, where what follows begins and
    /// ends, and which fragment it is. Nothing for what is not to be touched: malformed packets,
    /// authenticated packets, and IPv6 packets that have segments left to visit. IPv4's options
    /// are skipped: where Linux honours source routes at all, it was told to.
    fn parse(packet: &mut Packet<Self>, context: &TcContext, network: usize) -> Option<()>;

    /// The protocol of a whole packet without options or extension headers whose header is at
    /// `network`, and where it ends, in bytes from the beginning of the frame. Nothing for others.
    fn brief(context: &impl Frame, network: usize) -> Option<(Protocol, u32)>;

    /// How many hops a packet has left, this one included; none if its header cannot be read.
    fn time_to_live(context: &impl Frame, network: usize) -> u8;

    /// Takes a hop from a packet that has one.
    fn age(context: &TcContext, network: usize) -> Result<(), ()>;

    /// Forwards a whole packet without options in its driver: stores other addresses and ports, whose change of the
    /// addresses is `difference`, and takes a hop from it. The checksum behind the header is left to the caller.
    /// Nothing, and nothing has been changed, if that was its last.
    fn forward(
        context: &XdpContext,
        network: usize,
        to: &Tuple<Self>,
        difference: u32,
    ) -> Option<()>;

    /// Stores other addresses and ports in such a packet, whose change of the addresses is
    /// `difference`. The checksum behind the header is left to the caller.
    fn store_tuple(
        context: &TcContext,
        network: usize,
        to: &Tuple<Self>,
        difference: u32,
    ) -> Result<(), ()>;

    /// The protocol by which all fragments of a packet name it.
    fn fragment_protocol(protocol: Protocol) -> Protocol;

    /// What an ICMP type stands for.
    fn message(kind: u8) -> Message;

    /// Adds a change of the header's words to its checksum, if it has one.
    #[inline(always)]
    fn adjust_header_checksum(
        context: &TcContext,
        network: usize,
        difference: u32,
    ) -> Result<(), ()> {
        match Self::HEADER_CHECKSUM {
            Some(at) => replace_header_checksum(context, network + at, 0, difference, 0),
            None => Ok(()),
        }
    }

    /// Makes the network header that of a packet of the node's own with this much after it (in
    /// bytes): the length, a fresh time to live, and no fragment.
    fn renew_header(context: &TcContext, packet: &Packet<Self>, payload: u16) -> Result<(), ()>;

    /// The sum over the pseudo header (RFC 9293 section 3.1, RFC 8200 section 8.1), not folded.
    fn pseudo_header_sum(
        source: &Self::Addr,
        destination: &Self::Addr,
        protocol: Protocol,
        length: u16,
    ) -> u64 {
        let mut sum = u64::from(length.to_be()) + u64::from(u16::from(protocol.number()).to_be());
        for word in source.words() {
            sum += u64::from(*word);
        }
        for word in destination.words() {
            sum += u64::from(*word);
        }
        sum
    }

    /// Writes the headers of a port unreachable error, network and ICMP, at `network`. `quoted` is
    /// what follows, in bytes, and `sum` the sum over it.
    fn write_unreachable(
        context: &TcContext,
        network: usize,
        source: &Self::Addr,
        destination: &Self::Addr,
        quoted: u16,
        sum: u64,
    ) -> Result<(), ()>;

    /// The next hop that a look-up of a route has found: the destination itself if it is on the
    /// link.
    fn next_hop(route: &bpf_fib_lookup) -> Self::Addr;

    /// Puts addresses into the parameters of a look-up of a route.
    fn set_route(route: &mut bpf_fib_lookup, source: &Self::Addr, destination: &Self::Addr);

    /// The address that a process has named, or is about to be told, at a hook of this family.
    fn named(context: &SockAddrContext) -> Self::Addr;

    /// Puts another address in its place.
    fn rename(context: &SockAddrContext, address: &Self::Addr);
}
