// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The short way of most packets: whole ones without options, of flows that are confirmed, go on, and
//! have just been noted to. They change nothing of their flow. One look-up, one rewrite; the working
//! memory is not touched. What is anything else goes the long way, from its beginning.

use aya_ebpf::{
    bindings::{BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR},
    programs::TcContext,
};
use proxy_common::{
    Protocol,
    clock::PER_SECOND,
    counter::Reason,
    flow::{Flow, FlowKey, Hook, Kind, Seen, Tuple},
    frontend::ServiceIndex,
};

use crate::{
    bridge::{self, Addressee},
    counter::count,
    family::Datapath,
    fast,
    flow::{self, Found},
    frame::{ETHERNET, read},
    passing,
    rewrite::{addresses_difference, carry, ports_difference},
    tcp::{self, TcpHeader},
    work::Work,
};

/// The length of a UDP header, in bytes.
const UDP_HEADER: u32 = 8;
/// Where the checksum is in a header of TCP and of UDP, in bytes.
const TCP_CHECKSUM: usize = 16;
const UDP_CHECKSUM: usize = 6;

/// How far a packet got.
#[repr(u32)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// It goes on, translated if it is of a flow.
    Done,
    /// It has been sent past the host's stack.
    Sent,
    /// It could not be translated, and must go; this has been counted.
    Failed,
    /// It may be the first of a flow; [`Work::key`] is its key.
    New,
    /// It takes the long way.
    Long,
}

/// Translates a packet of a known flow at a hook of a device that leads out of the node, or of one of
/// the node's own, if there is nothing else to do about it. A function of its own, as its stack is.
#[inline(never)]
pub(crate) fn follow<F: Datapath, const EGRESS: bool, const OUTSIDE: bool>(
    context: &TcContext,
    network: usize,
) -> Way {
    let hook = if EGRESS { Hook::EGRESS } else { Hook::INGRESS };
    let may_open = !EGRESS && !OUTSIDE;
    let Some((mut key, flags)) = parse::<F>(context, network, hook) else {
        return Way::Long;
    };
    let opens = key.protocol != Protocol::TCP || flags == tcp::SYN;
    if flags != 0 && !(may_open && opens) {
        return Way::Long;
    }
    let mut entry = F::tables().flows.get_ptr_mut(&key);
    if !EGRESS && fast::is_on() && entry.is_none() && flags == 0 {
        key.hook = Hook::EGRESS;
        let fast = Kind::FAST | Kind::REPLY;
        let is_fast = |flow: &Flow<F>| flow.kind.0 & fast == fast;
        entry = F::tables().flows.get_ptr_mut(&key);
        entry = entry.filter(|entry| is_fast(Found { entry: *entry, confirmed: true }.flow()));
        if entry.is_none() {
            key.hook = hook;
        }
    }
    let Some(entry) = entry else {
        if may_open && opens && bridge::addressee(context) == Addressee::Node {
            return leave_key(&key);
        }
        let passes = !opens && passing::is_known(&key, flow::now(), OUTSIDE);
        return if passes { Way::Done } else { Way::Long };
    };
    if flags != 0 {
        return Way::Long;
    }
    let found = Found { entry, confirmed: true };
    let to = found.flow().to;
    let past = past::<F, EGRESS>(found.flow());
    if !goes_on::<F>(found.flow(), &key) || !found.is(&key) {
        return Way::Long;
    }
    // What a client sends to a neighbour is for it alone.
    if !EGRESS && network >= ETHERNET && bridge::addressee(context) != Addressee::Node {
        return Way::Long;
    }
    if to == key.tuple {
        return Way::Done;
    }
    match (translate(context, network, &key, &to), past) {
        (Way::Done, Some((device, mac))) => send::<F>(context, device, &mac),
        (way, _) => way,
    }
}

/// The device and the MAC address by which packets go on past the host's stack, if they do.
#[inline(always)]
fn past<F: Datapath, const EGRESS: bool>(flow: &Flow<F>) -> Option<(u32, [u8; 6])> {
    if EGRESS || !fast::is_on() || !flow.kind.has(Kind::FAST) {
        None
    } else if flow.kind.has(Kind::REPLY) {
        Some((flow.client_device, flow.client_mac))
    } else {
        Some((flow.device, flow.mac))
    }
}

/// Sends a translated packet past the host's stack.
#[inline(always)]
pub(crate) fn send<F: Datapath>(context: &TcContext, device: u32, mac: &[u8; 6]) -> Way {
    if fast::send(context, device, mac) {
        return Way::Sent;
    }
    count::<F>(Reason::DropRewrite);
    Way::Failed
}

