// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Requests: from a client to a frontend, on their way to a backend.

use aya_ebpf::programs::TcContext;
use proxy_common::{
    Address as _,
    counter::Reason,
    flow::{FlowKey, Hook},
    frontend::{Frontend, ServiceIndex},
};

use crate::{
    blame::{self, blame},
    bridge::{self, Addressee},
    family::Datapath,
    fast::{self, Reply},
    flow, folded,
    follow::{self, Follow, Serving},
    foreign_nat, fragment,
    frame::take_request_mark,
    guard,
    hairpin::{self, Back},
    handshake, icmp_error,
    known::{self, Way},
    open::{Opening, look_up},
    outset,
    packet::{Packet, Parsed, Part},
    passing, reject,
    unfold::unfold,
    verdict::Verdict,
    work::Work,
};

/// Handles a frame from a client behind a device of the node's own, with its network header at
/// `network`.
#[inline(always)]
pub(crate) fn run<F: Datapath>(context: &TcContext, network: usize) -> i32 {
    // Who is behind the device may have put it there.
    let _: bool = take_request_mark(context);
    let mut way = known::follow::<F, false, false>(context, network);
    if way == Way::Again {
        outset::clear::<F>();
        way = Way::New;
    }
    if way == Way::Handshake {
        way = handshake::go_on::<F, false>(context, network);
    } else if way == Way::New {
        way = outset::open::<F>(context, network);
    } else if way == Way::Amid {
        way = outset::pass::<F>();
    }
    match way.verdict() {
        Some(verdict) => verdict.to_action(),
        None => go_through::<F>(context, network),
    }
}

/// A function of its own, as each family has its own stack.
#[inline(never)]
fn go_through<F: Datapath>(context: &TcContext, network: usize) -> i32 {
    blame::decide(context, |context, work| decide::<F, false>(context, work, network))
}

/// Handles a frame that comes from outside: from a client there, or an answer to a client anywhere.
#[inline(always)]
pub(crate) fn from_outside<F: Datapath>(context: &TcContext, network: usize) -> i32 {
    // Who is behind the device may have put it there.
    let _: bool = take_request_mark(context);
    if let Some(verdict) = known::follow::<F, false, true>(context, network).verdict() {
        return verdict.to_action();
    }
    guard::notice::<F>(context, network);
    arrive::<F>(context, network)
}

#[inline(never)]
fn arrive<F: Datapath>(context: &TcContext, network: usize) -> i32 {
    blame::decide(context, |context, work| decide::<F, true>(context, work, network))
}

#[inline(always)]
fn decide<F: Datapath, const OUTSIDE: bool>(
    context: &TcContext,
    work: &mut Work<F>,
    network: usize,
) -> Verdict {
    let addressee = bridge::addressee(context);
    if addressee == Addressee::Nobody {
        return Verdict::Pass;
    }
    // What is sent to a neighbour's MAC address is not for the node: only direct connections to
    // endpoints are of interest there.
    work.direct_only = u8::from(addressee == Addressee::Neighbour);
    work.outside = u8::from(OUTSIDE);
    let parsed = work.packet.parse(context, network);
    if addressee == Addressee::Group {
        // Linux takes datagrams from these, too.
        let may_be_taken = parsed != Parsed::Nothing;
        return if may_be_taken { keep_from_loopback(work) } else { Verdict::Pass };
    }
    work.now = flow::now();
    work.epoch = passing::epoch::<F>();
    match parsed {
        Parsed::Transport => {}
        Parsed::Unserved => return keep_from_loopback(work),
        Parsed::Error if names_loopback(&work.packet) => return drop_loopback(work),
        Parsed::Error => {
            return icmp_error::forward(context, work, Hook::INGRESS).unwrap_or(Verdict::Pass);
        }
        Parsed::Other => return answer_other(context, work),
        Parsed::Nothing => return Verdict::Pass,
    }
    let part = work.packet.part;
    match part {
        Part::FIRST => fragment::forget(work, Hook::INGRESS),
        Part::LATER if !fragment::recall(work, Hook::INGRESS) => return overtaken(work),
        _ => {}
    }
    let reason = match handle::<F, OUTSIDE>(context, work) {
        Handled::Passed => return Verdict::Pass,
        Handled::Dropped => return Verdict::Drop,
        Handled::GoesPast => {
            let is_sent = if work.flow.kind.is_folded() {
                folded::send(work)
            } else {
                fast::send(context, work.flow.device, &work.flow.mac)
            };
            if is_sent {
                return Verdict::Sent;
            }
            blame(work, Reason::DropRewrite);
            return Verdict::Drop;
        }
        Handled::TurnsAround => {
            return hairpin::turn_around(context, &work.packet).unwrap_or_else(|()| {
                blame(work, Reason::DropRewrite);
                Verdict::Drop
            });
        }
        Handled::NoEndpoints => Reason::RejectNoEndpoints,
        Handled::NoPort => Reason::RejectNoPort,
        Handled::NoFlow => Reason::RejectNoFlow,
        Handled::NoSourcePort => Reason::RejectSourcePorts,
    };
    reject::refuse(context, work, reason, Back::Out)
}

/// What became of a packet.
#[repr(u32)]
#[derive(Clone, Copy, PartialEq, Eq)]
enum Handled {
    /// It goes on its way.
    Passed,
    /// It does not; this has been counted.
    Dropped,
    /// It goes past the host's stack, as [`Work::flow`] says.
    GoesPast,
    /// It goes back out of its device.
    TurnsAround,
    /// To be refused: the Service has no endpoints.
    NoEndpoints,
    /// To be refused: the VIP has no such port.
    NoPort,
    /// To be refused: it is amid a connection that is not known.
    NoFlow,
    /// To be refused: there is no port left for it.
    NoSourcePort,
}

