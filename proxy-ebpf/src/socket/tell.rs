// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Telling the agent what connected UDP sockets were given, so that it can end those whose backend
//! has stopped serving.
//!
//! A BPF iterator (Linux commit 5788b3a07fc5): whoever reads its file has this called for each UDP
//! socket of their network namespace. The kernel's own lists of sockets (`NETLINK_SOCK_DIAG`) show
//! the storage of TCP sockets only.

use core::{ffi::c_void, ptr};

use aya_ebpf::{
    bindings::seq_file,
    helpers::generated::{bpf_get_socket_cookie, bpf_seq_write, bpf_sk_storage_get},
};
use proxy_common::{
    backend::BackendId,
    socket::{Told, Translation},
};

use crate::maps::CONNECTED;

/// What the iterator has come to: `bpf_iter__udp` of the kernel, as far as it is used.
#[repr(C)]
pub struct UdpSocket {
    meta: *const Meta,
    /// Nothing at the end.
    socket: *mut c_void,
}

/// `bpf_iter_meta`, as far as it is used.
#[repr(C)]
struct Meta {
    output: *mut seq_file,
}

/// Tells of one socket.
#[inline(always)]
pub(crate) fn run(context: *const UdpSocket) -> i32 {
    // SAFETY: the kernel gives programs a valid context, and follows its pointers with them.
    unsafe {
        let socket = (*context).socket;
        if socket.is_null() {
            return 0;
        }
        let storage = (&raw const CONNECTED).cast_mut().cast();
        let known = bpf_sk_storage_get(storage, socket, ptr::null_mut(), 0);
        let Some(known) = known.cast::<Translation>().as_ref() else {
            return 0;
        };
        // On Linux before 6.5 the socket is not locked here: what is changed meanwhile has no backend.
        let backend = || (&raw const known.backend).read_volatile();
        let before = backend();
        let told = Told { cookie: bpf_get_socket_cookie(socket), translation: *known };
        if before != BackendId::NONE && before == backend() {
            let length = size_of::<Told>() as u32;
            // If there is no room for it, the kernel comes to this socket again.
            let _: i64 = bpf_seq_write((*(*context).meta).output, (&raw const told).cast(), length);
        }
    }
    0
}
