// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What a process is told: who has sent it a datagram, and whom its socket is connected to.

use aya_ebpf::programs::SockAddrContext;
use proxy_common::{backend::BackendId, socket::SocketAddress};

use super::{memory, named, rename};
use crate::{family::Datapath, flow::now, verdict::CallVerdict};

/// Names the peer of a socket as its process has named it, at a hook of the family `H`.
#[inline(always)]
pub(crate) fn peer<H: Datapath>(context: &SockAddrContext) -> i32 {
    let given = named::<H>(context);
    if let Some(known) = memory::last_connected(context)
        && known.backend != BackendId::NONE
        && known.given.is(&given)
    {
        rename::<H>(context, &known.asked);
    }
    CallVerdict::Go as i32
}

/// Names the source of a datagram as the socket's process has named it, at a hook of the family
/// `H`.
#[inline(always)]
pub(crate) fn source<H: Datapath>(context: &SockAddrContext) -> i32 {
    let given = named::<H>(context);
    if let Some(asked) = asked_for(context, &given) {
        rename::<H>(context, asked);
    }
    CallVerdict::Go as i32
}

/// What the process has named when it was given this.
#[inline(always)]
fn asked_for<'a>(context: &'a SockAddrContext, given: &SocketAddress) -> Option<&'a SocketAddress> {
    if let Some(known) = memory::connected(context)
        && known.given.is(given)
    {
        return Some(&known.asked);
    }
    let sent = memory::sent(context)?;
    if !memory::find_given(sent, given) {
        return None;
    }
    let known = memory::found(sent);
    known.used = now();
    Some(&known.asked)
}
