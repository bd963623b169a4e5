// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The short way of the first packets of flows: those of clients behind the node's own devices, to
//! Services whose new flows ask for nothing but a backend. Whatever needs more than that, and
//! whatever is in the way, goes the long way, as if it had not been here: see [`open`](crate::open)
//! and [`claim`](crate::claim), which say what is right.

use core::mem;

use aya_ebpf::{helpers::bpf_get_prandom_u32, programs::TcContext};
use proxy_common::{
    Address as _, Family,
    counter::Reason,
    device::DeviceTraits,
    flow::{Flow, FlowKey, Hook, Kind, Queue, Seen, Tuple},
    frontend::{FrontendKind, ServiceIndex},
    service::Policy,
};

use crate::{
    choice::{self, share},
    counter::count,
    family::Datapath,
    fast,
    flow::{self, NEW, find},
    frame::{self, mark_request},
    known::{self, Way},
    maps::DEVICES,
    masquerade, passing, queue, telling, traffic,
    work::Work,
};

/// Makes room for a flow where one has ended: with a port that the client has used before. A flow that another processor has opened meanwhile is
/// in the way.
#[inline(never)]
pub(crate) fn clear<F: Datapath>() {
    if let Some(work) = Work::<F>::get()
        && let Some(found) = find(&work.key)
        && found.flow().is_closed()
    {
        if found.flow().is_confirmed() {
            queue::leave::<F>(found.flow().proof);
        }
        flow::forget(&work.key, found.entry);
    }
}

/// Opens a flow for a packet that has none, and translates it.
/// [`Work::key`] is the packet's.
#[inline(never)]
pub(crate) fn open<F: Datapath>(context: &TcContext, network: usize) -> Way {
    let Some(work) = Work::<F>::get() else {
        return Way::Long;
    };
    let key = &work.key;
    let tuple = &key.tuple;
    if !names_two_hosts(tuple) {
        return Way::Long;
    }
    let look_up = || choice::look_up::<F>(tuple.destination, tuple.destination_port, key.protocol);
    let Some(frontend) = look_up() else {
        return if fast::is_reply(work) { Way::Long } else { Way::Done };
    };
    let (service, kind) = (frontend.service(), frontend.kind());
    if service.0 < ServiceIndex::FIRST.0 {
        return Way::Long;
    }
    let Some(row) = choice::service::<F>(service) else {
        return Way::Long;
    };
    let policy = choice::policy(row);
    let asks_who = kind == FrontendKind::LoadBalancer && policy.has(Policy::SOURCE_RANGES);
    if asks_who || policy.affinity_seconds() != 0 {
        return Way::Long;
    }
    // SAFETY: a device's entry is replaced, not changed, and rarely.
    let device = unsafe { DEVICES.get(frame::device(context)) };
    if device.is_some_and(|device| device.bridge != 0) {
        return Way::Long;
    }
    let is_local = choice::is_local_by::<F>(&tuple.source, || {
        device.is_some_and(|device| device.traits.has(DeviceTraits::LOCAL_CLIENTS))
    });
    let (set, _) = choice::backend_set(row, policy, kind, is_local);
    let set = set.within_family();
    if set.when_empty().is_some() {
        return Way::Long;
    }
    // SAFETY: the helper takes nothing.
    let random = unsafe { bpf_get_prandom_u32() };
    let Some((id, backend)) = choice::backend::<F>(set, share(random, set.count())) else {
        return Way::Long;
    };
    let mut to = *tuple;
    (to.destination, to.destination_port) = (backend.address, backend.port);
    let generation = backend.generation;
    // What was read may have been another frontend's; and who is their own backend is answered in
    // another way.
    if look_up() != Some(frontend) || to.destination == tuple.source {
        return Way::Long;
    }
    let is_masqueraded = masquerade::is_wanted::<F>(kind, policy, is_local);
    let mut kind = if is_masqueraded { Kind::MASQUERADE } else { 0 };
    work.flow.clear_way();
    if fast::is_on() {
        (work.flow.to, work.now) = (to, flow::now());
        if !is_masqueraded && fast::find_way(context, work) == fast::Way::Past {
            kind = Kind::FAST;
        }
    }
    let is_fast = kind == Kind::FAST;
    let (key, tuple) = (&work.key, &work.key.tuple);
    work.reply_key = FlowKey::new(to.reversed(), key.protocol, Hook::EGRESS);
    work.flow = Flow {
        tag: 0,
        to: tuple.reversed(),
        service,
        backend: id,
        generation,
        last_seen: flow::now(),
        // Which backend was chosen says a few bits of it at most.
        proof: random,
        kind: Kind(kind | Kind::REPLY),
        client_seen: Seen(Seen::ANY),
        backend_seen: Seen::default(),
        seal: 0,
        // The way that has been found.
        ..work.flow
    };
    if !enter(work, &to, Kind(kind)) {
        return Way::Long;
    }
    telling::created::<F>(frame::device(context));
    let way = known::translate(context, network, &work.key, &to);
    if way == Way::Done {
        traffic::translated::<F>(service, Kind(kind), context.len());
    }
    match way {
        Way::Done if is_fast => known::send::<F>(context, work.flow.device, &work.flow.mac),
        Way::Done => {
            if !is_masqueraded {
                mark_request(context);
            }
            Way::Done
        }
        way => way,
    }
}

