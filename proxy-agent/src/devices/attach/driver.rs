// SPDX-License-Identifier: Apache-2.0
//! The program in drivers. A driver may have the frames of several devices: of VLANs, and its own.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::pending,
    os::fd::AsFd as _,
};

use aya::programs::XdpMode;
use proxy_common::device::DeviceTraits;
use tracing::warn;

use super::{AttachError, DriverError, pair::State};
use crate::{
    bpf::{
        DeviceLink, Hook, Links, Object, PinnedLink,
        object::{XDP, XDP_GENERIC},
    },
    chain::chain,
    devices::{
        abilities::{Abilities, AbilityRequests},
        xdp::{Driven, Xdp},
    },
};

/// Where the program runs, and what the driver can do there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InDriver {
    /// Where.
    pub mode: Xdp,
    /// What the driver can do.
    pub abilities: Abilities,
}

impl InDriver {
    /// What the programs must know of it.
    #[must_use]
    pub const fn traits(self) -> DeviceTraits {
        let abilities = self.abilities;
        DeviceTraits::when(matches!(self.mode, Xdp::Generic), DeviceTraits::XDP_GENERIC)
            .with(DeviceTraits::when(!abilities.sends_for_others, DeviceTraits::XDP_OWN_FRAMES))
            .with(DeviceTraits::when(
                !abilities.sends_buffers_for_others,
                DeviceTraits::XDP_ONE_BUFFER,
            ))
    }
}

/// All drivers that have it, by the interface index of their device.
#[derive(Debug)]
pub(super) struct Drivers {
    links: Links,
    by_device: BTreeMap<u32, Driver>,
    /// From when some driver is to have it.
    requests: Option<AbilityRequests>,
}

impl Drivers {
    /// None yet, with links that are pinned there.
    pub(super) const fn new(links: Links) -> Self {
        Self { links, by_device: BTreeMap::new(), requests: None }
    }

    /// Puts the program where frames of a device come by, or takes it off. Where it had gone missing and cannot be put
    /// again, no user of that driver has one any more: [`Drivers::of`] says so.
    pub(super) async fn attach(
        &mut self,
        object: &mut Object,
        user: u32,
        driven: Option<&Driven>,
    ) -> Result<(), DriverError> {
        self.release(user, driven.map(|driven| driven.device));
        let Some(driven) = driven else { return Ok(()) };
        let attached = self.attach_if_able(object, user, driven).await;
        // A kernel that cannot be asked at the moment is asked again: until then, what was there stays.
        if attached.as_ref().is_err_and(|error| !matches!(error, DriverError::Abilities(_))) {
            self.release(user, None);
        }
        attached
    }

    async fn attach_if_able(
        &mut self,
        object: &mut Object,
        user: u32,
        driven: &Driven,
    ) -> Result<(), DriverError> {
        let device = driven.device;
        if driven.is_stacked {
            return Err(DriverError::Stacked { device });
        }
        // Before: many drivers reset their queues when a program comes or goes.
        let requests = match &mut self.requests {
            Some(requests) => requests,
            none => none.insert(AbilityRequests::open().await?),
        };
        for name in driven.receivers.iter().filter(|_| driven.has_vlans) {
            if requests.takes_tags(name).await? {
                return Err(DriverError::TakesTags { name: name.clone() });
            }
        }
        let is_native = driven.mode == Xdp::Native;
        if is_native && driven.delivers_by_others && !requests.of(device).await?.sends_for_others {
            return Err(DriverError::SendsNothing { name: driven.name.clone() });
        }
        attach_if_missing(&self.links, &mut self.by_device, object, user, driven)?;
        // After: some drivers send for others only while they have a program themselves.
        let abilities = if is_native { requests.of(device).await? } else { Abilities::UNSAID };
        if let Some(driver) = self.by_device.get_mut(&device) {
            driver.abilities = abilities;
        }
        Ok(())
    }

    /// Waits until some driver can do more or less than before.
    pub(super) async fn news(&mut self) {
        match &mut self.requests {
            Some(requests) => requests.news().await,
            None => pending().await,
        }
    }

    /// Where the program runs for a device.
    pub(super) fn of(&self, user: u32) -> Option<InDriver> {
        let driver = self.by_device.values().find(|driver| driver.users.contains(&user))?;
        Some(InDriver { mode: driver.mode, abilities: driver.abilities })
    }

    /// Takes the program off, as far as a device is concerned.
    pub(super) fn detach(&mut self, user: u32) {
        self.release(user, None);
    }

    /// Whether the program of a device's frames is in its driver still; its link is pinned again if the pin has gone.
    pub(super) fn look(&self, user: u32) -> Result<State, AttachError> {
        let found = self.by_device.iter().find(|(_, driver)| driver.users.contains(&user));
        let Some((device, driver)) = found else { return Ok(State::InPlace) };
        if !driver.is_in_place(*device)? {
            return Ok(State::Missing);
        }
        Ok(if driver.link.repin()? { State::Repinned } else { State::InPlace })
    }

