// SPDX-License-Identifier: Apache-2.0

//! Switches checksum offload, as `ethtool -K DEVICE tx off` does.

use std::os::fd::AsRawFd as _;

use anyhow::{Context as _, Result, ensure};
use nix::libc::{self, c_char};
use socket2::{Domain, Socket, Type};

use super::Namespace;

/// `ETHTOOL_STXCSUM` of `linux/ethtool.h`.
const SET_TX_CHECKSUM: u32 = 0x17;

/// `struct ethtool_value` of `linux/ethtool.h`.
#[repr(C)]
struct EthtoolValue {
    command: u32,
    data: u32,
}

impl Namespace {
    /// Makes `device` send packets with full checksums, and so without
    /// segmentation offload, instead of partial ones.
    pub fn disable_checksum_offload(&self, device: &str) -> Result<()> {
        self.run(|| set_tx_checksum(device, false))
            .with_context(|| format!("disabling checksum offload of {device}"))
    }
}

fn set_tx_checksum(device: &str, on: bool) -> Result<()> {
    let mut value = EthtoolValue { command: SET_TX_CHECKSUM, data: on.into() };
    // SAFETY: all bytes zero is a valid `ifreq`.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    ensure!(device.len() < request.ifr_name.len(), "{device} is too long for a device's name");
    for (to, from) in request.ifr_name.iter_mut().zip(device.bytes()) {
        *to = c_char::from_ne_bytes([from]);
    }
    request.ifr_ifru.ifru_data = (&raw mut value).cast();
    let socket = Socket::new(Domain::UNIX, Type::DGRAM, None)?;
    // SAFETY: the request holds a terminated name and a pointer to the
    // `ethtool_value` that this command reads; both outlive the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL, &raw mut request) };
    ensure!(result == 0, std::io::Error::last_os_error());
    Ok(())
}
