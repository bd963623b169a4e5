// SPDX-License-Identifier: Apache-2.0
//! Conversations with the kernel by netlink: a request, and all messages of its answer.

use std::{io, marker::PhantomData, time::Duration};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_ALIGNTO, NetlinkDeserializable,
    NetlinkHeader, NetlinkMessage, NetlinkPayload, NetlinkSerializable,
};
use rtnetlink::sys::{Socket, SocketAddr};
use rustix::{
    io::Errno,
    net::sockopt::{Timeout, set_socket_timeout},
};

use super::AskError;

/// How long the kernel may take for one message.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// A socket for messages of one kind that is connected to the kernel, so that nobody else can answer.
#[derive(Debug)]
pub(crate) struct Channel<M> {
    socket: Socket,
    sequence: u32,
    /// What is asked for by it, as errors name it.
    subject: &'static str,
    message: PhantomData<M>,
}

/// How a dump has gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dump {
    /// It is all there.
    Whole,
    /// What was asked for changed while the kernel read it, or is gone.
    Torn,
    /// The kernel does not know what is asked of it: it has no such part.
    Unknown,
}

impl<M> Channel<M>
where
    M: NetlinkSerializable + NetlinkDeserializable,
{
    /// Opens one in the calling thread's network namespace; none if the kernel lacks this protocol.
    pub(crate) fn open(protocol: isize, subject: &'static str) -> Result<Option<Self>, AskError> {
        let open = || -> io::Result<Socket> {
            let socket = Socket::new(protocol)?;
            set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE))?;
            socket.connect(&SocketAddr::new(0, 0))?;
            Ok(socket)
        };
        match open() {
            Ok(socket) => Ok(Some(Self { socket, sequence: 0, subject, message: PhantomData })),
            Err(error) if Errno::from_io_error(&error) == Some(Errno::PROTONOSUPPORT) => Ok(None),
            Err(error) => Err(AskError::Open(subject, error)),
        }
    }

    /// Asks for a list, and hands its objects to `each`, one by one.
    pub(crate) fn dump(
        &mut self,
        request: M,
        each: impl FnMut(M) -> Result<(), AskError>,
    ) -> Result<Dump, AskError> {
        self.exchange(request, NLM_F_DUMP, each)
    }

    /// Asks for one object, and hands it to `each`.
    pub(crate) fn ask(
        &mut self,
        request: M,
        each: impl FnMut(M) -> Result<(), AskError>,
    ) -> Result<Dump, AskError> {
        self.exchange(request, NLM_F_ACK, each)
    }

    fn exchange(
        &mut self,
        request: M,
        flags: u16,
        mut each: impl FnMut(M) -> Result<(), AskError>,
    ) -> Result<Dump, AskError> {
        self.sequence += 1;
        let payload = NetlinkPayload::InnerMessage(request);
        let mut request = NetlinkMessage::new(NetlinkHeader::default(), payload);
        request.header.flags = NLM_F_REQUEST | flags;
        request.header.sequence_number = self.sequence;
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        let failed = |error| AskError::Exchange(self.subject, error);
        let _ = self.socket.send(&bytes, 0).map_err(failed)?;

        let mut dump = Dump::Whole;
        loop {
            let datagram = self.receive()?;
            let mut rest = &datagram[..];
            while !rest.is_empty() {
                let message = NetlinkMessage::<M>::deserialize(rest)?;
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
                    NetlinkPayload::Error(error) => {
                        return self.result(error.raw_code(), dump);
                    }
                    NetlinkPayload::Done(done) => return self.result(done.code, dump),
                    _ => {}
                }
            }
        }
    }

    /// The next datagram.
    fn receive(&self) -> Result<Vec<u8>, AskError> {
        loop {
            match self.socket.recv_from_full() {
                Ok((datagram, _)) => return Ok(datagram),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(AskError::Silent(self.subject));
                }
                Err(error) => return Err(AskError::Exchange(self.subject, error)),
            }
        }
    }

    fn result(&self, code: i32, dump: Dump) -> Result<Dump, AskError> {
        result(code, dump).map_err(|errno| AskError::Refused(self.subject, errno))
    }
}

/// What a netlink error code, a negative error number or zero, says of a dump.
fn result(code: i32, dump: Dump) -> Result<Dump, Errno> {
    if code == 0 {
        return Ok(dump);
    }
    match Errno::from_raw_os_error(code.saturating_abs()) {
        Errno::NOENT | Errno::INTR => Ok(Dump::Torn),
        // `nfnetlink_rcv_msg` and `xfrm_user_rcv_msg` say the first of these where no module has taken the subsystem.
        Errno::INVAL | Errno::OPNOTSUPP => Ok(Dump::Unknown),
        errno => Err(errno),
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
        assert_eq!(of(Errno::PERM), Err(Errno::PERM));
    }
}
