// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! A backend for what a process has named.

use aya_ebpf::{
    cty::{c_long, c_void},
    helpers::bpf_loop,
};
use proxy_common::{
    Address as _, Family, Protocol,
    affinity::AffinityKey,
    backend::{Backend, BackendId, Standing},
    clock::Tick,
    counter::Reason,
    frontend::{Frontend, FrontendKind, ServiceIndex},
    service::{BackendSet, EmptySet, Policy},
    socket::{Sent, SocketAddress, Translation},
};

use super::{Netns, memory};
use crate::{affinity, choice, family::Datapath, flow, maps::LOOPBACK_NODE_PORTS};

/// How often a choice is made while tables change under it.
const ATTEMPTS: usize = 2;

/// How many backends are looked at for one that does not answer the socket under another frontend.
const CHOICES: u32 = 8;

/// What becomes of an address that a process has named.
#[repr(u32)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Choice {
    /// A backend's takes its place.
    Given,
    /// It stays: it is no frontend.
    Stays,
    /// Refused: the VIP has no such port.
    NoPort,
    /// Refused: the Service has no endpoints.
    NoEndpoints,
    /// Refused: the Service's traffic policy wants an endpoint on this node.
    NoLocalEndpoint,
    /// Refused: the node is in none of the Service's source ranges.
    NotAdmitted,
    /// Refused: the tables changed under each attempt.
    Race,
}

impl Choice {
    /// The one with this number.
    #[inline(always)]
    const fn of(number: u32) -> Self {
        match number {
            number if number == Self::Given as u32 => Self::Given,
            number if number == Self::NoPort as u32 => Self::NoPort,
            number if number == Self::NoEndpoints as u32 => Self::NoEndpoints,
            number if number == Self::NoLocalEndpoint as u32 => Self::NoLocalEndpoint,
            number if number == Self::NotAdmitted as u32 => Self::NotAdmitted,
            number if number == Self::Race as u32 => Self::Race,
            _ => Self::Stays,
        }
    }

    /// Why it is refused, if it is.
    #[inline(always)]
    pub(super) const fn refusal(self) -> Option<Reason> {
        match self {
            Self::Given | Self::Stays => None,
            Self::NoPort => Some(Reason::RejectNoPort),
            Self::NoEndpoints => Some(Reason::RejectNoEndpoints),
            Self::NoLocalEndpoint => Some(Reason::DropPolicyLocal),
            Self::NotAdmitted => Some(Reason::DropSourceRange),
            Self::Race => Some(Reason::DropUpdateRace),
        }
    }
}

/// What a socket is about to do.
#[repr(u32)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// Connect.
    Connect,
    /// Send a single datagram.
    Send,
}

/// Chooses a backend for [`Translation::asked`]: the one that the namespace was served by before, if
/// the Service port has session affinity, else one uniformly at random among the eligible. If that is
/// one that the socket was given for another address already, the next that is not takes its place.
#[inline(never)]
pub(super) fn choose<F: Datapath>(
    translation: &mut Translation,
    protocol: Protocol,
    usage: Use,
    taken: Option<&Sent>,
    netns: Netns,
) -> Choice {
    for _ in 0..ATTEMPTS {
        let frontend = look_up::<F>(&translation.asked, protocol, netns);
        if frontend == NOTHING {
            return Choice::Stays;
        }
        let choice = of_frontend::<F>(frontend, usage, taken, netns, translation);
        // What was read may have been another frontend's: it is acted on only if it still holds.
        if look_up::<F>(&translation.asked, protocol, netns) == frontend {
            return choice;
        }
    }
    Choice::Race
}

/// No frontend: a mark that none has.
const NOTHING: Frontend = Frontend::new(ServiceIndex::NODE, FrontendKind::ClusterIp);

/// What a process names. The node's own find node ports at loopback addresses, too: there is no
/// packet that would have to go there.
#[inline(never)]
fn look_up<F: Datapath>(asked: &SocketAddress, protocol: Protocol, netns: Netns) -> Frontend {
    let address = <F as Family>::Addr::from_mapped(asked.address);
    let serves_loopback = LOOPBACK_NODE_PORTS.load() & 1 << F::INDEX != 0;
    let found = if address.is_loopback() && netns.is_host() && serves_loopback {
        choice::node_port::<F>(asked.port, protocol)
    } else {
        choice::look_up::<F>(address, asked.port, protocol)
    };
    found.unwrap_or(NOTHING)
}

/// The Service port whose frontend a process names; one before [`ServiceIndex::FIRST`] if there is none.
#[inline(always)]
pub(super) fn service<F: Datapath>(
    asked: &SocketAddress,
    protocol: Protocol,
    netns: Netns,
) -> ServiceIndex {
    look_up::<F>(asked, protocol, netns).service()
}

#[inline(always)]
fn of_frontend<F: Datapath>(
    frontend: Frontend,
    usage: Use,
    taken: Option<&Sent>,
    netns: Netns,
    translation: &mut Translation,
) -> Choice {
    let set = match candidates::<F>(frontend, usage, netns, translation).decided() {
        Ok(choice) => return choice,
        Err(set) => set,
    };
    translation.family = F::INDEX;
    translation.used = flow::now();
    let first = choice::random(set.count());
    let mut search = Search { set, first, taken, translation, found: false };
    let context = (&raw mut search).cast();
    // SAFETY: the function is of the kind that the helper takes, and takes this.
    let _: c_long = unsafe { bpf_loop(CHOICES, try_a_backend::<F> as *mut c_void, context, 0) };
    if !search.found {
        return Choice::Stays;
    }
    remember::<F>(frontend.service(), netns, search.translation);
    Choice::Given
}

