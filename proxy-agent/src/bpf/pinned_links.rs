// SPDX-License-Identifier: Apache-2.0
//! The links of our programs, pinned so that they outlive the agent. Their names say what they are, so that the next
//! agent can adopt them without knowing anything else.

use std::{
    collections::BTreeSet,
    fmt, fs, io,
    os::fd::BorrowedFd,
    path::{Path, PathBuf},
    str::FromStr,
};

use aya::programs::links::FdLink;

pub use super::link::{LinkState, Place};
use super::{
    Error, Former,
    link::Link,
    pins::{entries, remove_if_there},
};

/// What a link of a device is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hook {
    /// The program at tc ingress.
    Ingress,
    /// The program at tc egress.
    Egress,
    /// The program in the driver.
    NativeXdp,
    /// The program behind the driver.
    GenericXdp,
}

impl Hook {
    const ALL: [Self; 4] = [Self::Ingress, Self::Egress, Self::NativeXdp, Self::GenericXdp];

    const fn name(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
            Self::NativeXdp => "xdp-native",
            Self::GenericXdp => "xdp-generic",
        }
    }
}

/// The link of a device, as its pin names it: `<interface index>-<hook>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeviceLink {
    /// The device's interface index.
    pub device: u32,
    /// What it is for.
    pub hook: Hook,
}

impl DeviceLink {
    /// Where the kernel must say that it is.
    #[must_use]
    pub const fn place(self) -> Place {
        match self.hook {
            Hook::Ingress => Place::Ingress(self.device),
            Hook::Egress => Place::Egress(self.device),
            Hook::NativeXdp | Hook::GenericXdp => Place::Driver(self.device),
        }
    }
}

impl fmt::Display for DeviceLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.device, self.hook.name())
    }
}

/// A pin's name is none of a device's link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoDeviceLink;

impl FromStr for DeviceLink {
    type Err = NoDeviceLink;

    fn from_str(name: &str) -> Result<Self, NoDeviceLink> {
        let (device, hook) = name.split_once('-').ok_or(NoDeviceLink)?;
        let hook = Hook::ALL.into_iter().find(|known| known.name() == hook).ok_or(NoDeviceLink)?;
        Ok(Self { device: device.parse().map_err(|_| NoDeviceLink)?, hook })
    }
}

/// Where links are pinned.
#[derive(Clone, Debug)]
pub struct Links {
    directory: PathBuf,
    /// Those of other versions, whose programs serve until these do.
    former: Vec<Former>,
}

impl Links {
    /// In this directory.
    pub(crate) const fn at(directory: PathBuf) -> Self {
        Self { directory, former: Vec::new() }
    }

    /// These, and what other versions have left.
    pub(super) fn after(self, former: Vec<Former>) -> Self {
        Self { former, ..self }
    }

    /// Opens the link of this name that another version has left; nothing if there is none.
    ///
    /// # Errors
    ///
    /// If it cannot be opened.
    pub fn open_former(&self, name: &str) -> Result<Option<PinnedLink>, Error> {
        for former in &self.former {
            if let Some(link) = former.version().links().open(name)? {
                return Ok(Some(link));
            }
        }
        Ok(None)
    }

    /// The same, of a program of sockets: if what these were given means the same in both versions.
    ///
    /// # Errors
    ///
    /// If it cannot be opened.
    pub fn open_former_of_sockets(&self, name: &str) -> Result<Option<PinnedLink>, Error> {
        let means_the_same = self.former.iter().all(Former::shares_sockets);
        if means_the_same { self.open_former(name) } else { Ok(None) }
    }

    /// The ids of the programs of other versions that are still pinned.
    #[must_use]
    pub fn former_programs(&self) -> BTreeSet<u32> {
        self.former.iter().flat_map(|former| former.version().program_ids()).collect()
    }

    /// Has a link that another version has left be pinned here, and nowhere else.
    ///
    /// # Errors
    ///
    /// If it cannot be pinned here, or not be removed there.
    pub fn take(&self, link: PinnedLink, name: &str) -> Result<PinnedLink, Error> {
        let path = self.directory.join(name);
        if link.path == path {
            return Ok(link);
        }
        // At once: of two pins of one link, somebody might take one for another link, and detach it.
        fs::rename(&link.path, &path).map_err(error_of(&path))?;
        Ok(PinnedLink { path, ..link })
    }

    /// Where a link of this name is.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Opens a link that was pinned; nothing if there is none.
    ///
    /// # Errors
    ///
    /// If it cannot be opened.
    pub fn open(&self, name: &str) -> Result<Option<PinnedLink>, Error> {
        let path = self.directory.join(name);
        let link = Link::open(&path).map_err(error_of(&path))?;
        Ok(link.map(|link| PinnedLink { link, path }))
    }

