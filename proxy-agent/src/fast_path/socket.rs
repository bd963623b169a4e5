// SPDX-License-Identifier: Apache-2.0
//! Conversations with netfilter by nfnetlink: a request, and all messages of its answer.

use std::{io, time::Duration};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_ALIGNTO, NetlinkHeader,
    NetlinkMessage, NetlinkPayload, parse_u32_be,
};
use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};
use rustix::{
    io::Errno,
    net::sockopt::{Timeout, set_socket_timeout},
};

use super::{
    error::ReadError,
    message::{Message, Objects, find},
};

/// How long the kernel may take for one message.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// A socket of nfnetlink that is connected to the kernel, so that nobody else can answer.
#[derive(Debug)]
pub(super) struct Nfnetlink {
    socket: Socket,
    sequence: u32,
}

/// How a dump has gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dump {
    /// It is all there.
    Whole,
    /// The rules changed while the kernel read them, or what was asked for is gone.
    Torn,
    /// The kernel does not know what is asked of it: it has no nftables.
    Unknown,
}

impl Nfnetlink {
    /// Opens one in the calling thread's network namespace; none if the kernel has no nfnetlink.
    pub(super) fn open() -> Result<Option<Self>, ReadError> {
        let open = || -> io::Result<Socket> {
            let socket = Socket::new(NETLINK_NETFILTER)?;
            set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE))?;
            socket.connect(&SocketAddr::new(0, 0))?;
            Ok(socket)
        };
        match open() {
            Ok(socket) => Ok(Some(Self { socket, sequence: 0 })),
            Err(error) if Errno::from_io_error(&error) == Some(Errno::PROTONOSUPPORT) => Ok(None),
            Err(error) => Err(ReadError::Open(error)),
        }
    }

    /// Asks for a list, and hands its objects to `each`, one by one.
    pub(super) fn dump(
        &mut self,
        request: Message,
        each: impl FnMut(Message) -> Result<(), ReadError>,
    ) -> Result<Dump, ReadError> {
        self.exchange(request, NLM_F_DUMP, each)
    }

    /// How often all rules have changed.
    pub(super) fn generation(&mut self) -> Result<(Dump, u32), ReadError> {
        let mut generation = 0;
        let request = Message::request(Objects::Generation, 0, &[]);
        let dump = self.exchange(request, NLM_F_ACK, |message| {
            let id = find(&message.attributes, 1)?.unwrap_or_default();
            generation = parse_u32_be(id)?;
            Ok(())
        })?;
        Ok((dump, generation))
    }

    fn exchange(
        &mut self,
        request: Message,
        flags: u16,
        mut each: impl FnMut(Message) -> Result<(), ReadError>,
    ) -> Result<Dump, ReadError> {
        self.sequence += 1;
        let payload = NetlinkPayload::InnerMessage(request);
        let mut request = NetlinkMessage::new(NetlinkHeader::default(), payload);
        request.header.flags = NLM_F_REQUEST | flags;
        request.header.sequence_number = self.sequence;
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        let _ = self.socket.send(&bytes, 0).map_err(ReadError::Exchange)?;

        let mut dump = Dump::Whole;
        loop {
            let datagram = self.receive()?;
            let mut rest = &datagram[..];
            while !rest.is_empty() {
                let message = NetlinkMessage::<Message>::deserialize(rest)?;
                let length = message.header.length as usize;
                let next = length.next_multiple_of(usize::from(NLMSG_ALIGNTO));
                rest = rest.get(next..).unwrap_or_default();
                let (header, payload) = message.into_parts();
                if header.sequence_number != self.sequence {
                    continue;
                }
                if header.flags & NLM_F_DUMP_INTR != 0 {
                    dump = Dump::Torn;
                }
                match payload {
                    NetlinkPayload::InnerMessage(object) => each(object)?,
                    NetlinkPayload::Overrun(_) => dump = Dump::Torn,
                    NetlinkPayload::Error(error) => return result(error.raw_code(), dump),
                    NetlinkPayload::Done(done) => return result(done.code, dump),
                    _ => {}
                }
            }
        }
    }

    /// The next datagram.
    fn receive(&self) -> Result<Vec<u8>, ReadError> {
        loop {
            match self.socket.recv_from_full() {
                Ok((datagram, _)) => return Ok(datagram),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(ReadError::Silent);
                }
                Err(error) => return Err(ReadError::Exchange(error)),
            }
        }
    }
}

/// What a netlink error code, a negative error number or zero, says of a dump.
fn result(code: i32, dump: Dump) -> Result<Dump, ReadError> {
    if code == 0 {
        return Ok(dump);
    }
    match Errno::from_raw_os_error(code.saturating_abs()) {
        Errno::NOENT | Errno::INTR => Ok(Dump::Torn),
        // `nfnetlink_rcv_msg` says the first of these where no module has taken the subsystem.
        Errno::INVAL | Errno::OPNOTSUPP => Ok(Dump::Unknown),
        errno => Err(ReadError::Refused(errno)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_says_how_a_dump_has_gone() {
        let of = |errno: Errno| result(-errno.raw_os_error(), Dump::Whole);
        assert_eq!(result(0, Dump::Whole).unwrap(), Dump::Whole);
        assert_eq!(result(0, Dump::Torn).unwrap(), Dump::Torn);
        assert_eq!(of(Errno::NOENT).unwrap(), Dump::Torn);
        assert_eq!(of(Errno::INVAL).unwrap(), Dump::Unknown);
        assert!(matches!(of(Errno::PERM), Err(ReadError::Refused(Errno::PERM))));
    }
}
