// SPDX-License-Identifier: Apache-2.0

//! What the kernel knows of a TCP connection.

use std::io;
use std::mem::{self, MaybeUninit};
use std::net::TcpStream;
use std::os::fd::AsRawFd as _;
use std::time::Duration;

use nix::errno::Errno;
use nix::libc;

/// Some of what `TCP_INFO` tells (tcp(7)).
#[derive(Clone, Copy, Debug)]
pub(super) struct TcpInfo {
    /// How many segments were sent again, SYNs among them.
    pub(super) sent_again: u32,
    /// The smoothed round-trip time; right after the handshake that of the handshake. The other end's
    /// kernel answers at once, however busy the machine is.
    pub(super) round_trip: Duration,
}

impl TcpInfo {
    /// That of a connection, now.
    pub(super) fn of(stream: &TcpStream) -> io::Result<Self> {
        let mut info = MaybeUninit::<libc::tcp_info>::zeroed();
        let mut length = mem::size_of_val(&info).try_into().map_err(io::Error::other)?;
        // SAFETY: the kernel writes no more than `length` bytes to `info`, which has as many, and the descriptor is
        // open for as long as the stream lives.
        let result = unsafe {
            libc::getsockopt(
                stream.as_raw_fd(),
                libc::IPPROTO_TCP,
                libc::TCP_INFO,
                info.as_mut_ptr().cast(),
                &raw mut length,
            )
        };
        let _ = Errno::result(result)?;
        // SAFETY: all of its fields are numbers, of which those that the kernel has not written are zero.
        let info = unsafe { info.assume_init() };
        let round_trip = Duration::from_micros(info.tcpi_rtt.into());
        Ok(Self { sent_again: info.tcpi_total_retrans, round_trip })
    }
}
