// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Opening flows: from a frontend to a backend, once per flow.

use aya_ebpf::programs::TcContext;
use proxy_common::{
    affinity::AffinityKey,
    backend::BackendId,
    clock::Tick,
    counter::Reason,
    flow::{FlowKey, Hook, Kind},
    frontend::{Frontend, FrontendKind, ServiceIndex},
    service::{EmptySet, Policy},
};

use crate::{
    affinity,
    blame::blame,
    bridge,
    choice::{self, random},
    claim::{Entered, enter_at_place},
    counter::count,
    family::Datapath,
    fast,
    flow::find,
    folded, foreign_nat,
    frame::device,
    masquerade, node_socket,
    packet::Packet,
    passing, tcp, telling, traffic,
    work::Work,
};

/// What became of a packet that belongs to no flow.
#[repr(u32)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Opening {
    /// There is a flow for it now.
    Opened,
    /// It is not ours.
    Pass,
    /// It must go; this has been counted.
    Drop,
    /// It must go: the tables changed under each look.
    Race,
    /// It must go: the Service's traffic policy wants an endpoint on this node.
    NoLocalEndpoint,
    /// It must go: the client is in none of the Service's source ranges.
    NotAdmitted,
    /// To be refused: the Service has no endpoints.
    NoEndpoints,
    /// To be refused: the VIP has no such port.
    NoPort,
    /// To be refused: it is amid a connection that is not known.
    NoFlow,
    /// To be refused: there is no source port whose replies are nobody's.
    NoSourcePort,
}

impl Opening {
    /// The one with this number.
    #[inline(always)]
    pub(crate) fn of(number: u32) -> Self {
        match number {
            number if number == Self::Opened as u32 => Self::Opened,
            number if number == Self::Pass as u32 => Self::Pass,
            number if number == Self::Race as u32 => Self::Race,
            number if number == Self::NoLocalEndpoint as u32 => Self::NoLocalEndpoint,
            number if number == Self::NotAdmitted as u32 => Self::NotAdmitted,
            number if number == Self::NoEndpoints as u32 => Self::NoEndpoints,
            number if number == Self::NoPort as u32 => Self::NoPort,
            number if number == Self::NoFlow as u32 => Self::NoFlow,
            number if number == Self::NoSourcePort as u32 => Self::NoSourcePort,
            _ => Self::Drop,
        }
    }
}

/// Opens a flow for a packet that belongs to none, if its destination is a frontend, or a direct
/// connection to an endpoint.
#[inline(always)]
pub(crate) fn open<F: Datapath>(context: &TcContext, work: &mut Work<F>) -> Opening {
    let mut opening = Opening::Race;
    // A set may be replaced between two looks; twice in a row is not worth a third.
    for _ in 0..2 {
        let chosen = choose(context, work);
        if chosen == Opening::Pass {
            return chosen;
        }
        // What was read may have been another frontend's: it is acted on only if it still holds.
        if look_up(&work.packet) == Some(work.frontend) {
            opening = chosen;
            break;
        }
    }
    let reason = match opening {
        Opening::Opened => return establish(context, work),
        Opening::NoLocalEndpoint => Reason::DropPolicyLocal,
        Opening::NotAdmitted => Reason::DropSourceRange,
        Opening::Race => Reason::DropUpdateRace,
        Opening::NoFlow if node_socket::exists(context, &mut work.packet) => return Opening::Pass,
        Opening::NoFlow if foreign_nat::may_own::<F>() => return Opening::Pass,
        refused => return refused,
    };
    blame(work, reason);
    Opening::Drop
}

/// The entry of a packet's destination: of its port, or of the whole address.
#[inline(always)]
pub(crate) fn look_up<F: Datapath>(packet: &Packet<F>) -> Option<Frontend> {
    let tuple = &packet.tuple;
    choice::look_up::<F>(tuple.destination, tuple.destination_port, packet.protocol)
}