/// Enters [`Work::flow`], which is that of its replies, into the tables, and then as that of the requests,
/// which leads there and is of this kind. Says whether neither was in the way of another.
#[inline(always)]
fn enter<F: Datapath>(work: &mut Work<F>, to: &Tuple<F>, kind: Kind) -> bool {
    let flows = F::tables().flows;
    let is_fast = kind.has(Kind::FAST);
    let place = queue::wait(Queue::HalfOpen, &work.key);
    let proof = mem::replace(&mut work.flow.proof, place);
    work.flow.label(&work.reply_key);
    if flows.insert(&work.reply_key, &work.flow, NEW).is_err() {
        queue::leave::<F>(place);
        return false;
    }
    if is_fast {
        fast::expect_replies(work);
    }
    work.flow.to = *to;
    work.flow.kind = kind;
    work.flow.proof = proof;
    // What is remembered of requests was so before there was this frontend, in an epoch that has ended.
    work.flow.label(&work.key);
    if flows.insert(&work.key, &work.flow, NEW).is_err() {
        withdraw(work);
        queue::leave::<F>(place);
        return false;
    }
    count::<F>(Reason::FlowCreated);
    traffic::created::<F>(work.flow.service);
    if is_fast {
        count::<F>(Reason::FlowFast);
    }
    true
}

/// Lets a packet through that is amid a connection and has no flow, if it is for no frontend. [`Work::key`]
/// is its.
#[inline(never)]
pub(crate) fn pass<F: Datapath>() -> Way {
    let Some(work) = Work::<F>::get() else {
        return Way::Long;
    };
    let epoch = passing::epoch::<F>();
    let may_be_reply = fast::is_reply(work);
    let (key, tuple) = (&work.key, &work.key.tuple);
    let is_nothing = !may_be_reply
        && names_two_hosts(tuple)
        && choice::look_up::<F>(tuple.destination, tuple.destination_port, key.protocol).is_none();
    if !is_nothing {
        return Way::Long;
    }
    passing::note::<F>(key.tag(), epoch, flow::now(), false);
    Way::Done
}

/// Whether a packet is between hosts: from no loopback address, no group and not from nobody, and to
/// none.
#[inline(always)]
pub(crate) fn names_two_hosts<F: Datapath>(tuple: &Tuple<F>) -> bool {
    let is_nobody = tuple.source == <F as Family>::Addr::UNSPECIFIED;
    let is_host = |address: &<F as Family>::Addr| !address.is_multicast() && !address.is_loopback();
    !is_nobody && is_host(&tuple.source) && is_host(&tuple.destination)
}

/// Gives up the replies that have been taken, unless another processor has just opened the very flow
/// for another packet of it.
#[inline(always)]
fn withdraw<F: Datapath>(work: &Work<F>) {
    let is_same = find(&work.key).is_some_and(|found| found.flow().to == work.flow.to);
    if !is_same {
        let _: Result<(), i32> = F::tables().flows.remove(&work.reply_key);
    }
}
