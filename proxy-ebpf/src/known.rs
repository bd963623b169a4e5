// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The short way of most packets: whole ones without options, of flows that are confirmed, go on, and
//! have just been noted to. They change nothing of their flow, but for a FIN, which takes a second look-up.
//! One look-up, one rewrite; the working memory gets no more than a key. It says of those that open flows, or
//! are amid connections of none ([`outset`](crate::outset)), and of those that may confirm one
//! ([`handshake`]). What is anything else goes the long way, from its beginning.

use aya_ebpf::programs::TcContext;
use proxy_common::{
    Protocol,
    clock::PER_SECOND,
    counter::Reason,
    flow::{Flow, FlowKey, Hook, Kind, Seen, Tuple},
    frontend::ServiceIndex,
};

use crate::{
    bridge::{self, Addressee},
    brief, choice,
    counter::count,
    ending,
    family::Datapath,
    fast,
    flow::{self, Found},
    frame::{ETHERNET, mark_request},
    handshake, outset, passing,
    rewrite::rewrite_whole,
    tcp, traffic,
    verdict::Verdict,
    work::Work,
};

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
    /// The same, and a flow that has ended has this key.
    Again,
    /// It is amid a connection that may be nothing of ours; [`Work::key`] is its key.
    Amid,
    /// It may be the second or third of a TCP connection; [`Work::key`] is its key.
    Handshake,
    /// It takes the long way.
    Long,
}

impl Way {
    /// What becomes of the packet, if that is decided.
    #[inline(always)]
    pub(crate) fn verdict(self) -> Option<Verdict> {
        match self {
            Self::Done => Some(Verdict::Pass),
            Self::Sent => Some(Verdict::Sent),
            Self::Failed => Some(Verdict::Drop),
            Self::New | Self::Again | Self::Amid | Self::Handshake | Self::Long => None,
        }
    }
}

/// Translates a packet of a known flow at a hook of a device that leads out of the node, or of one of
/// the node's own, if there is nothing else to do about it. A function of its own, as its stack is.
#[inline(never)]
pub(crate) fn follow<F: Datapath, const EGRESS: bool, const OUTSIDE: bool>(
    context: &TcContext,
    network: usize,
) -> Way {
    let hook = if EGRESS { Hook::EGRESS } else { Hook::INGRESS };
    let Some((mut key, flags)) = brief::key::<F>(context, network, hook) else {
        return Way::Long;
    };
    let mut entry = F::tables().flows.get_ptr_mut(&key);
    // A FIN of a reply is noted in two entries, of which one is found by another hook: the long way.
    let may_be_reply = flags == 0 || flags == tcp::SYN | tcp::ACK;
    if !EGRESS && fast::is_on() && entry.is_none() && may_be_reply {
        entry = fast::find_reply(&mut key);
    }
    let Some(entry) = entry else {
        return miss::<F, EGRESS, OUTSIDE>(context, &key, flags);
    };
    let found = Found { entry };
    if !OUTSIDE && key.protocol == Protocol::TCP && handshake::is_part(found.flow(), flags) {
        return leave_key(&key, Way::Handshake);
    }
    if flags & (tcp::SYN | tcp::RST) != 0 {
        let opens = !EGRESS && !OUTSIDE && flags == tcp::SYN && has_ended(context, found);
        return if opens { leave_key(&key, Way::Again) } else { Way::Long };
    }
    let (to, kind, service) = (found.flow().to, found.flow().kind, found.flow().service);
    let from_outside = OUTSIDE && network >= ETHERNET;
    let past = match way_past::<F, EGRESS>(context, found.flow(), from_outside) {
        Ok(past) => past,
        Err(way) => return way,
    };
    if !goes_on::<F>(found.flow(), &key) || !found.is(&key) {
        return Way::Long;
    }
    // What a client sends to a neighbour is for it alone.
    if !EGRESS && network >= ETHERNET && bridge::addressee(context) != Addressee::Node {
        return Way::Long;
    }
    if flags & tcp::FIN != 0 && !ending::note(&key, found, &to) {
        return Way::Long;
    }
    deliver(context, network, &key, (&to, kind, service), past)
}

/// By which device and to whom packets of a flow go past the host's stack, if this one may follow them as it
/// is; otherwise it takes the long way.
#[inline(always)]
pub(crate) fn way_past<F: Datapath, const EGRESS: bool>(
    context: &TcContext,
    flow: &Flow<F>,
    from_outside: bool,
) -> Result<Option<(u32, [u8; 6])>, Way> {
    if EGRESS || !flow.kind.has(Kind::FAST) {
        return Ok(None);
    }
    if flow.kind.is_folded() {
        return Err(Way::Long);
    }
    if !fast::is_on() {
        return Ok(None);
    }
    let next = fast::next(flow);
    if fast::is_on_way::<F>(context, flow, from_outside, flow::now()) {
        Ok(Some(next))
    } else {
        Err(Way::Long)
    }
}