    /// Pins a link that is new, instead of what else is pinned by that name: that stays where it is only if it is open.
    ///
    /// # Errors
    ///
    /// If it cannot be pinned: it is detached then.
    pub fn pin(
        &self,
        link: impl TryInto<FdLink, Error = aya::programs::links::LinkError>,
        name: &str,
    ) -> Result<PinnedLink, Error> {
        let path = self.directory.join(name);
        let link = link.try_into().map_err(Error::Link)?;
        let _: bool = remove_if_there(&path).map_err(error_of(&path))?;
        let pinned = link.pin(&path).map_err(|error| Error::PinLink(name.to_owned(), error))?;
        let opened = Link::open(&path).map_err(error_of(&path))?;
        drop(pinned);
        let link = opened.ok_or_else(|| error_of(&path)(io::ErrorKind::NotFound.into()))?;
        Ok(PinnedLink { link, path })
    }

    /// The names of what is pinned.
    ///
    /// # Errors
    ///
    /// If the directory cannot be read.
    pub fn names(&self) -> Result<BTreeSet<String>, Error> {
        let names = entries(&self.directory).map_err(error_of(&self.directory))?;
        Ok(names.into_iter().filter_map(|name| name.into_string().ok()).collect())
    }

    /// The links of devices that are pinned.
    ///
    /// # Errors
    ///
    /// If the directory cannot be read.
    pub fn of_devices(&self) -> Result<Vec<DeviceLink>, Error> {
        Ok(self.names()?.iter().filter_map(|name| name.parse().ok()).collect())
    }

    /// Takes a link's program off, and the pin; says whether there was one.
    ///
    /// # Errors
    ///
    /// If it cannot be opened or removed.
    pub fn remove(&self, name: &str) -> Result<bool, Error> {
        self.open(name)?.map_or(Ok(false), |link| link.remove().map(|()| true))
    }
}

fn error_of(path: &Path) -> impl Fn(io::Error) -> Error {
    move |error| Error::PinnedLink(path.to_owned(), error)
}

/// A link that is pinned. Dropped, it stays.
#[derive(Debug)]
pub struct PinnedLink {
    link: Link,
    path: PathBuf,
}

impl PinnedLink {
    /// Where it is, and what runs there.
    ///
    /// # Errors
    ///
    /// If the kernel does not say so.
    pub fn state(&self) -> Result<LinkState, Error> {
        self.link.state().map_err(error_of(&self.path))
    }

    /// Whether it is at this place still.
    ///
    /// # Errors
    ///
    /// If the kernel does not say so.
    pub fn is_at(&self, place: Place) -> Result<bool, Error> {
        Ok(self.state()?.place == place)
    }

    /// Has another program run where it is, from one packet to the next.
    ///
    /// # Errors
    ///
    /// If the kernel refuses.
    pub fn update(&self, program: BorrowedFd<'_>) -> Result<(), Error> {
        self.link.update(program).map_err(error_of(&self.path))
    }

    /// Pins it again if its pin has gone; says whether it had.
    ///
    /// # Errors
    ///
    /// If it cannot be pinned.
    pub fn repin(&self) -> Result<bool, Error> {
        let has_gone = !fs::exists(&self.path).map_err(error_of(&self.path))?;
        if has_gone {
            let made = self.path.parent().map_or(Ok(()), fs::create_dir_all);
            made.and_then(|()| self.link.pin(&self.path)).map_err(error_of(&self.path))?;
        }
        Ok(has_gone)
    }

    /// Takes its program off, by force: others may have it open.
    pub fn detach(self) {
        // It is detached with the last that holds it, too.
        if let Err(error) = self.link.detach() {
            tracing::debug!(link = %self.path.display(), %error, "not detached by force");
        }
    }

    /// Takes its program off, and its pin.
    ///
    /// # Errors
    ///
    /// If the pin cannot be removed.
    pub fn remove(self) -> Result<(), Error> {
        let path = self.path.clone();
        self.detach();
        remove_if_there(&path).map(drop).map_err(error_of(&path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_links_are() {
        for hook in Hook::ALL {
            let link = DeviceLink { device: 17, hook };
            assert_eq!(link.to_string().parse(), Ok(link));
        }
        assert_eq!(DeviceLink { device: 3, hook: Hook::NativeXdp }.to_string(), "3-xdp-native");
        for other in ["sixfour_conn4", "ingress", "x-ingress", "3-xdp", "udp_sockets", "3-"] {
            assert_eq!(other.parse::<DeviceLink>(), Err(NoDeviceLink), "{other}");
        }
    }
}
