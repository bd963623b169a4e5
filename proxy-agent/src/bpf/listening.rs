// SPDX-License-Identifier: Apache-2.0
//! Listening to what programs tell as it happens.

use std::{
    fmt,
    fs::File,
    io,
    os::fd::{AsFd, BorrowedFd},
    path::{Path, PathBuf},
    ptr,
    time::Duration,
};

use aya::maps::{Map, MapData, RingBuf};
use proxy_common::{
    event::{Event, LISTENERS, Listeners},
    map_names,
};
use rustix::{
    fs::{FlockOperation, flock},
    time::{ClockId, clock_gettime},
};

use super::{Error, mapped::MappedArray, object::pinned};

/// How long programs tell somebody who does not say again that they are to.
const LEASE: Duration = Duration::from_secs(3);

/// A place among those who listen. Dropped, it is given up.
pub struct Listening {
    pins: PathBuf,
    row: MappedArray<Listeners>,
    ring: RingBuf<MapData>,
    place: usize,
    wanted: u64,
    /// What is older is another's.
    since: u64,
    lost_before: u64,
}

impl fmt::Debug for Listening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listening").field("place", &self.place).finish_non_exhaustive()
    }
}

impl Listening {
    /// Takes a place, and asks for what has one of these [bits](proxy_common::event::Happening::bit). [`renew`](Self::renew)
    /// has to be called about once a second.
    ///
    /// # Errors
    ///
    /// [`Error::Listeners`] if all places are taken; or if the tables that are pinned in the directory cannot be had.
    pub fn begin(pins: &Path, wanted: u64) -> Result<Self, Error> {
        let Map::Array(data) = pinned(pins, map_names::LISTENERS)? else {
            return Err(Error::NoMap(map_names::LISTENERS.to_owned()));
        };
        let row = MappedArray::<Listeners>::new(map_names::LISTENERS, data)?;
        // Of two who come at once, each takes its own.
        let error = |error: io::Error| Error::PinDirectory(pins.to_owned(), error);
        let directory = File::open(pins).map_err(error)?;
        flock(&directory, FlockOperation::LockExclusive).map_err(|errno| error(errno.into()))?;
        let (found, now) = (row.get(0)?, now());
        let free = (0..LISTENERS).find(|place| found.until[*place] < now);
        let place = free.ok_or(Error::Listeners)?;
        let name = map_names::EVENTS[place];
        let ring = RingBuf::try_from(pinned(pins, name)?);
        let mut listening = Self {
            pins: pins.to_owned(),
            row,
            ring: ring.map_err(|error| Error::Map(name.to_owned(), error))?,
            place,
            wanted,
            since: now,
            lost_before: found.lost[place],
        };
        listening.renew()?;
        Ok(listening)
    }

    /// Goes on listening.
    ///
    /// # Errors
    ///
    /// If the tables are pinned no more, and so are no program's any more, or will soon be none's.
    pub fn renew(&mut self) -> Result<(), Error> {
        if !self.pins.join(map_names::LISTENERS).exists() {
            return Err(Error::NoMap(map_names::LISTENERS.to_owned()));
        }
        let lease = u64::try_from(LEASE.as_nanos()).unwrap_or(u64::MAX);
        self.say(now().saturating_add(lease), self.wanted)
    }

    /// Until when what is to be told; the time before the wish, which is what programs look at first.
    fn say(&mut self, until: u64, wanted: u64) -> Result<(), Error> {
        let [wanted_word, until_word, _] = Listeners::words(self.place);
        self.row.publish(0, until_word, until)?;
        self.row.publish(0, wanted_word, wanted)
    }

    /// Takes the next event, if one is there.
    pub fn take(&mut self) -> Option<Event> {
        while let Some(item) = self.ring.next() {
            if item.len() < size_of::<Event>() {
                continue;
            }
            // SAFETY: so many bytes are there, and any are an event.
            let event = unsafe { ptr::read_unaligned(item.as_ptr().cast::<Event>()) };
            if event.at >= self.since {
                return Some(event);
            }
        }
        None
    }

    /// How many events there was no room for.
    ///
    /// # Errors
    ///
    /// If the table cannot be read.
    pub fn lost(&self) -> Result<u64, Error> {
        let lost = self.row.get(0)?.lost[self.place];
        Ok(lost.wrapping_sub(self.lost_before))
    }
}

impl AsFd for Listening {
    /// What is readable when there are events.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        let _: Result<(), Error> = self.say(0, 0);
    }
}

/// Nanoseconds of `CLOCK_MONOTONIC`.
fn now() -> u64 {
    let now = Duration::try_from(clock_gettime(ClockId::Monotonic)).unwrap_or_default();
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}
