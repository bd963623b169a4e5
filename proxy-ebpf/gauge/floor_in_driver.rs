// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The floors of drivers: as those of the stack, but that checksums are complete, and that frames leave again.

use aya_ebpf::{
    bindings::xdp_action::XDP_TX, helpers::bpf_ktime_get_coarse_ns, programs::XdpContext,
};
use proxy_common::{clock::Tick, flow::Tuple};

use crate::{
    floor::{addresses, enter, fold, key, ports},
    frame::{Bytes as _, Layout, parse, read},
    load::store,
    tables::{COUNTS, Tabled},
};

/// Where the checksum is in a TCP header.
const CHECKSUM: usize = 16;

/// A packet of a flow: one look-up, one rewrite, and its MAC addresses change places.
#[inline(always)]
pub(crate) fn follow<F: Tabled>(context: &XdpContext) -> Option<u32> {
    let tuple = parse::<F>(context)?;
    let entry = F::tables().flows.get_ptr(&key(tuple))?;
    // SAFETY: map memory, which nobody changes here.
    let to = unsafe { (*entry).to };
    rewrite(context, &tuple, &to)
}

/// The same with a time stamp in the entry, and two counters.
#[inline(always)]
pub(crate) fn follow_and_stamp<F: Tabled>(context: &XdpContext) -> Option<u32> {
    let tuple = parse::<F>(context)?;
    let entry = F::tables().flows.get_ptr_mut(&key(tuple))?;
    // SAFETY: map memory, which nobody else changes here; the helper takes nothing.
    let to = unsafe {
        (*entry).last_seen = Tick::from_nanoseconds(bpf_ktime_get_coarse_ns());
        (*entry).to
    };
    for row in 0..2 {
        // SAFETY: this processor's own row.
        unsafe { *COUNTS.get_ptr_mut(row)? += 1 };
    }
    rewrite(context, &tuple, &to)
}

/// The first packet of a flow: see [`floor::open`](crate::floor::open).
#[inline(always)]
pub(crate) fn open<F: Tabled>(context: &XdpContext) -> Option<u32> {
    let tuple = parse::<F>(context)?;
    // SAFETY: the context is the kernel's.
    let device = unsafe { (*context.ctx).ingress_ifindex };
    let to = enter::<F>(&tuple, Some(device))?;
    rewrite(context, &tuple, &to)
}

#[inline(always)]
fn rewrite<F: Layout>(context: &XdpContext, from: &Tuple<F>, to: &Tuple<F>) -> Option<u32> {
    let (addresses, ports) = (addresses(from, to), ports(from, to));
    let at = F::TRANSPORT + CHECKSUM;
    let old: u16 = read(context, at)?;
    write(context, at, &!fold(u64::from(!old) + u64::from(addresses) + u64::from(ports)))?;
    if let Some(at) = F::HEADER_CHECKSUM {
        let old: u16 = read(context, at)?;
        write(context, at, &!fold(u64::from(!old) + u64::from(addresses)))?;
    }
    // A tuple lies in memory as addresses and ports lie in a packet without options.
    write(context, F::ADDRESSES, to)?;
    swap(context)
}

/// Sends a frame back: its MAC addresses change places.
#[inline(always)]
pub(crate) fn swap(context: &XdpContext) -> Option<u32> {
    let [there, here]: [[u8; 6]; 2] = read(context, 0)?;
    write(context, 0, &[here, there])?;
    Some(XDP_TX)
}

/// Writes a value of the frame's linear part.
#[inline(always)]
fn write<T: Copy>(context: &XdpContext, offset: usize, value: &T) -> Option<()> {
    let (start, end) = context.range();
    let start = start + offset;
    if start + size_of::<T>() > end {
        return None;
    }
    // SAFETY: within the packet, as just checked.
    unsafe { store(start, value) };
    Some(())
}
