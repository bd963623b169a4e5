// SPDX-License-Identifier: Apache-2.0
//! The clsact queueing discipline of a device and its filters: what kernels without TCX have.
//!
//! Unlike links, filters outlive the process that made them; so they carry in their handle what
//! the next one must know.

use aya::programs::tc::TcHandle;
use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_EXCL, NetlinkPayload};
use rtnetlink::packet_route::{
    RouteNetlinkMessage,
    tc::{TcAttribute, TcFilterBpfOption, TcHandle as Handle, TcHeader, TcMessage, TcOption},
};
use rustix::io::Errno;

use super::{AttachError, NetlinkError, Requests, programs::Side};

/// The major number of our filters' handles.
const MAJOR: u16 = 0x64;

/// The handle of our filters. It tells a later agent whether we made the queueing discipline, so
/// that it must go with them.
pub(super) const fn handle(made_clsact: bool) -> TcHandle {
    TcHandle::new(MAJOR, if made_clsact { 2 } else { 1 })
}

/// The queueing discipline of one device.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clsact<'a> {
    requests: &'a Requests,
    device: u32,
}

impl<'a> Clsact<'a> {
    pub(super) const fn of(requests: &'a Requests, device: u32) -> Self {
        Self { requests, device }
    }

    /// Makes it, and tells whether it was not there before.
    pub(super) async fn add(&self) -> Result<bool, AttachError> {
        let request = RouteNetlinkMessage::NewQueueDiscipline(self.discipline());
        match self.requests.order(request, NLM_F_CREATE | NLM_F_EXCL).await {
            Ok(()) => Ok(true),
            Err(error) if error.errno() == Some(Errno::EXIST) => Ok(false),
            Err(error) => Err(self.error(error)),
        }
    }

    /// Removes it, unless somebody's filter hangs there.
    pub(super) async fn remove_if_empty(&self) -> Result<(), AttachError> {
        for side in Side::BOTH {
            if !self.filters(side).await?.is_empty() {
                return Ok(());
            }
        }
        let request = RouteNetlinkMessage::DelQueueDiscipline(self.discipline());
        match self.requests.order(request, 0).await {
            // Somebody else has removed it.
            Err(error) if matches!(error.errno(), Some(Errno::INVAL | Errno::NOENT)) => Ok(()),
            result => result.map_err(|error| self.error(error)),
        }
    }

    /// Removes our programs, left by an agent that could not do so itself, and tells whether that
    /// agent had made the queueing discipline. Ingress first, as when detaching.
    pub(super) async fn remove_orphans(&self) -> Result<bool, AttachError> {
        let mut made_clsact = false;
        for side in Side::BOTH {
            for orphan in self.filters(side).await? {
                if !orphan.is_ours(side) {
                    continue;
                }
                made_clsact |= orphan.handle == u32::from(handle(true));
                let request = RouteNetlinkMessage::DelTrafficFilter(self.filter(side, &orphan));
                match self.requests.order(request, 0).await {
                    Err(error) if error.errno() != Some(Errno::NOENT) => {
                        return Err(self.error(error));
                    }
                    _ => {}
                }
            }
        }
        Ok(made_clsact)
    }

    /// Whether our program is there.
    pub(super) async fn has_own(&self, side: Side) -> Result<bool, AttachError> {
        let filters = self.filters(side).await?;
        Ok(filters.iter().any(|filter| filter.is_ours(side)))
    }

    async fn filters(&self, side: Side) -> Result<Vec<Filter>, AttachError> {
        let mut request = self.message();
        request.header.parent = parent(side);
        let answers = self
            .requests
            .dump(RouteNetlinkMessage::GetTrafficFilter(request))
            .await
            .map_err(|error| self.error(error))?;
        let filters = answers.into_iter().filter_map(|answer| match answer.payload {
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewTrafficFilter(filter)) => {
                Some(Filter::of(filter))
            }
            _ => None,
        });
        // Each priority is told of as well, as a filter without a handle.
        Ok(filters.filter(|filter| filter.handle != 0).collect())
    }

    fn discipline(&self) -> TcMessage {
        let mut message = self.message();
        message.header.handle = Handle { major: Handle::CLSACT.major, minor: 0 };
        message.header.parent = Handle::CLSACT;
        message.attributes = vec![TcAttribute::Kind("clsact".to_owned())];
        message
    }

    fn filter(&self, side: Side, filter: &Filter) -> TcMessage {
        let mut message = self.message();
        message.header.parent = parent(side);
        message.header.handle = filter.handle.into();
        message.header.info = filter.priority_and_protocol;
        message
    }

    fn message(&self) -> TcMessage {
        let header = TcHeader { index: self.device.cast_signed(), ..TcHeader::default() };
        TcMessage::from_parts(header, Vec::new())
    }

    fn error(&self, source: NetlinkError) -> AttachError {
        AttachError::Netlink { device: self.device, source }
    }
}

const fn parent(side: Side) -> Handle {
    Handle {
        major: Handle::CLSACT.major,
        minor: match side {
            Side::Ingress => Handle::MIN_INGRESS,
            Side::Egress => Handle::MIN_EGRESS,
        },
    }
}

/// Somebody's filter.
#[derive(Debug)]
struct Filter {
    handle: u32,
    /// `tcm_info`: priority in the upper half, protocol in the lower, as the kernel wants it back.
    priority_and_protocol: u32,
    /// The name of its BPF program, if it has one.
    program: Option<String>,
}

impl Filter {
    fn is_ours(&self, side: Side) -> bool {
        self.program.as_deref().is_some_and(|program| side.has(program))
    }

    fn of(message: TcMessage) -> Self {
        let options = message.attributes.into_iter().flat_map(|attribute| match attribute {
            TcAttribute::Options(options) => options,
            _ => Vec::new(),
        });
        let mut names = options.filter_map(|option| match option {
            TcOption::Bpf(TcFilterBpfOption::ProgName(name)) => Some(name),
            _ => None,
        });
        Self {
            handle: message.header.handle.into(),
            priority_and_protocol: message.header.info,
            program: names.next(),
        }
    }
}
