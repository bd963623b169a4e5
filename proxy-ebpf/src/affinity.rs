// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Session affinity: a client goes to the backend that it was served by before, as long as that is
//! among those that it chooses from and the Service port's time has not passed since its last flow.

use aya_ebpf::bindings::BPF_ANY;
use proxy_common::{
    affinity::{Affinity, AffinityKey},
    backend::{Backend, BackendId, Standing},
    clock::{Tick, seconds},
    counter::Reason,
};

use crate::{counter::count_in_process, family::Datapath, flow::NEW};

/// The backend that a client was served by before, if it may be again. From now on its time runs
/// anew.
#[inline(always)]
pub(crate) fn recall<F: Datapath>(
    key: &AffinityKey<F>,
    for_seconds: u32,
    standing: Standing,
    now: Tick,
) -> Option<(BackendId, &'static Backend<F>)> {
    let known = F::tables().affinities.get_ptr_mut(key)?;
    // SAFETY: map memory, which may have become another client's: see `Affinity`.
    let affinity = unsafe { *known };
    let backend: &Backend<F> = F::tables().backends.get(affinity.backend.0)?;
    if now.since(affinity.used) > seconds(for_seconds)
        || backend.service != key.service
        || backend.generation != affinity.generation
        || !backend.standing.has(standing)
    {
        return None;
    }
    // SAFETY: as above; one aligned word.
    unsafe { (*known).used = now };
    count_in_process::<F>(Reason::AffinityKept);
    Some((affinity.backend, backend))
}

/// Remembers which backend a client is served by, in the place of one that it cannot be served by
/// any more. If another processor has just done so, that one's choice stands for what comes next.
#[inline(always)]
pub(crate) fn remember<F: Datapath>(
    key: &AffinityKey<F>,
    backend: BackendId,
    generation: u32,
    now: Tick,
) {
    let affinity = Affinity { backend, generation, used: now };
    let flags = if F::tables().affinities.get_ptr(key).is_some() { BPF_ANY.into() } else { NEW };
    // Without room, which an LRU does not say, the client's next flow chooses again.
    let _: Result<(), i32> = F::tables().affinities.insert(key, &affinity, flags);
}