/// The search for a backend that the socket was not given for another address.
struct Search<'a> {
    set: BackendSet,
    /// The place in the set that it begins at.
    first: u32,
    taken: Option<&'a Sent>,
    translation: &'a mut Translation,
    /// Whether there is one at the place that was looked at last.
    found: bool,
}

/// Gives the backend that is so many places behind the first; says whether that will do (not zero).
extern "C" fn try_a_backend<F: Datapath>(behind: u32, search: *mut c_void) -> c_long {
    // SAFETY: what the search was begun with, which waits for its end.
    let search = unsafe { &mut *search.cast::<Search<'_>>() };
    let place = (search.first + behind).checked_rem(search.set.count());
    let found = place.and_then(|place| choice::backend::<F>(search.set, place));
    search.found = found.is_some();
    let Some((id, backend)) = found else {
        return 1;
    };
    give(search.translation, id, backend);
    // Only by its source port, which is the socket's, could a NAT tell apart what one backend answers
    // under two frontends.
    search.taken.is_none_or(|sent| !memory::is_given(sent, search.translation)).into()
}

/// A set of backends to choose from, in one word; or, where the set would be empty, what has been
/// decided already, in the word's upper half. So much the verifier follows of how it came to that.
#[derive(Clone, Copy)]
struct Candidates(u64);

impl Candidates {
    #[inline(always)]
    const fn none(choice: Choice) -> Self {
        Self((choice as u64) << 32)
    }

    #[inline(always)]
    fn decided(self) -> Result<Choice, BackendSet> {
        let set = BackendSet::from_word(self.0);
        if set.count() == 0 { Ok(Choice::of((self.0 >> 32) as u32)) } else { Err(set) }
    }
}

/// The backends that a process chooses from at a frontend.
#[inline(never)]
fn candidates<F: Datapath>(
    frontend: Frontend,
    usage: Use,
    netns: Netns,
    translation: &mut Translation,
) -> Candidates {
    let (service, kind) = (frontend.service(), frontend.kind());
    match service {
        ServiceIndex::DIRECT => return Candidates::none(Choice::Stays),
        ServiceIndex::REFUSE => return Candidates::none(Choice::NoPort),
        _ => {}
    }
    let Some(row) = choice::service::<F>(service) else {
        return Candidates::none(Choice::Stays);
    };
    let policy = choice::policy(row);
    if kind == FrontendKind::LoadBalancer && policy.has(Policy::SOURCE_RANGES) {
        // Which address a pod's packets have is known at its device only.
        if !netns.is_host() {
            return Candidates::none(Choice::Stays);
        }
        if !policy.has(Policy::NODE_IN_RANGES) {
            return Candidates::none(Choice::NotAdmitted);
        }
    }
    let (set, standing) = choice::backend_set(row, policy, kind, true);
    let set = if usage == Use::Send { set.within_family() } else { set };
    match set.when_empty() {
        Some(EmptySet::Reject) => return Candidates::none(Choice::NoEndpoints),
        Some(EmptySet::Drop) => return Candidates::none(Choice::NoLocalEndpoint),
        None => {}
    }
    let (stays, now) = (policy.affinity_seconds(), flow::now());
    if stays != 0 {
        let known = recall::<F>(service, netns, stays, standing, now);
        if known != BackendId::NONE
            && let Some(backend) = F::tables().backends.get(known.0)
        {
            translation.family = F::INDEX;
            translation.used = now;
            give(translation, known, backend);
            return Candidates::none(Choice::Given);
        }
    }
    Candidates(set.to_word())
}

/// The backend that a namespace's processes were served by before, if they may be again. A function of
/// its own, as all of a program's share one stack.
#[inline(never)]
fn recall<F: Datapath>(
    service: ServiceIndex,
    netns: Netns,
    for_seconds: u32,
    standing: Standing,
    now: Tick,
) -> BackendId {
    let known = affinity::recall::<F>(&key(service, netns), for_seconds, standing, now);
    known.map_or(BackendId::NONE, |(id, _)| id)
}

/// Remembers which backend a namespace's processes are served by, if the Service port asks for it.
#[inline(never)]
fn remember<F: Datapath>(service: ServiceIndex, netns: Netns, translation: &Translation) {
    let affine = choice::service::<F>(service)
        .is_some_and(|row| choice::policy(row).affinity_seconds() != 0);
    if affine {
        let (backend, generation) = (translation.backend, translation.generation);
        affinity::remember::<F>(&key(service, netns), backend, generation, translation.used);
    }
}

/// The namespace as a client: its sockets have no address yet.
#[inline(always)]
fn key<F: Datapath>(service: ServiceIndex, netns: Netns) -> AffinityKey<F> {
    AffinityKey { service, netns: netns.0 as u32, client: <F as Family>::Addr::UNSPECIFIED }
}

#[inline(always)]
fn give<F: Datapath>(translation: &mut Translation, id: BackendId, backend: &Backend<F>) {
    translation.given = SocketAddress::new(backend.address.to_mapped(), backend.port);
    translation.backend = id;
    translation.generation = backend.generation;
}
