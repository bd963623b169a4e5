// SPDX-License-Identifier: Apache-2.0

//! Veths that are like network cards, for programs in drivers.

use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::libc;
use nix::net::if_::if_nametoindex;

use super::Namespace;

/// `BPF_PROG_LOAD` and `BPF_LINK_CREATE` of `linux/bpf.h`.
const LOAD: libc::c_long = 5;
const CREATE_LINK: libc::c_long = 28;
/// `BPF_PROG_TYPE_XDP` and the attach type `BPF_XDP` of `linux/bpf.h`.
const PROGRAM: u32 = 6;
const ATTACH: u32 = 37;
/// `BPF_F_XDP_HAS_FRAGS` of `linux/bpf.h`.
const FRAGS: u64 = 1 << 5;
/// `XDP_FLAGS_DRV_MODE` of `linux/if_link.h`.
const IN_DRIVER: u32 = 1 << 2;

/// `r0 = XDP_PASS; exit`.
static PASS: [u64; 2] = [2 << 32 | 0xb7, 0x95];

/// Keeps a veth like a network card, as long as it lives.
#[derive(Debug)]
pub struct Card {
    _link: OwnedFd,
}

impl Namespace {
    /// Makes `device`, a veth, send frames with complete checksums, and take
    /// what the driver at its other end sends by itself: the kernel delivers
    /// that at once only where there is a program in the driver.
    pub fn be_network_card(&self, device: &str) -> Result<Card> {
        self.disable_checksum_offload(device)?;
        let attach = || {
            let license = c"GPL";
            let mut load = [0_u64; 16];
            load[0] = u64::from(PROGRAM) | 2 << 32;
            (load[1], load[2]) = (PASS.as_ptr() as u64, license.as_ptr() as u64);
            // With jumbo frames, veths have no other.
            load[5] = FRAGS << 32;
            let program = bpf(LOAD, &mut load)?;
            let device = if_nametoindex(device)?;
            let mut create = [0_u32; 8];
            create[..4].copy_from_slice(&[
                program.as_raw_fd().cast_unsigned(),
                device,
                ATTACH,
                IN_DRIVER,
            ]);
            Ok(Card { _link: bpf(CREATE_LINK, &mut create)? })
        };
        self.run(attach).with_context(|| format!("making {device} like a network card"))
    }
}

/// Has the kernel make something of attributes, which begin `union bpf_attr`.
fn bpf<T>(command: libc::c_long, attributes: &mut [T]) -> Result<OwnedFd> {
    // SAFETY: the attributes live, as does what they point at, and have the
    // size that is told.
    let made = unsafe {
        libc::syscall(libc::SYS_bpf, command, attributes.as_mut_ptr(), size_of_val(attributes))
    };
    let made = i32::try_from(Errno::result(made)?)?;
    // SAFETY: the kernel has just made it, for nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(made) })
}