    /// Whether a link is of a driver that has the program because of us.
    pub(super) fn has(&self, link: DeviceLink) -> bool {
        let driver = self.by_device.get(&link.device);
        driver.is_some_and(|driver| hook(driver.mode) == link.hook)
    }

    /// Has a device use no driver but this one.
    fn release(&mut self, user: u32, but: Option<u32>) {
        let unused = self.by_device.extract_if(.., |device, driver| {
            if Some(*device) != but {
                let _: bool = driver.users.remove(&user);
            }
            driver.users.is_empty()
        });
        for (device, driver) in unused {
            if let Err(error) = driver.link.remove() {
                warn!(device, error = chain(&error), "cannot take the program off the driver");
            }
        }
    }
}

/// What a link is for in this mode.
pub(super) const fn hook(mode: Xdp) -> Hook {
    match mode {
        Xdp::Generic => Hook::GenericXdp,
        Xdp::Off | Xdp::Native => Hook::NativeXdp,
    }
}

/// Puts the program into a driver, for a device, unless it is there.
fn attach_if_missing(
    links: &Links,
    drivers: &mut BTreeMap<u32, Driver>,
    object: &mut Object,
    user: u32,
    driven: &Driven,
) -> Result<(), DriverError> {
    let (device, wanted) = (driven.device, driven.mode);
    if let Some(driver) = drivers.get_mut(&device)
        && driver.is_in_place(device)?
    {
        if driver.mode == wanted {
            let _: bool = driver.users.insert(user);
            return Ok(());
        }
        let has = driver.mode;
        if driver.users.iter().any(|other| *other != user) {
            return Err(DriverError::OtherMode { device, has, wanted });
        }
    }
    // A device takes one program: what is left of the former link goes before the next one comes.
    let former = drivers.remove(&device).filter(|driver| driver.mode == wanted);
    let users = former.map(|driver| driver.users).unwrap_or_default();
    let mut attached = Driver::attach(links, object, driven)?;
    attached.users.extend(users.into_iter().chain([user]));
    let _: Option<Driver> = drivers.insert(device, attached);
    Ok(())
}

/// The program in one driver. Dropped, it stays.
#[derive(Debug)]
struct Driver {
    link: PinnedLink,
    mode: Xdp,
    abilities: Abilities,
    /// The devices whose frames come by it.
    users: BTreeSet<u32>,
}

impl Driver {
    /// Puts the program into a driver: in the link that is pinned, if that is there still, and of the same mode.
    fn attach(links: &Links, object: &mut Object, driven: &Driven) -> Result<Self, AttachError> {
        let (device, mode) = (driven.device, driven.mode);
        let wanted = hook(mode);
        for hook in [Hook::NativeXdp, Hook::GenericXdp] {
            if hook != wanted {
                // A device takes one program, in one mode.
                let _: bool = links.remove(&DeviceLink { device, hook }.to_string())?;
            }
        }
        let (name, xdp_mode) = match mode {
            Xdp::Generic => (XDP_GENERIC, XdpMode::Skb),
            Xdp::Off | Xdp::Native => (XDP, XdpMode::Driver),
        };
        let place = DeviceLink { device, hook: wanted };
        let program = object.driver_program(name)?;
        let name_of_link = place.to_string();
        let found = match links.open(&name_of_link)? {
            // A device takes one program: that of another version makes room.
            None => links.open_former(&name_of_link)?,
            own => own,
        };
        let link = match found {
            Some(link) if link.is_at(place.place())? => {
                let program = program.fd().map_err(AttachError::of(name, device))?;
                link.update(program.as_fd())?;
                links.take(link, &name_of_link)?
            }
            stale => {
                stale.map_or(Ok(()), PinnedLink::remove)?;
                let attached = program
                    .attach_to_if_index(device, xdp_mode)
                    .and_then(|id| program.take_link(id))
                    .map_err(AttachError::of(name, device))?;
                links.pin(attached, &name_of_link)?
            }
        };
        Ok(Self { link, mode, abilities: Abilities::UNSAID, users: BTreeSet::new() })
    }

    /// Whether it is there still.
    fn is_in_place(&self, device: u32) -> Result<bool, AttachError> {
        let place = DeviceLink { device, hook: hook(self.mode) }.place();
        Ok(self.link.is_at(place)?)
    }
}

#[cfg(test)]
mod tests {
    use proxy_common::device::DeviceTraits;

    use super::{Abilities, InDriver, Xdp};

    #[test]
    fn the_programs_are_told_what_a_driver_cannot_do() {
        let traits = |mode, sends_for_others, sends_buffers_for_others| {
            let abilities = Abilities { sends_for_others, sends_buffers_for_others };
            InDriver { mode, abilities }.traits()
        };
        assert_eq!(traits(Xdp::Native, true, true), DeviceTraits::default());
        assert_eq!(traits(Xdp::Native, true, false), DeviceTraits::XDP_ONE_BUFFER);
        let neither = DeviceTraits::XDP_OWN_FRAMES.with(DeviceTraits::XDP_ONE_BUFFER);
        assert_eq!(traits(Xdp::Native, false, false), neither);
        assert_eq!(traits(Xdp::Generic, true, true), DeviceTraits::XDP_GENERIC);
    }
}
