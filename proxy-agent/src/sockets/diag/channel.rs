// SPDX-License-Identifier: Apache-2.0
//! One request to the kernel at a time, and all messages of its answer.

use std::{os::fd::OwnedFd, time::Duration};

use netlink_packet_core::{
    DecodeError, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_ALIGNTO, NetlinkMessage, NetlinkPayload,
    NetlinkSerializable,
};
use netlink_packet_sock_diag::{SockDiagMessage, inet::InetResponseHeader};
use rustix::{
    io::{Errno, retry_on_intr},
    net::{
        AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, connect, netlink, recv, send,
        socket_with,
        sockopt::{Timeout, set_socket_timeout},
    },
};

use super::error::{Error, Lacking};

/// As long as a datagram of a dump can be: the kernel fills up to 32 KiB, and goes beyond only for
/// a socket whose attributes alone are longer (`inet_sk_diag_fill`).
const LONGEST: usize = 1 << 16;

/// A netlink socket that is connected to the kernel, so that nobody else can answer.
#[derive(Debug)]
pub(super) struct Channel {
    socket: OwnedFd,
    buffer: Vec<u8>,
    sequence: u32,
}

/// An answer that is complete.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Answer {
    /// Whether the tables changed while the kernel read them, so that it says half of each.
    pub(super) torn: bool,
}

impl Channel {
    /// Opens one in the calling thread's network namespace that waits for a message as long as
    /// `patience`.
    pub(super) fn open(patience: Duration) -> Result<Self, Error> {
        let kernel = netlink::SocketAddrNetlink::new(0, 0);
        let open = || {
            let (family, kind) = (AddressFamily::NETLINK, SocketType::DGRAM);
            let protocol = Some(netlink::SOCK_DIAG);
            let socket = socket_with(family, kind, SocketFlags::CLOEXEC, protocol)?;
            set_socket_timeout(&socket, Timeout::Recv, Some(patience))?;
            connect(&socket, &kernel)?;
            Ok(socket)
        };
        match open() {
            Ok(socket) => Ok(Self { socket, buffer: vec![0; LONGEST], sequence: 0 }),
            Err(Errno::PROTONOSUPPORT) => Err(Lacking::Dumps.into()),
            Err(errno) => Err(Error::Open(errno)),
        }
    }

    /// Asks, and hands what is said of sockets to `each`, one by one.
    pub(super) fn exchange<R: NetlinkSerializable>(
        &mut self,
        mut request: NetlinkMessage<R>,
        flags: u16,
        mut each: impl FnMut(InetResponseHeader),
    ) -> Result<Answer, Error> {
        self.sequence = self.sequence.wrapping_add(1);
        request.header.flags = NLM_F_REQUEST | flags;
        request.header.sequence_number = self.sequence;
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        let _ = retry_on_intr(|| send(&self.socket, &bytes, SendFlags::empty()))
            .map_err(Error::Exchange)?;

        let mut answer = Answer::default();
        loop {
            let length = self.receive()?;
            for message in messages(&self.buffer[..length]) {
                let (header, payload) = message?.into_parts();
                if header.sequence_number != self.sequence {
                    continue;
                }
                answer.torn |= header.flags & NLM_F_DUMP_INTR != 0;
                match payload {
                    NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(response)) => {
                        each(response.header);
                    }
                    NetlinkPayload::Overrun(_) => answer.torn = true,
                    NetlinkPayload::Error(error) => {
                        return result(error.raw_code()).map(|()| answer);
                    }
                    NetlinkPayload::Done(done) => {
                        return result(done.code).map(|()| answer);
                    }
                    _ => {}
                }
            }
        }
    }

    /// The length of the next datagram, which is in the buffer then.
    fn receive(&mut self) -> Result<usize, Error> {
        let received = retry_on_intr(|| recv(&self.socket, &mut self.buffer[..], RecvFlags::TRUNC));
        match received {
            Ok((_, length)) if length > self.buffer.len() => Err(Error::Truncated(length)),
            Ok((_, length)) => Ok(length),
            Err(Errno::AGAIN) => Err(Error::Silent),
            Err(errno) => Err(Error::Exchange(errno)),
        }
    }
}

/// What a netlink error code says: a negative error number, or zero.
fn result(code: i32) -> Result<(), Error> {
    match code {
        0 => Ok(()),
        code => Err(Error::Refused(Errno::from_raw_os_error(code.saturating_abs()))),
    }
}

/// The messages of a datagram, up to the first that cannot be read.
fn messages(
    mut datagram: &[u8],
) -> impl Iterator<Item = Result<NetlinkMessage<SockDiagMessage>, DecodeError>> {
    std::iter::from_fn(move || {
        if datagram.is_empty() {
            return None;
        }
        let message = NetlinkMessage::deserialize(datagram);
        datagram = match &message {
            Ok(message) => {
                let length = message.header.length as usize;
                let next = length.next_multiple_of(usize::from(NLMSG_ALIGNTO));
                datagram.get(next..).unwrap_or_default()
            }
            // Where the next one would begin is not known.
            Err(_) => &[],
        };
        Some(message)
    })
}

#[cfg(test)]
mod tests;