/// Chooses a backend for [`Work::flow`], uniformly at random among the eligible.
#[inline(never)]
pub(crate) fn choose<F: Datapath>(context: &TcContext, work: &mut Work<F>) -> Opening {
    let (packet, flow) = (&work.packet, &mut work.flow);
    let Some(frontend) = look_up(packet) else {
        passing::remember(work);
        return Opening::Pass;
    };
    work.frontend = frontend;
    let service = frontend.service();
    flow.service = service;
    work.service = service;
    if service == ServiceIndex::DIRECT {
        if !packet.opens_flow() || packet.tuple.source == packet.tuple.destination {
            return Opening::Pass;
        }
        if packet.is_datagram() && is_answer(packet, work.now) {
            return Opening::Pass;
        }
        // Of those that come from elsewhere there may be many, which no client's device here
        // translates: they are only kept out of the way of flows.
        if work.outside != 0 && !is_in_the_way(packet, work.now) {
            return Opening::Pass;
        }
        if foreign_nat::may_have_translated::<F>() {
            return Opening::Pass;
        }
        flow.backend = BackendId::NONE;
        flow.generation = 0;
        flow.to.destination = packet.tuple.destination;
        flow.to.destination_port = packet.tuple.destination_port;
        return Opening::Opened;
    }
    if work.direct_only != 0 {
        return Opening::Pass;
    }
    if !packet.opens_flow() {
        // A RST is never answered (RFC 9293 section 3.10.7.1, RFC 9260 section 8.4). At a node port
        // the node answers, and may have a connection of its own that uses the port.
        let reset = packet.segment.flags & tcp::RST != 0;
        let is_nodes = frontend.kind() == FrontendKind::NodePort;
        return if reset || is_nodes { Opening::Pass } else { Opening::NoFlow };
    }
    if service == ServiceIndex::REFUSE {
        return Opening::NoPort;
    }
    let Some(row) = choice::service::<F>(service) else {
        return Opening::Pass;
    };
    let (client, kind) = (packet.tuple.source, frontend.kind());
    let policy = choice::policy(row);
    if kind == FrontendKind::LoadBalancer
        && policy.has(Policy::SOURCE_RANGES)
        && !choice::is_admitted::<F>(service, &client)
    {
        return Opening::NotAdmitted;
    }
    // A pod of another node may be told by its address, but what it gets here must come back here.
    let may_be_local = work.outside == 0 || kind == FrontendKind::ClusterIp;
    let is_local = may_be_local && choice::is_local::<F>(device(context), &client);
    let (set, standing) = choice::backend_set(row, policy, kind, is_local);
    let set = set.within_family();
    match set.when_empty() {
        Some(EmptySet::Reject) => return Opening::NoEndpoints,
        Some(EmptySet::Drop) => return Opening::NoLocalEndpoint,
        None => {}
    }
    work.masquerades = u8::from(masquerade::is_wanted::<F>(kind, policy, is_local));
    let affinity = AffinityKey { service, netns: 0, client };
    let (stays, now) = (policy.affinity_seconds(), work.now);
    let known = if stays == 0 { None } else { affinity::recall(&affinity, stays, standing, now) };
    let Some((id, backend)) = known.or_else(|| choice::backend::<F>(set, random(set.count())))
    else {
        return Opening::Pass;
    };
    flow.backend = id;
    flow.generation = backend.generation;
    flow.to.destination = backend.address;
    flow.to.destination_port = backend.port;
    if stays != 0 && known.is_none() {
        affinity::remember(&affinity, id, flow.generation, now);
    }
    Opening::Opened
}

/// Whether a datagram to an endpoint is an answer in a flow whose client that is. Nothing in the datagram
/// says so.
#[inline(never)]
fn is_answer<F: Datapath>(packet: &Packet<F>, now: Tick) -> bool {
    let key = FlowKey::new(packet.tuple, packet.protocol, Hook::EGRESS);
    find(&key).is_some_and(|found| {
        found.flow().kind.has(Kind::REPLY) && !found.is_expired(packet.protocol, now)
    })
}

/// Whether a flow of a client from outside has the replies of a direct connection that begins with
/// this packet.
#[inline(never)]
fn is_in_the_way<F: Datapath>(packet: &Packet<F>, now: Tick) -> bool {
    let replies = FlowKey::new(packet.tuple.reversed(), packet.protocol, Hook::EGRESS);
    find(&replies).is_some_and(|found| {
        let kind = found.flow().kind;
        kind.has(Kind::REPLY) && kind.has(Kind::OUTSIDE) && !found.is_expired(packet.protocol, now)
    })
}

/// Enters [`Work::flow`] into the tables.
#[inline(always)]
fn establish<F: Datapath>(context: &TcContext, work: &mut Work<F>) -> Opening {
    let (packet, flow) = (&work.packet, &mut work.flow);
    flow.to.source = packet.tuple.source;
    flow.to.source_port = packet.tuple.source_port;
    flow.clear_way();
    let is_outside = work.outside != 0;
    let is_own_backend = flow.to.destination == packet.tuple.source;
    let kind = if flow.service == ServiceIndex::DIRECT {
        Kind::DIRECT
    } else if is_own_backend && is_outside {
        // It would answer itself directly.
        Kind::MASQUERADE
    } else if is_own_backend {
        // SAFETY: written once per device; a torn read would need two changes at once.
        let host = unsafe { F::tables().host_addresses.get(device(context)) };
        let Some(host) = host else {
            blame(work, Reason::DropHairpin);
            return Opening::Drop;
        };
        flow.to.source = *host;
        Kind::HAIRPIN
    } else if !is_outside
        && bridge::neighbour(context, work.packet.protocol, &flow.to, &mut flow.mac)
    {
        Kind::SAME_BRIDGE
    } else if work.masquerades != 0 {
        Kind::MASQUERADE
    } else {
        0
    };
    let kind = if is_outside {
        work.came_by = folded::came_by(context);
        folded::make(context, work, work.packet.network(), kind | Kind::OUTSIDE)
    } else {
        kind
    };
    let is_fast = fast::is_on() && kind == 0 && fast::find_way(context, work) == fast::Way::Past;
    work.flow.kind.0 = if is_fast { Kind::FAST } else { kind };
    let entered = enter_at_place(context, work);
    let reason = match entered {
        Entered::AsIs | Entered::WithAnotherPort => {
            if entered == Entered::WithAnotherPort {
                count::<F>(Reason::SourcePortTranslated);
            }
            count::<F>(Reason::FlowCreated);
            traffic::created::<F>(work.flow.service);
            telling::created::<F>(device(context));
            if is_fast {
                count::<F>(Reason::FlowFast);
            }
            return Opening::Opened;
        }
        Entered::NoRoom => Reason::DropFlowInsert,
        Entered::NoPort => return Opening::NoSourcePort,
    };
    blame(work, reason);
    Opening::Drop
}
