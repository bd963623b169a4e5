// SPDX-License-Identifier: Apache-2.0
//! What the connected UDP sockets were given, as a BPF iterator tells it.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Read as _},
    path::PathBuf,
};

use aya::programs::links::{FdLink, PinnedLink};
use proxy_common::socket::{Told, Translation};

use super::{Error, Object, pins::remove_if_there};

/// The file that tells it, among the links.
const FILE: &str = "udp_sockets";

/// A file that tells of the connected UDP sockets of whichever network namespace it is read in. It
/// goes when this is dropped: nobody else reads it.
#[derive(Debug)]
pub struct ToldSockets {
    path: PathBuf,
    _link: PinnedLink,
}

impl ToldSockets {
    /// Pins the iterator of an object beside its maps.
    ///
    /// # Errors
    ///
    /// If the kernel refuses the iterator, or it cannot be pinned.
    pub fn pin(object: &mut Object) -> Result<Self, Error> {
        let path = object.links().path(FILE);
        let refused = |error| Error::Program(FILE.to_owned(), error);
        let program = object.udp_iterator()?;
        let id = program.attach().map_err(refused)?;
        let link = program.take_link(id).map_err(refused)?;
        let link = FdLink::try_from(link).map_err(Error::Link)?;
        // An agent that was killed has left its own.
        let _: bool = remove_if_there(&path).map_err(Error::ToldSockets)?;
        let link = link.pin(&path).map_err(Error::PinToldSockets)?;
        Ok(Self { path, _link: link })
    }

    /// What the connected UDP sockets of this thread's network namespace were given, by their
    /// cookies (`SO_COOKIE`). Sockets that name what they are connected to are not among them.
    ///
    /// # Errors
    ///
    /// If the file cannot be read.
    pub fn read(&self) -> Result<HashMap<u64, Translation>, Error> {
        let mut bytes = Vec::new();
        let read = File::open(&self.path).and_then(|mut file| file.read_to_end(&mut bytes));
        let _: usize = read.map_err(Error::ToldSockets)?;
        let (all, rest) = bytes.as_chunks::<{ size_of::<Told>() }>();
        if !rest.is_empty() {
            let error = io::Error::new(io::ErrorKind::UnexpectedEof, "it ends amid a socket");
            return Err(Error::ToldSockets(error));
        }
        let told = all.iter().map(|bytes| {
            // SAFETY: as many bytes as it has, of which any are valid: it is plain.
            unsafe { bytes.as_ptr().cast::<Told>().read_unaligned() }
        });
        Ok(told.map(|told| (told.cookie, told.translation)).collect())
    }
}

impl Drop for ToldSockets {
    fn drop(&mut self) {
        if let Err(error) = remove_if_there(&self.path) {
            tracing::warn!(file = %self.path.display(), %error, "cannot remove the list of UDP sockets");
        }
    }
}
