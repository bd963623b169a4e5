// SPDX-License-Identifier: Apache-2.0

//! Switches offloads, as `ethtool -K` does.

use std::os::fd::AsRawFd as _;

use anyhow::{Context as _, Result, ensure};
use nix::libc::{self, c_char};
use socket2::{Domain, Socket, Type};

use super::Namespace;

/// `ETHTOOL_STXCSUM` of `linux/ethtool.h`.
const SET_TX_CHECKSUM: u32 = 0x17;
/// `ETHTOOL_SGRO` of `linux/ethtool.h`.
const SET_GRO: u32 = 0x2c;
/// `ETHTOOL_GFLAGS` and `ETHTOOL_SFLAGS` of `linux/ethtool.h`.
const GET_FLAGS: u32 = 0x25;
const SET_FLAGS: u32 = 0x26;
/// `ETH_FLAG_TXVLAN` and `ETH_FLAG_RXVLAN` of `linux/ethtool.h`.
const TX_VLAN: u32 = 1 << 7;
const RX_VLAN: u32 = 1 << 8;

/// `struct ethtool_value` of `linux/ethtool.h`.
#[repr(C)]
struct EthtoolValue {
    command: u32,
    data: u32,
}

impl Namespace {
    /// Makes `device` send packets with full checksums, and so without
    /// segmentation offload, instead of partial ones (`tx off`).
    pub fn disable_checksum_offload(&self, device: &str) -> Result<()> {
        self.run(|| switch(device, SET_TX_CHECKSUM, false))
            .with_context(|| format!("disabling checksum offload of {device}"))
    }

    /// Has `device` join segments that it receives (`gro on`); one of a veth
    /// pair then takes what programs in the other end's driver send.
    pub fn join_segments(&self, device: &str) -> Result<()> {
        self.run(|| switch(device, SET_GRO, true))
            .with_context(|| format!("enabling GRO of {device}"))
    }

    /// Makes `device` write VLAN tags into frames, where a driver's program at
    /// the other end sees them (`txvlan off`).
    pub fn write_vlan_tags(&self, device: &str) -> Result<()> {
        self.disable(device, TX_VLAN)
    }

    /// Has `device` leave VLAN tags in the frames that it receives (`rxvlan
    /// off`).
    pub fn leave_vlan_tags(&self, device: &str) -> Result<()> {
        self.disable(device, RX_VLAN)
    }

    fn disable(&self, device: &str, flag: u32) -> Result<()> {
        let switch = || {
            let flags = order(device, GET_FLAGS, 0)?;
            order(device, SET_FLAGS, flags & !flag).map(drop)
        };
        self.run(switch).with_context(|| format!("disabling VLAN offload of {device}"))
    }
}

fn switch(device: &str, command: u32, on: bool) -> Result<()> {
    order(device, command, on.into()).map(drop)
}

/// Gives a device an order with a value; returns what the kernel has left there.
fn order(device: &str, command: u32, data: u32) -> Result<u32> {
    let mut value = EthtoolValue { command, data };
    // SAFETY: it is what these commands read or write.
    unsafe { ethtool(device, (&raw mut value).cast()) }?;
    Ok(value.data)
}

/// Asks the kernel about a device of the calling thread's namespace, or orders something.
///
/// # Safety
///
/// `request` must point to what its command, which it begins with, reads and writes.
pub(super) unsafe fn ethtool(device: &str, request: *mut c_char) -> Result<()> {
    // SAFETY: all bytes zero is a valid `ifreq`.
    let mut named: libc::ifreq = unsafe { std::mem::zeroed() };
    ensure!(device.len() < named.ifr_name.len(), "{device} is too long for a device's name");
    for (to, from) in named.ifr_name.iter_mut().zip(device.bytes()) {
        *to = c_char::from_ne_bytes([from]);
    }
    named.ifr_ifru.ifru_data = request;
    let socket = Socket::new(Domain::UNIX, Type::DGRAM, None)?;
    // SAFETY: it holds a terminated name, and a pointer of which the caller has promised enough.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL, &raw mut named) };
    ensure!(result == 0, std::io::Error::last_os_error());
    Ok(())
}
