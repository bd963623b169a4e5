// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Sockets of processes that no client's device serves: those of the host's network namespace, and
//! of pods where that is asked for.
//!
//! A process names a frontend, and the socket is given a backend: no packet of it is translated. It
//! goes on seeing the frontend, as the source of datagrams and as its peer. All of this happens with
//! the socket locked, in the context of the process: other programs may interrupt these, so they
//! keep nothing in memory of the processor.

pub(crate) mod choose;
pub(crate) mod connect;
mod memory;
pub(crate) mod reply;
pub(crate) mod send;
pub(crate) mod tell;

use core::ptr;

use aya_ebpf::{
    EbpfContext as _,
    helpers::generated::{bpf_get_netns_cookie, bpf_set_retval},
    programs::SockAddrContext,
};
use aya_log_ebpf::{
    debug,
    macro_support::{Level, level_enabled},
};
use proxy_common::{
    Address, Family, Port, Protocol,
    backend::BackendId,
    counter::Reason,
    event::Happening,
    frontend::ServiceIndex,
    socket::{SocketAddress, Translation},
};

use crate::{
    blame,
    counter::count_in_process,
    family::Datapath,
    maps::{ALL_NETNS, HOST_NETNS, LEFT_OUT},
    telling, traffic,
    verdict::CallVerdict,
};

/// What a process has named, or is about to be told, at a hook of the family `H`.
#[inline(always)]
pub(crate) fn named<H: Datapath>(context: &SockAddrContext) -> SocketAddress {
    // SAFETY: the kernel gives programs a valid context; the port is in the first two bytes.
    let port = unsafe { ptr::read_volatile(&raw const (*context.sock_addr).user_port) };
    SocketAddress::new(H::named(context).to_mapped(), Port::from_wire(port as u16))
}

/// Puts another address and port in its place.
#[inline(always)]
fn rename<H: Datapath>(context: &SockAddrContext, to: &SocketAddress) {
    H::rename(context, &<H as Family>::Addr::from_mapped(to.address));
    let port = u32::from(to.port.to_wire());
    // SAFETY: the kernel gives programs a valid context.
    unsafe { ptr::write_volatile(&raw mut (*context.sock_addr).user_port, port) };
}

/// The protocol of the socket.
#[inline(always)]
fn protocol(context: &SockAddrContext) -> Protocol {
    // SAFETY: the kernel gives programs a valid context.
    Protocol::new(unsafe { ptr::read_volatile(&raw const (*context.sock_addr).protocol) } as u8)
}

/// The network namespace of a socket, by its cookie.
#[derive(Clone, Copy)]
struct Netns(u64);

impl Netns {
    #[inline(always)]
    fn of(context: &SockAddrContext) -> Self {
        // SAFETY: the kernel gives programs a valid context.
        Self(unsafe { bpf_get_netns_cookie(context.as_ptr()) })
    }

    #[inline(always)]
    fn is_host(self) -> bool {
        self.0 == HOST_NETNS.load()
    }

    /// Whether processes there are served here.
    #[inline(always)]
    fn is_served(self) -> bool {
        self.is_host() || ALL_NETNS.load() != 0 && LEFT_OUT.get_ptr(self.0).is_none()
    }
}

/// Whether the backend of a translation still serves.
#[inline(always)]
fn serves<F: Datapath>(translation: &Translation) -> bool {
    translation.family == F::INDEX
        && translation.backend != BackendId::NONE
        && F::tables()
            .backends
            .get(translation.backend.0)
            .is_some_and(|backend| backend.generation == translation.generation)
}

/// Counts, and tells, that a socket was given a backend.
#[inline(always)]
fn given<F: Datapath>(translation: &Translation, protocol: Protocol) {
    count_in_process::<F>(Reason::SocketTranslated);
    let backend = F::tables().backends.get(translation.backend.0);
    let service = backend.map_or(ServiceIndex::REFUSE, |backend| backend.service);
    traffic::given_in_process::<F>(service);
    if telling::is_wanted::<F>(Happening::Socket) {
        let (asked, given) = (&translation.asked, Some(&translation.given));
        let reason = Reason::SocketTranslated;
        tell::<F>(&Telling { asked, given, service, reason, protocol });
    }
}

/// What is told of a socket.
struct Telling<'a> {
    asked: &'a SocketAddress,
    given: Option<&'a SocketAddress>,
    service: ServiceIndex,
    reason: Reason,
    protocol: Protocol,
}

#[inline(never)]
fn tell<F: Datapath>(telling: &Telling<'_>) {
    let Some(how) = Happening::of(telling.reason) else {
        return;
    };
    telling::tell::<F>(how, |event| {
        event.destination = *telling.asked;
        if let Some(given) = telling.given {
            event.backend = *given;
        }
        event.service = telling.service;
        event.reason = telling.reason as u8;
        event.protocol = telling.protocol;
    });
}

/// Has a call fail, at once.
#[inline(always)]
fn fail<F: Datapath>(
    context: &SockAddrContext,
    asked: &SocketAddress,
    reason: Reason,
) -> CallVerdict {
    count_in_process::<F>(reason);
    let service = choose::service::<F>(asked, protocol(context), Netns::of(context));
    let how = if reason.is_reject() { Happening::Reject } else { Happening::Drop };
    traffic::failed_in_process::<F>(service, how);
    if telling::is_wanted::<F>(how) {
        tell::<F>(&Telling { asked, given: None, service, reason, protocol: protocol(context) });
    }
    if level_enabled(Level::Debug) {
        log::<F>(context, asked, reason);
    }
    // SAFETY: the helper takes a number, and keeps it if it is an error's.
    let _: i32 = unsafe { bpf_set_retval(-errno(reason)) };
    CallVerdict::Fail
}

/// The error that a process sees: where a packet would be refused, that of a RST or of an ICMP port
/// unreachable; where it would be dropped, one that is told apart from it.
#[inline(always)]
const fn errno(reason: Reason) -> i32 {
    const ENOBUFS: i32 = 105;
    const ECONNREFUSED: i32 = 111;
    const EHOSTUNREACH: i32 = 113;
    match reason {
        Reason::DropSocketMemory => ENOBUFS,
        Reason::DropPolicyLocal | Reason::DropSourceRange | Reason::DropUpdateRace => EHOSTUNREACH,
        _ => ECONNREFUSED,
    }
}

#[inline(never)]
fn log<F: Datapath>(context: &SockAddrContext, asked: &SocketAddress, reason: Reason) {
    let Some(name) = blame::name(reason as u8) else {
        return;
    };
    let address = <F as Family>::Addr::from_mapped(asked.address);
    debug!(
        context,
        "protocol {}, a socket to {:i} port {}: {}",
        protocol(context).number(),
        address.octets(),
        asked.port.number(),
        name
    );
}