/// Leaves a packet's key to what opens a flow for it.
#[inline(always)]
fn leave_key<F: Datapath>(key: &FlowKey<F>) -> Way {
    match Work::<F>::get() {
        Some(work) => {
            work.key = *key;
            Way::New
        }
        None => Way::Long,
    }
}

/// The key of a packet's flow, if the packet is whole; and those of a segment's flags that begin or
/// end a connection, with the one that tells the two SYNs apart.
#[inline(always)]
fn parse<F: Datapath>(context: &TcContext, network: usize, hook: Hook) -> Option<(FlowKey<F>, u8)> {
    let (protocol, end) = F::brief(context, network)?;
    let transport = network + F::HEADER;
    let mut flags = 0;
    let header = match protocol {
        Protocol::TCP => {
            let header: TcpHeader = read(context, transport)?;
            if header.flags & (tcp::SYN | tcp::FIN | tcp::RST) != 0 {
                flags = header.flags & (tcp::SYN | tcp::FIN | tcp::RST | tcp::ACK);
            }
            let length = u32::from(header.offset >> 4) * 4;
            if length < size_of::<TcpHeader>() as u32 {
                return None;
            }
            length
        }
        Protocol::UDP => {
            let [_, _, length, _]: [u16; 4] = read(context, transport)?;
            let length = u32::from(u16::from_be(length));
            if length < UDP_HEADER {
                return None;
            }
            length
        }
        _ => return None,
    };
    if transport as u32 + header > end || end > context.len() {
        return None;
    }
    // Without options, addresses and ports lie there as they lie in a tuple.
    let tuple: Tuple<F> = read(context, network + F::ADDRESSES)?;
    Some((FlowKey::new(tuple, protocol, hook), flags))
}

/// Whether a flow serves a packet that has nothing new to say of it.
#[inline(always)]
fn goes_on<F: Datapath>(flow: &Flow<F>, key: &FlowKey<F>) -> bool {
    let is_reply = flow.kind.has(Kind::REPLY);
    let seen = Seen(flow.client_seen.0 | flow.backend_seen.0);
    // A time-out is longer than this.
    let is_fresh = flow::now().since(flow.last_seen) < PER_SECOND;
    if !is_fresh
        || seen.has(Seen::RST)
        || flow.kind.has(Kind::HAIRPIN | Kind::SAME_BRIDGE | Kind::DIRECT)
    {
        return false;
    }
    // Each datagram asks whether its flow may stay.
    key.protocol == Protocol::TCP || is_reply || !flow.kind.has(Kind::MASQUERADED) && stays(flow)
}

/// Whether the backend of a flow of datagrams still serves.
#[inline(always)]
fn stays<F: Datapath>(flow: &Flow<F>) -> bool {
    flow.service != ServiceIndex::DIRECT
        && F::tables()
            .backends
            .get(flow.backend.0)
            .is_some_and(|backend| backend.generation == flow.generation)
}

/// Gives a packet of a flow where it leads to.
#[inline(always)]
pub(crate) fn translate<F: Datapath>(
    context: &TcContext,
    network: usize,
    key: &FlowKey<F>,
    to: &Tuple<F>,
) -> Way {
    if rewrite::<F>(context, network, key, to).is_err() {
        count::<F>(Reason::DropRewrite);
        return Way::Failed;
    }
    Way::Done
}

/// Gives a packet other addresses and ports with as few calls of helpers as that takes: see
/// [`rewrite`](crate::rewrite).
#[inline(always)]
fn rewrite<F: Datapath>(
    context: &TcContext,
    network: usize,
    key: &FlowKey<F>,
    to: &Tuple<F>,
) -> Result<(), ()> {
    let from = &key.tuple;
    let (checksum, udp) = if key.protocol == Protocol::TCP {
        (network + F::HEADER + TCP_CHECKSUM, 0)
    } else {
        (network + F::HEADER + UDP_CHECKSUM, u64::from(BPF_F_MARK_MANGLED_0))
    };
    let adjust = |difference: u32, flags| {
        context.l4_csum_replace(checksum, 0, difference.into(), udp | flags).map_err(|_| ())
    };
    let addresses = carry(addresses_difference(from, to));
    F::store_tuple(context, network, to, addresses)?;
    adjust(addresses, BPF_F_PSEUDO_HDR.into())?;
    if from.source_port != to.source_port || from.destination_port != to.destination_port {
        adjust(carry(ports_difference(from, to)), 0)?;
    }
    Ok(())
}
