// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Frames in their driver.

use core::ffi::c_void;

use aya_ebpf::{helpers::generated::bpf_xdp_get_buff_len, programs::XdpContext};

use crate::{frame::Frame, load::store};

impl Frame for XdpContext {
    #[inline(always)]
    fn start(&self) -> usize {
        self.data()
    }

    #[inline(always)]
    fn end(&self) -> usize {
        self.data_end()
    }

    #[inline(always)]
    fn length(&self) -> u32 {
        // SAFETY: the kernel gives programs a valid context.
        unsafe { bpf_xdp_get_buff_len(self.ctx) as u32 }
    }

    #[inline(always)]
    fn device(&self) -> u32 {
        // SAFETY: as above.
        unsafe { (*self.ctx).ingress_ifindex }
    }

    #[inline(always)]
    fn raw(&self) -> *mut c_void {
        self.ctx.cast()
    }

    /// Most frames are in one piece: the kernel need not be asked how long the others are.
    #[inline(always)]
    fn holds(&self, length: u32) -> bool {
        length as usize <= self.data_end() - self.data() || length <= self.length()
    }
}

/// Whether all of a frame lies in its linear part.
#[inline(always)]
pub(crate) fn is_in_one_buffer(context: &XdpContext) -> bool {
    context.data_end() - context.data() == context.length() as usize
}

/// Writes a value at an offset of the frame's linear part.
#[inline(always)]
pub(crate) fn write<T: Copy>(context: &XdpContext, offset: usize, value: &T) -> Option<()> {
    let start = context.data() + offset;
    if start + size_of::<T>() > context.data_end() {
        return None;
    }
    // SAFETY: within the packet, as just checked.
    unsafe { store(start, value) };
    Some(())
}
