// SPDX-License-Identifier: Apache-2.0
//! Requests to the kernel by rtnetlink, of the network namespace in which they were opened.

use std::io;

use futures_util::StreamExt as _;
use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use rtnetlink::packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::AddressMessage,
    link::{LinkAttribute, LinkExtentMask, LinkMessage},
    route::RouteMessage,
};
use thiserror::Error;
use tokio::task::JoinHandle;

use super::{
    parse,
    snapshot::{Aftermath, Change, Snapshot},
};

/// How often a dump is begun again when the kernel's tables changed under it.
const DUMP_ATTEMPTS: usize = 10;

/// The kernel could not be asked, or said no.
#[derive(Debug, Error)]
pub enum NetlinkError {
    /// No socket.
    #[error("cannot open a netlink socket")]
    Open(#[source] io::Error),
    /// The connection is gone.
    #[error("the netlink socket is closed")]
    Closed,
    /// The kernel answered with an error.
    #[error("the kernel refused a netlink request")]
    Refused(#[source] io::Error),
    /// The tables changed each time while they were read.
    #[error("the kernel's tables changed while they were read, {DUMP_ATTEMPTS} times")]
    Restless,
}

impl NetlinkError {
    /// The kernel's error number, if it answered with one.
    pub(super) fn errno(&self) -> Option<rustix::io::Errno> {
        match self {
            Self::Refused(error) => rustix::io::Errno::from_io_error(error),
            _ => None,
        }
    }
}

/// A socket for requests, and the task that serves it.
#[derive(Debug)]
pub(super) struct Requests {
    handle: rtnetlink::Handle,
    connection: JoinHandle<()>,
}

impl Drop for Requests {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Requests {
    /// Opens the socket in the calling thread's network namespace. Needs a tokio runtime.
    pub(super) fn open() -> Result<Self, NetlinkError> {
        let (mut connection, handle, _) =
            rtnetlink::new_connection().map_err(NetlinkError::Open)?;
        // The end of a dump carries a flag that says whether the dump can be trusted.
        connection.set_forward_done(true);
        Ok(Self { handle, connection: tokio::spawn(connection) })
    }

    /// Asks for all objects that are like `request`. Never half of them.
    pub(super) async fn dump(
        &self,
        request: RouteNetlinkMessage,
    ) -> Result<Vec<NetlinkMessage<RouteNetlinkMessage>>, NetlinkError> {
        for _ in 0..DUMP_ATTEMPTS {
            let answers = self.exchange(request.clone(), NLM_F_DUMP).await?;
            let torn = |answer: &NetlinkMessage<_>| answer.header.flags & NLM_F_DUMP_INTR != 0;
            if !answers.iter().any(torn) {
                return Ok(answers);
            }
        }
        Err(NetlinkError::Restless)
    }

    /// Asks for one object.
    pub(super) async fn get(
        &self,
        request: RouteNetlinkMessage,
    ) -> Result<Option<NetlinkMessage<RouteNetlinkMessage>>, NetlinkError> {
        Ok(self.exchange(request, 0).await?.into_iter().next())
    }

    /// Has something made, changed or removed.
    pub(super) async fn order(
        &self,
        request: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<(), NetlinkError> {
        let _ = self.exchange(request, NLM_F_ACK | flags).await?;
        Ok(())
    }

    async fn exchange(
        &self,
        request: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<Vec<NetlinkMessage<RouteNetlinkMessage>>, NetlinkError> {
        let mut request = NetlinkMessage::from(request);
        request.header.flags = NLM_F_REQUEST | flags;
        let mut handle = self.handle.clone();
        let mut responses = handle.request(request).map_err(|_| NetlinkError::Closed)?;
        let mut answers = Vec::new();
        while let Some(message) = responses.next().await {
            match &message.payload {
                NetlinkPayload::Error(error) if error.code.is_some() => {
                    return Err(NetlinkError::Refused(error.to_io()));
                }
                NetlinkPayload::Done(done) if done.code < 0 => {
                    return Err(NetlinkError::Refused(io::Error::from_raw_os_error(-done.code)));
                }
                _ => answers.push(message),
            }
        }
        Ok(answers)
    }

    /// Reads everything that a snapshot holds, except for the addresses of the Node.
    pub(super) async fn read(&self) -> Result<Snapshot, NetlinkError> {
        let mut snapshot = Snapshot::default();
        // Links come first: routes over devices that are not known are left out.
        let mut requests = vec![
            RouteNetlinkMessage::GetLink(link_request(0)),
            RouteNetlinkMessage::GetAddress(AddressMessage::default()),
        ];
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut request = RouteMessage::default();
            request.header.address_family = family;
            requests.push(RouteNetlinkMessage::GetRoute(request));
        }
        for request in requests {
            for message in self.dump(request).await? {
                for change in changes(message) {
                    // What a dump says is clear and complete: nothing follows from it.
                    snapshot.apply(change, &mut Aftermath::default());
                }
            }
        }
        Ok(snapshot)
    }

    /// The present state of a link; nothing if there is no such link any more.
    pub(super) async fn link(&self, index: u32) -> Result<Vec<Change>, NetlinkError> {
        let request = RouteNetlinkMessage::GetLink(link_request(index));
        match self.get(request).await {
            Ok(answer) => Ok(answer.map(changes).unwrap_or_default()),
            Err(error) if error.errno() == Some(rustix::io::Errno::NODEV) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// The present name of a link, if there is such a link.
    pub(super) async fn name(&self, index: u32) -> Result<Option<String>, NetlinkError> {
        let changes = self.link(index).await?;
        Ok(changes.into_iter().find_map(|change| match change {
            Change::Link(_, link) => Some(link.name),
            _ => None,
        }))
    }
}

fn link_request(index: u32) -> LinkMessage {
    let mut request = LinkMessage::default();
    request.header.index = index;
    let mask = vec![LinkExtentMask::SkipStats];
    request.attributes = vec![LinkAttribute::ExtMask(mask)];
    request
}

/// The changes that a message tells of.
pub(super) fn changes(message: NetlinkMessage<RouteNetlinkMessage>) -> Vec<Change> {
    let (header, payload) = message.into_parts();
    match payload {
        NetlinkPayload::InnerMessage(message) => parse::changes(&header, message),
        NetlinkPayload::Overrun(_) => vec![Change::Lost],
        _ => Vec::new(),
    }
}
