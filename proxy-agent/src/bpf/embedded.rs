// SPDX-License-Identifier: Apache-2.0
//! The BPF object as a part of the binary.

use aya::include_bytes_aligned;
use rustix::mm::{Advice, madvise};

/// The object as `cargo xtask build-ebpf` made it; empty if it was not there.
pub(super) static OBJECT: &[u8] =
    include_bytes_aligned!(concat!(env!("OUT_DIR"), "/sixfour.bpf.o"));

/// Gives the memory back that [`OBJECT`] takes, which is read again when it is needed.
pub(super) fn forget() {
    let page = rustix::param::page_size();
    let before = OBJECT.as_ptr().align_offset(page);
    let length = OBJECT.len().saturating_sub(before) / page * page;
    if let Some(pages) = OBJECT.get(before..before + length) {
        let start = pages.as_ptr().cast_mut().cast();
        // SAFETY: whole pages of the file that the binary is, which nobody writes: they stay what they are.
        let forgotten = unsafe { madvise(start, pages.len(), Advice::LinuxDontNeed) };
        if let Err(error) = forgotten {
            tracing::debug!(%error, "cannot give back the memory of the BPF object");
        }
    }
}
