// SPDX-License-Identifier: Apache-2.0

//! What a socket hears of ICMP errors: only those that its host recognises as about its packets.

use std::io;
use std::net::{IpAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::cmsg_space;
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::sockopt::{Ipv4RecvErr, Ipv4Ttl, Ipv6RecvErr, Ipv6Ttl};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt};
use proxy_tests::cluster::PATIENCE;
use proxy_tests::family::IpFamily;

/// An error that a socket was told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    /// What the ICMP error stands for.
    pub(crate) errno: Errno,
    /// Who has sent it.
    pub(crate) reporter: IpAddr,
}

/// Has a socket remember the errors that it is told of.
pub(crate) fn remember_errors(socket: &impl AsFd, family: IpFamily) -> Result<()> {
    match family {
        IpFamily::V4 => setsockopt(socket, Ipv4RecvErr, &true)?,
        IpFamily::V6 => setsockopt(socket, Ipv6RecvErr, &true)?,
    }
    Ok(())
}

/// Gives a socket's packets this TTL or hop limit.
pub(crate) fn set_hops(socket: &impl AsFd, family: IpFamily, hops: u8) -> Result<()> {
    match family {
        IpFamily::V4 => setsockopt(socket, Ipv4Ttl, &hops.into())?,
        IpFamily::V6 => setsockopt(socket, Ipv6Ttl, &hops.into())?,
    }
    Ok(())
}

/// Has the kernel of a socket's host refuse to send what is longer than the path's MTU.
pub(crate) fn discover_path_mtu(socket: &impl AsRawFd, family: IpFamily) -> Result<()> {
    let (level, option, value) = match family {
        IpFamily::V4 => (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DO),
        IpFamily::V6 => (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_DO),
    };
    let size = libc::socklen_t::try_from(size_of_val(&value))?;
    // SAFETY: the value lives for the call, and the size is its own.
    let result = unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const value).cast(), size)
    };
    Errno::result(result).map(drop).context("setting path MTU discovery")
}

/// The MTU of the path to where a socket is connected, in bytes.
pub(crate) fn path_mtu(socket: &impl AsRawFd, family: IpFamily) -> Result<u32> {
    let (level, option) = match family {
        IpFamily::V4 => (libc::IPPROTO_IP, libc::IP_MTU),
        IpFamily::V6 => (libc::IPPROTO_IPV6, libc::IPV6_MTU),
    };
    let mut value: libc::c_int = 0;
    let mut size = libc::socklen_t::try_from(size_of_val(&value))?;
    // SAFETY: value and size live for the call, and the size is the value's.
    let result = unsafe {
        let value = (&raw mut value).cast();
        libc::getsockopt(socket.as_raw_fd(), level, option, value, &raw mut size)
    };
    let _: i32 = Errno::result(result).context("asking for the path MTU")?;
    Ok(value.try_into()?)
}

/// Waits for the next error that a socket was told of.
pub(crate) fn next_error(socket: &UdpSocket) -> Result<Told> {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        match read_error(socket.as_raw_fd()) {
            Err(Errno::EAGAIN) => std::thread::sleep(Duration::from_millis(2)),
            Err(error) => return Err(io::Error::from(error).into()),
            Ok(told) => return told.context("an error of another kind"),
        }
    }
    bail!("the socket was told of no error within {PATIENCE:?}")
}

fn read_error(socket: RawFd) -> nix::Result<Option<Told>> {
    let mut quote = [0; 256];
    let mut parts = [io::IoSliceMut::new(&mut quote)];
    let mut control = cmsg_space!(libc::sock_extended_err, libc::sockaddr_in6);
    let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
    let message = recvmsg::<SockaddrStorage>(socket, &mut parts, Some(&mut control), flags)?;
    let told = message.cmsgs()?.find_map(|control| match control {
        ControlMessageOwned::Ipv4RecvErr(error, Some(reporter)) => Some(Told {
            errno: Errno::from_raw(error.ee_errno.cast_signed()),
            reporter: IpAddr::from(reporter.sin_addr.s_addr.to_ne_bytes()),
        }),
        ControlMessageOwned::Ipv6RecvErr(error, Some(reporter)) => Some(Told {
            errno: Errno::from_raw(error.ee_errno.cast_signed()),
            reporter: IpAddr::from(reporter.sin6_addr.s6_addr),
        }),
        _ => None,
    });
    Ok(told)
}
