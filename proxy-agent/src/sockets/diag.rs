// SPDX-License-Identifier: Apache-2.0
//! Connected UDP sockets, by `NETLINK_SOCK_DIAG`.
//!
//! A socket that was given a backend which stops serving is ended (`SOCK_DESTROY`): whoever waits
//! for an answer learns of it, and connects anew.
//!
//! What a socket was given, the caller must know by the socket's cookie: the kernel does not say
//! what is in the storage of UDP sockets, though it takes the request
//! (`INET_DIAG_REQ_SK_BPF_STORAGES`) and answers it for TCP. `inet_sk_diag_fill` in
//! `net/ipv4/inet_diag.c` is done with sockets that have no connections before it comes to that.
//!
//! Everything here blocks, though never for longer than [`PATIENCE`] for one message.

use std::{collections::HashSet, time::Duration};

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NetlinkMessage};
use netlink_packet_sock_diag::{
    SockDiagDestroy, SockDiagMessage,
    constants::{AF_INET, AF_INET6, IPPROTO_UDP},
    inet::{ExtensionFlags, InetRequest, SocketId, StateFlags},
};
use rustix::io::Errno;

use channel::Channel;
pub use connected::Connected;
pub use error::{Error, Lacking};

mod channel;
mod connected;
mod error;

/// How long the kernel may take for one message.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// How often a dump is begun again when the kernel's tables changed under it.
const DUMP_ATTEMPTS: usize = 10;

/// How often sockets are listed, at most, to find more that are stale. As many as have the same
/// addresses and ports may need a list each.
const PASSES: usize = 64;

/// The families of sockets. IPv6 sockets that are connected to mapped IPv4 addresses are with IPv6.
const FAMILIES: [u8; 2] = [AF_INET, AF_INET6];

/// What came of ending a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destroyed {
    /// It has ended. It exists, is connected to nothing, and `ECONNABORTED` waits in it for whoever
    /// receives or polls; to send without an address is `EDESTADDRREQ`.
    Now,
    /// At its addresses the kernel does not find it: it was closed, or connected anew, or another
    /// socket with the same addresses and ports (`SO_REUSEPORT`) is in front of it.
    NotFound,
}

/// Sockets of the network namespace in which this was opened.
///
/// After an error of another kind than [`Error::Refused`] and [`Error::Lacks`], rests of an answer
/// may be left: open another.
#[derive(Debug)]
pub struct Diag {
    channel: Channel,
}

impl Diag {
    /// Opens a socket in the calling thread's network namespace.
    ///
    /// # Errors
    ///
    /// If there is none to be had.
    pub fn open() -> Result<Self, Error> {
        Ok(Self { channel: Channel::open(PATIENCE)? })
    }

    /// Asks the kernel whether it can do what is needed, in the calling thread's network
    /// namespace. Nothing is listed and nothing ends.
    ///
    /// # Errors
    ///
    /// If the kernel says no for another reason. That the right to end sockets is missing
    /// (`CAP_NET_ADMIN` in the user namespace of the network namespace) shows in
    /// [`Diag::destroy`] only.
    pub fn probe() -> Result<Option<Lacking>, Error> {
        let attempt = || {
            let mut diag = Self::open()?;
            diag.dump(AF_INET, StateFlags::empty(), &mut Vec::new())?;
            // No socket has the port 0, and none this cookie.
            diag.destroy_id(AF_INET, SocketId::new_v4())
        };
        match attempt() {
            Ok(_) => Ok(None),
            Err(Error::Lacks(lacking)) => Ok(Some(lacking)),
            Err(error) => Err(error),
        }
    }

    /// The connected UDP sockets, each once.
    ///
    /// The kernel continues its list by counting: while sockets come and go, one may be left out.
    ///
    /// # Errors
    ///
    /// If the kernel says no, or says something that cannot be read.
    pub fn udp_sockets(&mut self) -> Result<Vec<Connected>, Error> {
        let mut sockets = Vec::new();
        for family in FAMILIES {
            self.dump(family, StateFlags::ESTABLISHED, &mut sockets)?;
        }
        // Nor does the counting keep the kernel from listing one twice.
        let mut seen = HashSet::new();
        sockets.retain(|socket| seen.insert(socket.cookie()));
        Ok(sockets)
    }

    /// Ends a socket, which is found by its addresses and known by its cookie.
    ///
    /// # Errors
    ///
    /// If the kernel cannot do that ([`Error::Lacks`]), or says no.
    pub fn destroy(&mut self, socket: &Connected) -> Result<Destroyed, Error> {
        self.destroy_id(socket.family(), socket.id().clone())
    }

    /// Ends the connected UDP sockets that are `stale`, and says how many. Lists the sockets again
    /// until no more end, for those that were left out and those that stood behind others.
    ///
    /// A socket that is being connected meanwhile may have been given what is stale and not be
    /// listed yet.
    ///
    /// # Errors
    ///
    /// As of [`Diag::destroy`] and [`Diag::udp_sockets`]. What has ended by then has ended.
    pub fn destroy_stale(
        &mut self,
        mut stale: impl FnMut(&Connected) -> bool,
    ) -> Result<usize, Error> {
        let mut ended = 0;
        for _ in 0..PASSES {
            let before = ended;
            for socket in self.udp_sockets()? {
                if stale(&socket) && self.destroy(&socket)? == Destroyed::Now {
                    ended += 1;
                }
            }
            if ended == before {
                break;
            }
        }
        Ok(ended)
    }

    /// Adds the sockets of a family that are in one of the `states`.
    fn dump(
        &mut self,
        family: u8,
        states: StateFlags,
        sockets: &mut Vec<Connected>,
    ) -> Result<(), Error> {
        let begun = sockets.len();
        let request = SockDiagMessage::InetRequest(udp(family, states, SocketId::new_v4()));
        for _ in 0..DUMP_ATTEMPTS {
            sockets.truncate(begun);
            let message = NetlinkMessage::from(request.clone());
            let answer = self.channel.exchange(message, NLM_F_DUMP, |header| {
                sockets.push(Connected::from(header));
            });
            match answer {
                Ok(answer) if answer.torn => {}
                Ok(_) => return Ok(()),
                Err(Error::Refused(Errno::NOENT)) => return Err(Lacking::Dumps.into()),
                Err(error) => return Err(error),
            }
        }
        Err(Error::Restless)
    }

    fn destroy_id(&mut self, family: u8, id: SocketId) -> Result<Destroyed, Error> {
        let request = udp(family, StateFlags::empty(), id);
        let request = SockDiagDestroy::new(SockDiagMessage::InetRequest(request));
        match self.channel.exchange(NetlinkMessage::from(request), NLM_F_ACK, |_| {}) {
            Ok(_) => Ok(Destroyed::Now),
            Err(Error::Refused(Errno::NOENT)) => Ok(Destroyed::NotFound),
            Err(Error::Refused(Errno::OPNOTSUPP)) => Err(Lacking::Destroy.into()),
            Err(error) => Err(error),
        }
    }
}

fn udp(family: u8, states: StateFlags, socket_id: SocketId) -> InetRequest {
    let extensions = ExtensionFlags::empty();
    InetRequest { family, protocol: IPPROTO_UDP, extensions, states, socket_id }
}
