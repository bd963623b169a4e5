// SPDX-License-Identifier: Apache-2.0
//! The clsact queueing discipline of a device and its filters: what kernels without TCX have.
//!
//! Unlike links, filters outlive the process that made them; so they carry in their handle what
//! the next one must know.

use std::collections::BTreeSet;

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

    /// The devices that have one.
    pub(super) async fn devices(requests: &Requests) -> Result<Vec<u32>, NetlinkError> {
        let request = RouteNetlinkMessage::GetQueueDiscipline(TcMessage::default());
        let answers = requests.dump(request).await?;
        let devices = answers.into_iter().filter_map(|answer| match answer.payload {
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewQueueDiscipline(discipline)) => {
                let is_clsact =
                    |attribute: &TcAttribute| *attribute == TcAttribute::Kind("clsact".to_owned());
                let has_it = discipline.attributes.iter().any(is_clsact);
                has_it.then(|| discipline.header.index.cast_unsigned())
            }
            _ => None,
        });
        Ok(devices.collect())
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

    /// Our programs on a side.
    pub(super) async fn own(&self, side: Side) -> Result<Vec<Filter>, AttachError> {
        let mut filters = self.filters(side).await?;
        filters.retain(|filter| filter.is_ours(side));
        Ok(filters)
    }

    /// Whether one of our programs says that we have made the queueing discipline.
    pub(super) async fn is_made(&self) -> Result<bool, AttachError> {
        for side in Side::BOTH {
            if self.own(side).await?.iter().any(Filter::made_clsact) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Removes a filter; one that is not there is as good.
    pub(super) async fn remove(&self, side: Side, filter: &Filter) -> Result<(), AttachError> {
        let request = RouteNetlinkMessage::DelTrafficFilter(self.filter(side, filter));
        match self.requests.order(request, 0).await {
            Err(error) if error.errno() != Some(Errno::NOENT) => Err(self.error(error)),
            _ => Ok(()),
        }
    }

    /// Removes our programs, ingress first, and the queueing discipline if we have made it and nobody else uses it.
    pub(super) async fn take_off(&self) -> Result<(), AttachError> {
        let is_made = self.is_made().await?;
        for side in Side::BOTH {
            for own in self.own(side).await? {
                self.remove(side, &own).await?;
            }
        }
        if is_made { self.remove_if_empty().await } else { Ok(()) }
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
pub(super) struct Filter {
    pub(super) handle: u32,
    /// `tcm_info`: priority in the upper half, protocol in the lower, as the kernel wants it back.
    priority_and_protocol: u32,
    /// The name of its BPF program, if it has one.
    program: Option<String>,
    /// And its id.
    id: Option<u32>,
}

impl Filter {
    fn is_ours(&self, side: Side) -> bool {
        self.program.as_deref().is_some_and(|program| side.has(program))
    }

    /// Whether it holds packets back where they leave the node.
    pub(super) fn is_guard(&self, side: Side) -> bool {
        self.program.as_deref().is_some_and(|program| side.is_guard(program))
    }

    /// Whether its program has this name.
    pub(super) fn is(&self, program: &str) -> bool {
        self.program.as_deref() == Some(program)
    }

    /// Whether its program is one of these, by id.
    pub(super) fn is_of(&self, programs: &BTreeSet<u32>) -> bool {
        self.id.is_some_and(|id| programs.contains(&id))
    }

    /// Whether it says that we have made the queueing discipline.
    pub(super) fn made_clsact(&self) -> bool {
        self.handle == u32::from(handle(true))
    }

    pub(super) const fn priority(&self) -> u16 {
        (self.priority_and_protocol >> 16) as u16
    }

    fn of(message: TcMessage) -> Self {
        let options = message.attributes.into_iter().flat_map(|attribute| match attribute {
            TcAttribute::Options(options) => options,
            _ => Vec::new(),
        });
        let (mut program, mut id) = (None, None);
        for option in options {
            match option {
                TcOption::Bpf(TcFilterBpfOption::ProgName(name)) => program = Some(name),
                TcOption::Bpf(TcFilterBpfOption::ProgId(of_program)) => id = Some(of_program),
                _ => {}
            }
        }
        Self {
            handle: message.header.handle.into(),
            priority_and_protocol: message.header.info,
            program,
            id,
        }
    }
}
