// SPDX-License-Identifier: Apache-2.0
//! The two programs on one device.
//!
//! What is there already, as another agent has left it, gets its new program in place: no packet meets none. Neither
//! links nor filters go when this is dropped.

use std::{mem, os::fd::AsFd as _};

use aya::programs::{
    ProgramError, SchedClassifier, TcAttachType,
    tc::{NlOptions, SchedClassifierLink, TcAttachOptions, TcHandle},
};

use super::{
    AttachError, Requests,
    clsact::{self, Clsact, Filter},
    programs::{Programs, Side},
};
use crate::bpf::{DeviceLink, Links, Object, PinnedLink, object::INGRESS};

/// How often attaching is tried when the device is renamed meanwhile.
const NAME_ATTEMPTS: usize = 5;

/// The order in which programs come.
const ORDER: [Side; 2] = [Side::Egress, Side::Ingress];

/// The programs on one device.
#[derive(Debug)]
pub(super) struct Pair {
    device: u32,
    programs: Programs,
    by: By,
}

/// By what they are there.
#[derive(Debug)]
enum By {
    /// Links that are pinned by these names.
    Tcx(Vec<(DeviceLink, PinnedLink)>),
    /// Filters.
    Clsact,
}

/// How one program comes onto a device.
enum Way {
    New(TcAttachOptions),
    /// In the place of a filter of this priority and handle.
    Instead(u16, TcHandle),
}

impl Pair {
    /// Whether the kernel has TCX, as far as a device tells.
    pub(super) async fn can_be_by_tcx(
        requests: &Requests,
        device: u32,
    ) -> Result<bool, AttachError> {
        let name = name(requests, device).await?;
        let asked = SchedClassifier::query_tcx(&name, TcAttachType::Ingress);
        // What programs these are takes CAP_SYS_ADMIN to be told: that it has TCX, it has said.
        match asked.map_err(AttachError::of(INGRESS, device)) {
            Err(error) if error.is_no_device() => Err(error),
            asked => Ok(!asked.is_err_and(|error| error.is_unsupported())),
        }
    }

    /// Puts the programs on a device by TCX: in the links that are pinned, if these are there still.
    pub(super) async fn by_tcx(
        requests: &Requests,
        object: &mut Object,
        links: &Links,
        device: u32,
        programs: Programs,
    ) -> Result<Self, AttachError> {
        let mut attached = Vec::new();
        for side in ORDER {
            let place = DeviceLink { device, hook: side.hook() };
            let name = place.to_string();
            let pinned = links.open(&name)?;
            let link = match pinned {
                Some(link) if link.is_at(place.place())? => {
                    let program = object.program(programs.on(side))?;
                    let program =
                        program.fd().map_err(AttachError::of(programs.on(side), device))?;
                    link.update(program.as_fd())?;
                    link
                }
                stale => {
                    stale.map_or(Ok(()), PinnedLink::remove)?;
                    let former = former(links, place)?;
                    let new = || Way::New(TcAttachOptions::TcxOrder(side.order(former)));
                    let program = (side, programs.on(side));
                    links.pin(attach(requests, object, device, program, new).await?, &name)?
                }
            };
            attached.push((place, link));
        }
        Ok(Self { device, programs, by: By::Tcx(attached) })
    }

