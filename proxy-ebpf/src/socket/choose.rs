// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! A backend for what a process has named.

use proxy_common::{
    Address as _, Family, Protocol,
    counter::Reason,
    frontend::ServiceIndex,
    service::EmptySet,
    socket::{Sent, SocketAddress, Translation},
};

use super::memory;
use crate::{choice, family::Datapath, flow};

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
    /// Refused: the tables changed under each attempt.
    Race,
}

impl Choice {
    /// Why it is refused, if it is.
    #[inline(always)]
    pub(super) const fn refusal(self) -> Option<Reason> {
        match self {
            Self::Given | Self::Stays => None,
            Self::NoPort => Some(Reason::RejectNoPort),
            Self::NoEndpoints => Some(Reason::RejectNoEndpoints),
            Self::NoLocalEndpoint => Some(Reason::DropPolicyLocal),
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

/// Chooses a backend for [`Translation::asked`], uniformly at random among the eligible. If it is one
/// that the socket was given for another address already, the next that is not takes its place.
#[inline(never)]
pub(super) fn choose<F: Datapath>(
    translation: &mut Translation,
    protocol: Protocol,
    usage: Use,
    taken: Option<&Sent>,
) -> Choice {
    let address = <F as Family>::Addr::from_mapped(translation.asked.address);
    let look_up = || choice::look_up::<F>(address, translation.asked.port, protocol);
    for _ in 0..ATTEMPTS {
        let Some(service) = look_up() else {
            return Choice::Stays;
        };
        let mut found = *translation;
        let choice = of_service::<F>(service, usage, taken, &mut found);
        // What was read may have been another frontend's: it is acted on only if it still holds.
        if look_up() == Some(service) {
            *translation = found;
            return choice;
        }
    }
    Choice::Race
}

#[inline(always)]
fn of_service<F: Datapath>(
    service: ServiceIndex,
    usage: Use,
    taken: Option<&Sent>,
    translation: &mut Translation,
) -> Choice {
    match service {
        ServiceIndex::DIRECT => return Choice::Stays,
        ServiceIndex::REFUSE => return Choice::NoPort,
        _ => {}
    }
    let Some(row) = F::tables().services.get_ptr(service.0) else {
        return Choice::Stays;
    };
    let set = choice::backend_set(row);
    let set = if usage == Use::Send { set.within_family() } else { set };
    match set.when_empty() {
        Some(EmptySet::Reject) => return Choice::NoEndpoints,
        Some(EmptySet::Drop) => return Choice::NoLocalEndpoint,
        None => {}
    }
    translation.family = F::INDEX;
    translation.used = flow::now();
    let first = choice::random(set.count());
    for behind in 0..CHOICES {
        let place = (first + behind).checked_rem(set.count());
        let found = place.and_then(|place| choice::backend::<F>(set, place));
        let Some((id, backend)) = found else {
            return Choice::Stays;
        };
        translation.given = SocketAddress::new(backend.address.to_mapped(), backend.port);
        translation.backend = id;
        translation.generation = backend.generation;
        // Only by its source port, which is the socket's, could a NAT tell apart what one backend
        // answers under two frontends.
        if taken.is_none_or(|sent| !memory::is_given(sent, translation)) {
            break;
        }
    }
    Choice::Given
}