/// Gives a packet of a flow where it leads to, and sends it on its way.
#[inline(always)]
pub(crate) fn deliver<F: Datapath>(
    context: &TcContext,
    network: usize,
    key: &FlowKey<F>,
    (to, kind, service): (&Tuple<F>, Kind, ServiceIndex),
    past: Option<(u32, [u8; 6])>,
) -> Way {
    if *to == key.tuple {
        return Way::Done;
    }
    let way = translate(context, network, key, to);
    if way == Way::Done {
        traffic::translated::<F>(service, kind, context.len());
    }
    match (way, past) {
        (Way::Done, Some((device, mac))) => send::<F>(context, device, &mac),
        (Way::Done, None) if kind.is_final() => {
            mark_request(context);
            Way::Done
        }
        (way, _) => way,
    }
}

/// Whether a SYN of a client may open another flow in the place of the one that was found for it.
#[inline(always)]
fn has_ended<F: Datapath>(context: &TcContext, found: Found<F>) -> bool {
    let flow = found.flow();
    flow.is_closed() && !flow.kind.has(Kind::REPLY) && bridge::addressee(context) == Addressee::Node
}

/// What becomes of a packet of no flow.
#[inline(always)]
fn miss<F: Datapath, const EGRESS: bool, const OUTSIDE: bool>(
    context: &TcContext,
    key: &FlowKey<F>,
    flags: u8,
) -> Way {
    let is_tcp = key.protocol == Protocol::TCP;
    let opens = !is_tcp || flags == tcp::SYN;
    // As `Packet::opens_flow` has it.
    let is_amid = is_tcp && flags & (tcp::SYN | tcp::RST | tcp::ACK) != tcp::SYN;
    if !OUTSIDE && (EGRESS || is_for_no_frontend(key)) {
        return Way::Done;
    }
    if is_amid && passing::is_known(key, flow::now(), OUTSIDE) {
        return Way::Done;
    }
    if EGRESS || OUTSIDE || bridge::addressee(context) != Addressee::Node {
        return Way::Long;
    }
    if opens {
        return leave_key(key, Way::New);
    }
    if is_amid { leave_key(key, Way::Amid) } else { Way::Long }
}

/// Whether a packet of no flow at a device of the node's own is for no frontend, by the filter of these alone.
/// Where there is a fast path, it may be a reply of a flow by that.
#[inline(always)]
fn is_for_no_frontend<F: Datapath>(key: &FlowKey<F>) -> bool {
    !fast::is_on()
        && !choice::may_be_frontend::<F>(&key.tuple.destination)
        && outset::names_two_hosts(&key.tuple)
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

/// Leaves a packet's key to what goes on with it.
#[inline(always)]
fn leave_key<F: Datapath>(key: &FlowKey<F>, way: Way) -> Way {
    match Work::<F>::get() {
        Some(work) => {
            work.key = *key;
            way
        }
        None => Way::Long,
    }
}

/// Whether a flow serves a packet that has nothing new to say of it.
#[inline(always)]
pub(crate) fn goes_on<F: Datapath>(flow: &Flow<F>, key: &FlowKey<F>) -> bool {
    if !flow.is_confirmed() || !is_plain(flow) {
        return false;
    }
    let is_reply = flow.kind.has(Kind::REPLY);
    // Each datagram asks whether its flow may stay.
    key.protocol == Protocol::TCP || is_reply || !flow.kind.has(Kind::MASQUERADED) && stays(flow)
}

/// Whether a flow has been noted to within the last second, and asks for nothing but to be translated.
#[inline(always)]
pub(crate) fn is_plain<F: Datapath>(flow: &Flow<F>) -> bool {
    let seen = Seen(flow.client_seen.0 | flow.backend_seen.0);
    // A time-out is longer than this.
    let is_fresh = flow::now().since(flow.last_seen) < PER_SECOND;
    is_fresh
        && !seen.has(Seen::RST)
        && !flow.kind.has(Kind::HAIRPIN | Kind::SAME_BRIDGE | Kind::DIRECT)
}

/// Whether the backend of a flow of datagrams still serves.
#[inline(always)]
pub(crate) fn stays<F: Datapath>(flow: &Flow<F>) -> bool {
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
    if rewrite_whole(context, network, key, to).is_err() {
        count::<F>(Reason::DropRewrite);
        return Way::Failed;
    }
    Way::Done
}
