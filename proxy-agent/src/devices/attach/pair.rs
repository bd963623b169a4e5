// SPDX-License-Identifier: Apache-2.0
//! The two programs on one device.

use std::{fs, io};

use aya::programs::{
    links::{FdLink, Link as _},
    tc::{NlOptions, SchedClassifierLink, TcAttachOptions},
};

use super::{
    AttachError, Requests,
    clsact::{self, Clsact},
    programs::{Programs, Side},
};
use crate::bpf::Object;

/// How often attaching is tried when the device is renamed meanwhile.
const NAME_ATTEMPTS: usize = 5;

/// The programs on one device. Dropped, they are detached in their order: what is at ingress first.
#[derive(Debug)]
pub(super) struct Pair {
    attached: Vec<OnSide>,
    device: u32,
    programs: Programs,
    /// Whether the device's clsact queueing discipline is there because of us.
    made_clsact: bool,
}

/// A program on a side.
#[derive(Debug)]
struct OnSide {
    side: Side,
    program: &'static str,
    link: SchedClassifierLink,
}

impl Pair {
    /// Attaches the programs by TCX.
    pub(super) async fn by_tcx(
        requests: &Requests,
        object: &mut Object,
        device: u32,
        programs: Programs,
    ) -> Result<Self, AttachError> {
        let options = |side: Side| TcAttachOptions::TcxOrder(side.order());
        Self::attach(requests, object, device, programs, false, options).await
    }

    /// Attaches the programs as filters of the device's clsact, which is there.
    pub(super) async fn by_clsact(
        requests: &Requests,
        object: &mut Object,
        device: u32,
        programs: Programs,
        made_clsact: bool,
    ) -> Result<Self, AttachError> {
        let options = |side| {
            TcAttachOptions::Netlink(NlOptions {
                priority: programs.priority(side),
                handle: clsact::handle(made_clsact),
                classid: None,
            })
        };
        Self::attach(requests, object, device, programs, made_clsact, options).await
    }

    async fn attach(
        requests: &Requests,
        object: &mut Object,
        device: u32,
        programs: Programs,
        made_clsact: bool,
        options: impl Fn(Side) -> TcAttachOptions,
    ) -> Result<Self, AttachError> {
        let mut attached = Vec::new();
        for side in [Side::Egress, Side::Ingress] {
            let (program, options) = (programs.on(side), || options(side));
            let link = attach(requests, object, device, (side, program), options).await?;
            attached.insert(0, OnSide { side, program, link });
        }
        Ok(Self { attached, device, programs, made_clsact })
    }

    /// Which programs these are.
    pub(super) const fn programs(&self) -> Programs {
        self.programs
    }

    /// Detaches them, and removes what clsact was made for them.
    pub(super) async fn detach(self, requests: &Requests) -> Result<(), AttachError> {
        for OnSide { program, link, .. } in self.attached {
            match link.detach().map_err(AttachError::of(program, self.device)) {
                Err(error) if !error.is_not_there() => return Err(error),
                _ => {}
            }
        }
        if self.made_clsact {
            Clsact::of(requests, self.device).remove_if_empty().await?;
        }
        Ok(())
    }

    /// Whether the programs are on the device still.
    pub(super) async fn is_in_place(&self, requests: &Requests) -> Result<bool, AttachError> {
        // Asked first, since it may be gone.
        let _ = name(requests, self.device).await?;
        for OnSide { side, link, .. } in &self.attached {
            let in_place = match <&FdLink>::try_from(link) {
                Ok(link) => is_on(link, self.device)
                    .map_err(|source| AttachError::LinkInfo { device: self.device, source })?,
                // Not a TCX link, then.
                Err(_) => Clsact::of(requests, self.device).has_own(*side).await?,
            };
            if !in_place {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Attaches one program. That takes a name, but the device is known by its index: so the name
/// must be the device's own before and after.
async fn attach(
    requests: &Requests,
    object: &mut Object,
    device: u32,
    (side, name_of_program): (Side, &'static str),
    options: impl Fn() -> TcAttachOptions,
) -> Result<SchedClassifierLink, AttachError> {
    for _ in 0..NAME_ATTEMPTS {
        let before = name(requests, device).await?;
        let program = object.program(name_of_program).map_err(AttachError::Object)?;
        let attached = program
            .attach_with_options(&before, side.attach_type(), options())
            .and_then(|id| program.take_link(id));
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

/// Whether a link is on a device still. The kernel says where a link is beside its descriptor;
/// to ask for the programs of the device instead takes `CAP_SYS_ADMIN`.
pub(super) fn is_on(link: &FdLink, device: u32) -> io::Result<bool> {
    let Ok(own) = link.info() else {
        return Ok(false);
    };
    let (id, place) = (format!("link_id:\t{}", own.id()), format!("ifindex:\t{device}"));
    for descriptor in fs::read_dir("/proc/self/fdinfo")? {
        // What another thread has closed is not it.
        let Ok(info) = fs::read_to_string(descriptor?.path()) else {
            continue;
        };
        let says = |wanted: &str| info.lines().any(|line| line == wanted);
        if says(&id) {
            return Ok(says(&place));
        }
    }
    Ok(false)
}
