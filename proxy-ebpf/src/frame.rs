// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Frames: what the kernel says of one, and reading and writing its bytes.

use core::ffi::c_void;

use aya_ebpf::{bindings::BPF_F_RECOMPUTE_CSUM, programs::TcContext};

use crate::load::load;

/// The length of an Ethernet header, in bytes.
pub(crate) const ETHERNET: usize = 14;
/// The flag of stores that a complete checksum of the frame must follow.
pub(crate) const RECOMPUTE: u64 = BPF_F_RECOMPUTE_CSUM as u64;

/// `skb->pkt_type` of a frame to the device's own MAC address (`if_packet.h`).
pub(crate) const PACKET_HOST: u32 = 0;
/// `skb->pkt_type` of a frame to all (`if_packet.h`).
pub(crate) const PACKET_BROADCAST: u32 = 1;
/// `skb->pkt_type` of a frame to a group (`if_packet.h`).
pub(crate) const PACKET_MULTICAST: u32 = 2;
/// `skb->pkt_type` of a unicast frame to another MAC address (`if_packet.h`).
pub(crate) const PACKET_OTHERHOST: u32 = 3;

/// The Ethernet type of a frame that is not tagged; zero for one that is: it belongs to the VLAN's
/// own device.
#[inline(always)]
pub(crate) fn ethertype(context: &TcContext) -> u16 {
    // SAFETY: the kernel gives programs a valid context.
    let skb = unsafe { &*context.skb.skb };
    if skb.vlan_present != 0 {
        return 0;
    }
    #[expect(clippy::cast_possible_truncation, reason = "a 16-bit field of the kernel's")]
    let protocol = skb.protocol as u16;
    u16::from_be(protocol)
}

/// Whom the frame is addressed to (`PACKET_HOST` and so on).
#[inline(always)]
pub(crate) fn packet_type(context: &TcContext) -> u32 {
    // SAFETY: the kernel gives programs a valid context.
    unsafe { (*context.skb.skb).pkt_type }
}

/// The index of the device that the frame is at.
#[inline(always)]
pub(crate) fn device(context: &impl Frame) -> u32 {
    context.device()
}

/// The index of the device by which the node has got the frame's packet; zero if it is a process's
/// of its own.
#[inline(always)]
pub(crate) fn came_by(context: &TcContext) -> u32 {
    // SAFETY: the kernel gives programs a valid context.
    unsafe { (*context.skb.skb).ingress_ifindex }
}

/// The bit of `skb->tc_index` that a request has from where it has been translated to where it leaves the
/// host's stack. Nobody else uses it, and the field is one that netfilter, routing and queues do not know.
const REQUEST: u32 = 1 << 14;

/// Marks a packet as a request to which no more is to be done: where it leaves, it is of no use to look for
/// it, and it might even be taken for an answer, of a flow whose client is the backend.
#[inline(always)]
pub(crate) fn mark_request(context: &TcContext) {
    // SAFETY: the kernel gives programs a valid context, of which this field may be written.
    unsafe {
        let field = &raw mut (*context.skb.skb).tc_index;
        field.write_volatile(field.read_volatile() | REQUEST);
    }
}

/// Takes that mark off; says whether it was there.
#[inline(always)]
pub(crate) fn take_request_mark(context: &TcContext) -> bool {
    // SAFETY: as above.
    unsafe {
        let field = &raw mut (*context.skb.skb).tc_index;
        let index = field.read_volatile();
        let is_marked = index & REQUEST != 0;
        if is_marked {
            field.write_volatile(index & !REQUEST);
        }
        is_marked
    }
}

/// Makes sure that the first bytes of a frame are in its linear part, where they can be read, as
/// far as it has them. What a local socket sends has its headers there: to ask the kernel without
/// need would cost a copy of each such packet's head. No more than is read may be wanted: behind it,
/// a large send (GSO) may be a list of packets, of which none may be moved.
#[inline(always)]
pub(crate) fn pull(context: &TcContext, wanted: usize) -> Option<()> {
    let wanted = context.len().min(wanted as u32);
    if context.data() + wanted as usize > context.data_end() {
        context.pull_data(wanted).ok()?;
    }
    Some(())
}

/// Makes a number opaque to the verifier, which otherwise follows every value that it can have
/// through the rest of the program on its own.
#[inline(always)]
pub(crate) fn opaque(number: u16) -> u16 {
    let mut whole = 0_u16;
    let bytes: *mut u8 = (&raw mut whole).cast();
    let [low, high] = number.to_ne_bytes();
    // SAFETY: the two bytes of this function's own number. The verifier follows what is read as it
    // was written, not what is put together.
    unsafe {
        bytes.write_volatile(low);
        bytes.add(1).write_volatile(high);
        (&raw const whole).read_volatile()
    }
}

/// A frame that a program runs on: in the host's stack, or still in its driver.
pub(crate) trait Frame {
    /// Where its linear part begins.
    fn start(&self) -> usize;
    /// Where that ends.
    fn end(&self) -> usize;
    /// The length of all of it, in bytes.
    fn length(&self) -> u32;
    /// The index of the device that it is at.
    fn device(&self) -> u32;
    /// What the kernel knows it by.
    fn raw(&self) -> *mut c_void;

    /// Whether it has so many bytes.
    #[inline(always)]
    fn holds(&self, length: u32) -> bool {
        length <= self.length()
    }
}

impl Frame for TcContext {
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
        self.len()
    }

    #[inline(always)]
    fn device(&self) -> u32 {
        // SAFETY: the kernel gives programs a valid context.
        unsafe { (*self.skb.skb).ifindex }
    }

    #[inline(always)]
    fn raw(&self) -> *mut c_void {
        self.skb.skb.cast()
    }
}

/// Reads a value at an offset of the frame's linear part.
///
/// `T` must be valid for any bytes.
#[inline(always)]
pub(crate) fn read<T: Copy, C: Frame>(context: &C, offset: usize) -> Option<T> {
    let start = context.start() + offset;
    if start + size_of::<T>() > context.end() {
        return None;
    }
    // SAFETY: within the packet, as just checked.
    Some(unsafe { load(start) })
}

/// Whether the frame is addressed to this MAC address.
#[inline(always)]
pub(crate) fn is_to(context: &impl Frame, mac: &[u8; 6]) -> bool {
    let start = context.start();
    if start + size_of_val(mac) > context.end() {
        return false;
    }
    // SAFETY: within the packet, as just checked.
    let destination: [u8; 6] = unsafe { load(start) };
    destination == *mac
}

/// Writes a value at an offset of the frame.
#[inline(always)]
pub(crate) fn store<T>(
    context: &TcContext,
    offset: usize,
    value: &T,
    flags: u64,
) -> Result<(), ()> {
    context.store(offset, value, flags).map_err(|_| ())
}

/// Turns the frame around: its MAC addresses change places.
#[inline(always)]
pub(crate) fn swap_mac_addresses(context: &TcContext) -> Result<(), ()> {
    pull(context, ETHERNET).ok_or(())?;
    let [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5]: [u8; 12] = read(context, 0).ok_or(())?;
    store(context, 0, &[s0, s1, s2, s3, s4, s5, d0, d1, d2, d3, d4, d5], 0)
}