    /// Puts the programs on a device as filters of its clsact, which is there: in the place of those that are like them,
    /// and beside those of another version.
    pub(super) async fn by_clsact(
        requests: &Requests,
        object: &mut Object,
        links: &Links,
        device: u32,
        programs: Programs,
        made_clsact: bool,
    ) -> Result<Self, AttachError> {
        let clsact = Clsact::of(requests, device);
        let former_programs = links.former_programs();
        for side in ORDER {
            let (former, own): (Vec<_>, Vec<_>) =
                clsact.own(side).await?.into_iter().partition(|own| own.is_of(&former_programs));
            let priority = programs.priority(side, former.iter().map(Filter::priority));
            // Where the same one is after an upgrade, it stays: two at once would translate twice.
            let stays = |own: &Filter| {
                own.priority() == priority || former.is_empty() && own.is(programs.on(side))
            };
            let (like_it, others): (Vec<_>, Vec<_>) = own.into_iter().partition(stays);
            let priority = like_it.first().map_or(priority, Filter::priority);
            let own_handle = like_it.first().map(|own| own.handle);
            let way = || match own_handle {
                Some(handle) => Way::Instead(priority, handle.into()),
                None => Way::New(TcAttachOptions::Netlink(NlOptions {
                    priority,
                    handle: clsact::handle(made_clsact),
                    classid: None,
                })),
            };
            let program = (side, programs.on(side));
            object.pin_beside(programs.on(side))?;
            let filter = attach(requests, object, device, program, way).await?;
            // Dropped, it would be removed: but filters are to outlive this process.
            mem::forget(filter);
            for other in others.into_iter().chain(like_it.into_iter().skip(1)) {
                clsact.remove(side, &other).await?;
            }
        }
        Ok(Self { device, programs, by: By::Clsact })
    }

    /// Which programs these are.
    pub(super) const fn programs(&self) -> Programs {
        self.programs
    }

    /// Whether the programs are on the device still. Links whose pins have gone are pinned again; says whether some were.
    pub(super) async fn look(&self, requests: &Requests) -> Result<State, AttachError> {
        let mut state = State::InPlace;
        match &self.by {
            By::Tcx(links) => {
                for (place, link) in links {
                    if !link.is_at(place.place())? {
                        return Ok(State::Missing);
                    }
                    if link.repin()? {
                        state = State::Repinned;
                    }
                }
            }
            By::Clsact => {
                // Asked first, since it may be gone.
                let _ = name(requests, self.device).await?;
                for side in Side::BOTH {
                    if Clsact::of(requests, self.device).own(side).await?.is_empty() {
                        return Ok(State::Missing);
                    }
                }
            }
        }
        Ok(state)
    }
}

/// Whether programs are where they have been put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// They are.
    InPlace,
    /// They are, and their pins are again.
    Repinned,
    /// One is not.
    Missing,
}

/// The program of another version that is at a place.
fn former(links: &Links, link: DeviceLink) -> Result<Option<u32>, AttachError> {
    let Some(former) = links.open_former(&link.to_string())? else { return Ok(None) };
    let state = former.state()?;
    Ok((state.place == link.place()).then_some(state.program))
}

/// Attaches one program. That takes a name, but the device is known by its index: so the name
/// must be the device's own before and after.
async fn attach(
    requests: &Requests,
    object: &mut Object,
    device: u32,
    (side, name_of_program): (Side, &'static str),
    way: impl Fn() -> Way,
) -> Result<SchedClassifierLink, AttachError> {
    for _ in 0..NAME_ATTEMPTS {
        let before = name(requests, device).await?;
        let program = object.program(name_of_program)?;
        let attached = match way() {
            Way::New(options) => program.attach_with_options(&before, side.attach_type(), options),
            Way::Instead(priority, handle) => {
                let former = SchedClassifierLink::attached(
                    &before,
                    side.attach_type(),
                    priority,
                    handle,
                    None,
                );
                former
                    .map_err(ProgramError::IOError)
                    .and_then(|former| program.attach_to_link(former))
            }
        };
        let attached = attached.and_then(|id| program.take_link(id));
        // If the name has changed, nobody knows where this link is: it is dropped.
        if name(requests, device).await? == before {
            return attached.map_err(AttachError::of(name_of_program, device));
        }
    }
    Err(AttachError::Renamed { device })
}

async fn name(requests: &Requests, device: u32) -> Result<String, AttachError> {
    let name = requests.name(device).await;
    name.map_err(|source| AttachError::Netlink { device, source })?
        .ok_or(AttachError::NoDevice { device })
}
