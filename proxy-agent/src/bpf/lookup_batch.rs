// SPDX-License-Identifier: Apache-2.0
//! Many entries of a map with each system call. To read a hash entry by entry takes two calls for each, and begins anew
//! where the entry has been removed meanwhile.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd},
};

use aya_obj::generated::bpf_cmd::BPF_MAP_LOOKUP_BATCH;

use super::link::bpf;

/// What `BPF_MAP_LOOKUP_BATCH` takes: `batch` of `union bpf_attr`.
#[repr(C)]
#[derive(Default)]
struct Request {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map: u32,
    elem_flags: u64,
    flags: u64,
}

/// Where entries are to be written, and for how many there is room.
#[derive(Debug)]
pub(super) struct Room {
    pub(super) keys: *mut u8,
    pub(super) values: *mut u8,
    pub(super) entries: usize,
}

/// What has been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Looked {
    /// How many entries.
    pub(super) entries: usize,
    /// Whether there are no more.
    pub(super) is_last: bool,
}

/// Reads the next entries of a map, from where the former call has left off in `next`; from the beginning without
/// that. Entries that come meanwhile may be missed.
///
/// # Errors
///
/// `ENOSPC` if the next bucket of a hash has more entries than there is room for; else, if the kernel refuses it.
///
/// # Safety
///
/// There must be room for so many keys and values, of the map's sizes; `next`, and what was left off at, must have as many
/// bytes as a key of the map, and four at least.
pub(super) unsafe fn look_up(
    map: BorrowedFd<'_>,
    from: Option<&[u8]>,
    next: &mut [u8],
    room: &Room,
) -> io::Result<Looked> {
    let mut request = Request {
        in_batch: from.map_or(0, |from| from.as_ptr() as u64),
        out_batch: next.as_mut_ptr() as u64,
        keys: room.keys as u64,
        values: room.values as u64,
        count: u32::try_from(room.entries).unwrap_or(u32::MAX),
        map: map.as_raw_fd().cast_unsigned(),
        ..Request::default()
    };
    let is_last = match bpf(BPF_MAP_LOOKUP_BATCH, &mut request) {
        Ok(_) => false,
        Err(error) if error.kind() == io::ErrorKind::NotFound => true,
        Err(error) => return Err(error),
    };
    Ok(Looked { entries: request.count as usize, is_last })
}
