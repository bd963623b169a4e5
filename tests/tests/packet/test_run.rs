// SPDX-License-Identifier: Apache-2.0

//! `BPF_PROG_TEST_RUN`. The library that loads the programs does not let its users set all that it takes.

use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};

use anyhow::Result;
use nix::errno::Errno;
use nix::libc;

/// Room for what a program may add to a frame.
const HEADROOM: usize = 256;

/// `BPF_PROG_TEST_RUN` of `linux/bpf.h`.
const TEST_RUN: libc::c_long = 10;
/// `BPF_F_TEST_SKB_CHECKSUM_COMPLETE` of `linux/bpf.h`, which kernels since 6.11 know, and some
/// before.
const CHECKSUM_COMPLETE: u32 = 1 << 2;

/// A program, to be run on a frame that has come from the network, without a checksum that somebody
/// has verified.
pub(crate) struct TestRun<'a> {
    program: BorrowedFd<'a>,
    frame: &'a [u8],
    came_by: Option<u32>,
    flags: u32,
}

impl<'a> TestRun<'a> {
    pub(crate) fn new(program: &'a impl AsFd, frame: &'a [u8]) -> Self {
        Self { program: program.as_fd(), frame, came_by: None, flags: 0 }
    }

    /// On a frame that is about to leave, and has come by the device with this index.
    pub(crate) const fn came_by(mut self, device: u32) -> Self {
        self.came_by = Some(device);
        self
    }

    /// On a frame whose device has summed it up (`CHECKSUM_COMPLETE`).
    pub(crate) const fn summed(mut self) -> Self {
        self.flags |= CHECKSUM_COMPLETE;
        self
    }

    /// Runs it; returns its code, and the frame as it is afterwards.
    pub(crate) fn run(self) -> Result<(u32, Vec<u8>)> {
        let mut out = vec![0; self.frame.len() + HEADROOM];
        let device = self.came_by.unwrap_or_default();
        let mut context = SocketBuffer { ingress_ifindex: device, ..SocketBuffer::default() };
        let mut attributes = Attributes {
            program: self.program.as_raw_fd().cast_unsigned(),
            data_size_in: u32::try_from(self.frame.len())?,
            data_size_out: u32::try_from(out.len())?,
            data_in: self.frame.as_ptr() as u64,
            data_out: out.as_mut_ptr() as u64,
            repeat: 1,
            flags: self.flags,
            ..Attributes::default()
        };
        if self.came_by.is_some() {
            attributes.context_size_in = u32::try_from(size_of::<SocketBuffer>())?;
            attributes.context_in = (&raw mut context) as u64;
        }
        // SAFETY: what the attributes point at lives, and has the sizes that they say.
        let result = unsafe {
            let attributes: *mut Attributes = &raw mut attributes;
            libc::syscall(libc::SYS_bpf, TEST_RUN, attributes, size_of::<Attributes>())
        };
        let _: i64 = Errno::result(result)?;
        out.truncate(usize::try_from(attributes.data_size_out)?);
        Ok((attributes.result, out))
    }
}

/// The beginning of `struct __sk_buff`, of which `BPF_PROG_TEST_RUN` takes the last field.
#[repr(C)]
#[derive(Default)]
struct SocketBuffer {
    before: [u32; 9],
    ingress_ifindex: u32,
}

/// The part of `union bpf_attr` that `BPF_PROG_TEST_RUN` takes.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    program: u32,
    result: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    context_size_in: u32,
    context_size_out: u32,
    context_in: u64,
    context_out: u64,
    flags: u32,
    cpu: u32,
    batch_size: u32,
    reserved: u32,
}
