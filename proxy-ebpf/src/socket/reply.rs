// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What a process is told: who has sent it a datagram, and whom its socket is connected to.

use aya_ebpf::programs::SockAddrContext;
use proxy_common::{
    backend::BackendId,
    socket::{SocketAddress, Translation},
};

use super::{named, rename, sent};
use crate::{
    family::Datapath,
    maps::{CONNECTED, SENT},
    verdict::CallVerdict,
};

/// Names the peer of a socket as its process has named it, at a hook of the family `H`.
#[inline(always)]
pub(crate) fn peer<H: Datapath>(context: &SockAddrContext) -> i32 {
    let given = named::<H>(context);
    if let Some(asked) = connected(context, &given) {
        rename::<H>(context, asked);
    }
    CallVerdict::Go as i32
}

/// Names the source of a datagram as the socket's process has named it, at a hook of the family
/// `H`.
#[inline(always)]
pub(crate) fn source<H: Datapath>(context: &SockAddrContext) -> i32 {
    let given = named::<H>(context);
    if let Some(asked) = connected(context, &given) {
        rename::<H>(context, asked);
    } else if let Some(asked) = sent(context, &given) {
        rename::<H>(context, asked);
    }
    CallVerdict::Go as i32
}

#[inline(always)]
fn connected<'a>(context: &'a SockAddrContext, given: &SocketAddress) -> Option<&'a SocketAddress> {
    // SAFETY: the storage is this socket's, which is locked.
    let known = unsafe { CONNECTED.get_ptr_mut(context).as_ref() }?;
    is_of(known, given).then_some(&known.asked)
}

/// What the socket has sent to that it was given this for.
#[inline(always)]
fn sent<'a>(context: &'a SockAddrContext, given: &SocketAddress) -> Option<&'a SocketAddress> {
    // SAFETY: the storage is this socket's, which is locked.
    let sent = unsafe { SENT.get_ptr_mut(context).as_mut() }?;
    let is_found = sent::find(sent, |known| u32::from(is_of(known, given)));
    is_found.then(|| &sent::found(sent).asked)
}

#[inline(always)]
fn is_of(known: &Translation, given: &SocketAddress) -> bool {
    known.backend != BackendId::NONE && known.given.is(given)
}
