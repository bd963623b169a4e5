// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Opening flows: from a frontend to a backend, once per flow.

use aya_ebpf::{helpers::bpf_get_prandom_u32, programs::TcContext};
use proxy_common::{
    Port,
    backend::BackendId,
    counter::Reason,
    flow::{FlowKey, Kind, Seen},
    frontend::ServiceIndex,
    service::EmptySet,
};

use crate::{
    blame::blame,
    bridge,
    choice::{self, random},
    claim::{claim, enter},
    counter::count,
    family::Datapath,
    flow::reply_hook,
    frame::device,
    maps::SOURCE_PORTS,
    packet::Packet,
    tcp,
    work::Work,
};

/// Source ports that are tried before a new flow is given up.
const PORT_ATTEMPTS: u32 = 8;

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
    /// It must go: the Service's traffic policy wants an endpoint on this node.
    NoLocalEndpoint,
    /// To be refused: the Service has no endpoints.
    NoEndpoints,
    /// To be refused: the VIP has no such port.
    NoPort,
    /// To be refused: it is amid a connection that is not known.
    NoFlow,
}

/// Opens a flow for a packet that belongs to none, if its destination is a frontend, or a direct
/// connection to an endpoint.
#[inline(never)]
pub(crate) fn open<F: Datapath>(context: &TcContext, work: &mut Work<F>) -> Opening {
    // A set may be replaced between two looks; twice in a row is not worth a third.
    for _ in 0..2 {
        let opening = choose(work);
        if opening == Opening::Pass {
            return opening;
        }
        // What was read may have been another frontend's: it is acted on only if it still holds.
        if look_up(&work.packet) == Some(work.flow.service) {
            return match opening {
                Opening::Opened => establish(context, work),
                Opening::NoLocalEndpoint => {
                    blame(work, Reason::DropPolicyLocal);
                    Opening::Drop
                }
                refused => refused,
            };
        }
    }
    blame(work, Reason::DropUpdateRace);
    Opening::Drop
}

/// The entry of a packet's destination: of its port, or of the whole address.
#[inline(always)]
pub(crate) fn look_up<F: Datapath>(packet: &Packet<F>) -> Option<ServiceIndex> {
    let tuple = &packet.tuple;
    choice::look_up::<F>(tuple.destination, tuple.destination_port, packet.protocol)
}

/// Chooses a backend for [`Work::flow`], uniformly at random among the eligible.
#[inline(never)]
pub(crate) fn choose<F: Datapath>(work: &mut Work<F>) -> Opening {
    let tables = F::tables();
    let (packet, flow) = (&work.packet, &mut work.flow);
    let Some(service) = look_up(packet) else {
        return Opening::Pass;
    };
    flow.service = service;
    if service == ServiceIndex::DIRECT {
        if !packet.opens_flow() || packet.tuple.source == packet.tuple.destination {
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
        // A RST is never answered (RFC 9293 section 3.10.7.1).
        let reset = packet.segment.flags & tcp::RST != 0;
        return if reset { Opening::Pass } else { Opening::NoFlow };
    }
    if service == ServiceIndex::REFUSE {
        return Opening::NoPort;
    }
    let Some(row) = tables.services.get_ptr(service.0) else {
        return Opening::Pass;
    };
    let set = choice::backend_set(row).within_family();
    match set.when_empty() {
        Some(EmptySet::Reject) => return Opening::NoEndpoints,
        Some(EmptySet::Drop) => return Opening::NoLocalEndpoint,
        None => {}
    }
    let Some((id, backend)) = choice::backend::<F>(set, random(set.count())) else {
        return Opening::Pass;
    };
    flow.backend = id;
    flow.generation = backend.generation;
    flow.to.destination = backend.address;
    flow.to.destination_port = backend.port;
    Opening::Opened
}

/// A random port of those that translated sources take.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "two ports in one word")]
fn source_port() -> Port {
    let range = SOURCE_PORTS.load();
    let (first, last) = (range >> 16, range & 0xffff);
    Port::new((first + random(last - first + 1)) as u16)
}

/// Enters [`Work::flow`] into the tables: the replies' entry first, so that whoever finds the
/// flow finds all of it.
#[inline(always)]
fn establish<F: Datapath>(context: &TcContext, work: &mut Work<F>) -> Opening {
    let (packet, flow) = (&work.packet, &mut work.flow);
    flow.to.source = packet.tuple.source;
    flow.to.source_port = packet.tuple.source_port;
    flow.last_seen = work.now;
    // Until the backend's SYN tells it: a number that nobody can know.
    // SAFETY: the helper takes nothing.
    flow.proof = unsafe { bpf_get_prandom_u32() };
    flow.mac = [0; 6];
    flow.client_seen = Seen(Seen::ANY);
    flow.backend_seen = Seen::default();
    flow.reserved = [0; 3];
    let kind = if flow.service == ServiceIndex::DIRECT {
        Kind::DIRECT
    } else if flow.to.destination == packet.tuple.source {
        // SAFETY: written once per device; a torn read would need two changes at once.
        let host = unsafe { F::tables().host_addresses.get(device(context)) };
        let Some(host) = host else {
            blame(work, Reason::DropHairpin);
            return Opening::Drop;
        };
        flow.to.source = *host;
        // The client's own port would take the replies of the host's own connections to the pod.
        flow.to.source_port = source_port();
        Kind::HAIRPIN
    } else if bridge::neighbour(context, &flow.to, &mut flow.mac) {
        Kind::SAME_BRIDGE
    } else {
        0
    };

    let mut to = flow.to;
    for attempt in 0..PORT_ATTEMPTS {
        work.reply_key = FlowKey::new(to.reversed(), work.packet.protocol, reply_hook(Kind(kind)));
        work.flow.to = work.packet.tuple.reversed();
        work.flow.kind.0 = kind | Kind::REPLY;
        work.flow.label(&work.reply_key);
        if claim(work) {
            if attempt > 0 {
                count::<F>(Reason::SourcePortTranslated);
            }
            work.flow.to = to;
            work.flow.kind.0 = kind;
            work.flow.label(&work.key);
            if enter(work) {
                count::<F>(Reason::FlowCreated);
                return Opening::Opened;
            }
            blame(work, Reason::DropFlowInsert);
            return Opening::Drop;
        }
        to.source_port = source_port();
    }
    blame(work, Reason::DropSourcePorts);
    Opening::Drop
}