/// Has a packet follow its flow, or opens one for it.
#[inline(never)]
fn handle<F: Datapath, const OUTSIDE: bool>(context: &TcContext, work: &mut Work<F>) -> Handled {
    work.key = FlowKey::new(work.packet.tuple, work.packet.protocol, Hook::INGRESS);
    let mut known = flow::find(&work.key);
    if let Some(found) = known {
        // Both ends of a folded flow are outside.
        if !OUTSIDE && found.flow().kind.is_folded() {
            return Handled::Passed;
        }
        match follow::serves(work, found.entry) {
            Serving::Yes => {}
            Serving::NotOurs => return Handled::Passed,
            Serving::NoMore => {
                flow::forget(&work.key, found.entry);
                known = None;
            }
        }
    }
    if known.is_none() {
        if fast::is_on() && work.direct_only == 0 {
            match fast::restore(context, work) {
                Reply::Restored => return Handled::GoesPast,
                Reply::Lost => return Handled::Dropped,
                Reply::None => {}
            }
        }
        match begin(context, work) {
            Opening::Opened if work.entered != 0 => return follow::begin(context, work).into(),
            Opening::Opened => known = flow::find(&work.key),
            Opening::Pass => return Handled::Passed,
            // The first is what the others are once they have been counted.
            Opening::Drop | Opening::NoLocalEndpoint | Opening::NotAdmitted | Opening::Race => {
                return Handled::Dropped;
            }
            Opening::NoEndpoints => return Handled::NoEndpoints,
            Opening::NoPort => return Handled::NoPort,
            Opening::NoFlow => return Handled::NoFlow,
            Opening::NoSourcePort => return Handled::NoSourcePort,
        }
    }
    let Some(found) = known else {
        blame(work, Reason::DropFlowInsert);
        return Handled::Dropped;
    };
    match follow::translate::<F, OUTSIDE>(context, work, found.entry) {
        Follow::Unfold if OUTSIDE => {
            unfold(work, found.entry);
            if work.is_unfolded == 0 {
                blame(work, Reason::DropFlowInsert);
                return Handled::Dropped;
            }
            follow::begin(context, work).into()
        }
        follow => follow.into(),
    }
}

impl From<Follow> for Handled {
    #[inline(always)]
    fn from(follow: Follow) -> Self {
        match follow {
            Follow::Pass => Self::Passed,
            // Nothing that is unfolded has to be once more.
            Follow::Drop | Follow::Unfold => Self::Dropped,
            Follow::GoPast => Self::GoesPast,
            Follow::TurnAround => Self::TurnsAround,
        }
    }
}

/// What becomes of a packet that belongs to no flow.
#[inline(always)]
fn begin<F: Datapath>(context: &TcContext, work: &mut Work<F>) -> Opening {
    if work.packet.part != Part::LATER {
        if names_loopback(&work.packet) {
            blame(work, Reason::DropLoopback);
            return Opening::Drop;
        }
        return F::open(context, work);
    }
    match overtaken(work) {
        Verdict::Pass => Opening::Pass,
        _ => Opening::Drop,
    }
}

/// Whether a packet is from or to a loopback address. None may come by a device (RFC 1122 section
/// 3.2.1.3, RFC 4291 section 2.5.3): it would reach what listens for the node itself only, where
/// `route_localnet` lets it (CVE-2020-8558).
#[inline(always)]
fn names_loopback<F: Datapath>(packet: &Packet<F>) -> bool {
    packet.tuple.source.is_loopback() || packet.tuple.destination.is_loopback()
}

/// What becomes of a packet that is nothing of ours.
#[inline(always)]
fn keep_from_loopback<F: Datapath>(work: &mut Work<F>) -> Verdict {
    if names_loopback(&work.packet) { drop_loopback(work) } else { Verdict::Pass }
}

#[inline(always)]
fn drop_loopback<F: Datapath>(work: &mut Work<F>) -> Verdict {
    blame(work, Reason::DropLoopback);
    Verdict::Drop
}

/// What is neither TCP nor UDP nor SCTP. No Service port is for it, and a VIP is nobody who could
/// answer it otherwise: kube-proxy's nftables mode rejects it, too.
#[inline(never)]
fn answer_other<F: Datapath>(context: &TcContext, work: &mut Work<F>) -> Verdict {
    if names_loopback(&work.packet) {
        return drop_loopback(work);
    }
    if work.direct_only == 0 && look_up(&work.packet) == Some(ServiceIndex::REFUSE.into()) {
        return reject::refuse(context, work, Reason::RejectNoPort, Back::Out);
    }
    Verdict::Pass
}

/// A fragment whose first has not been here yet, or has opened no flow. Nothing but that says what
/// it belongs to, and to hold it back until then is not in our power.
#[inline(never)]
fn overtaken<F: Datapath>(work: &mut Work<F>) -> Verdict {
    if names_loopback(&work.packet) {
        return drop_loopback(work);
    }
    let is_direct = |frontend: Frontend| frontend.service() == ServiceIndex::DIRECT;
    if work.direct_only != 0 || look_up(&work.packet).is_none_or(is_direct) {
        return Verdict::Pass;
    }
    if foreign_nat::may_own::<F>() {
        return Verdict::Pass;
    }
    blame(work, Reason::DropFragment);
    Verdict::Drop
}
