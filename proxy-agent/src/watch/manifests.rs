// SPDX-License-Identifier: Apache-2.0
//! Objects from a directory of manifests, watched for changes.
//!
//! Files that end in `.yaml`, `.yml` or `.json` and do not begin with a dot hold Services,
//! EndpointSlices, Nodes and Service CIDRs, as many as they like: one after the other, as `List`s,
//! or as the API prints lists (`ServiceList` and the like, whose items do not say their kind).
//! Other kinds are passed over. Sub-directories are not looked into.
//!
//! What a user may rely on:
//! - A file that cannot be read or parsed, or is empty, keeps the objects it had: whoever is
//!   still writing it does not take Services away. It is reported. So does an object that cannot
//!   be used, in a file that can be parsed. To remove objects, remove the file, or write it
//!   without them.
//! - A file is read when it has been closed after writing, when it is moved or linked into place,
//!   and when a link or a directory beside it is replaced (the `..data` of a ConfigMap's mount).
//!   It is not read while somebody writes to it.
//! - The directory itself may be a link that is replaced (as git-sync does it), and may go and
//!   come back; as long as it is gone, its objects stay.
//! - An object in two files is taken from the one whose name comes first; in one file twice, from
//!   the first place. The other is reported, and takes over when the first goes.

mod directory;
mod document;
mod report;
#[cfg(test)]
mod tests;
mod watched;

use std::{
    collections::BTreeSet,
    ffi::OsString,
    fs,
    path::{self, PathBuf},
    time::Duration,
};

use tokio::{
    sync::mpsc,
    task::{self, JoinError},
    time,
};
use tracing::info;

pub use self::report::{Cause, Report};
use self::{
    directory::{Directory, Scan},
    watched::Watched,
};
use super::{Event, Source};
use crate::model::Kind;

/// How long to wait before looking again for a directory that has gone.
const RETRY: Duration = Duration::from_secs(1);

/// A directory of manifests.
#[derive(Debug)]
pub struct Manifests {
    path: PathBuf,
}

/// Why a directory of manifests cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestsError {
    /// It cannot be watched.
    #[error("cannot watch the directory {}", path.display())]
    Watch {
        /// Where it should be.
        path: PathBuf,
        /// Why.
        source: notify::Error,
    },
    /// It cannot be listed.
    #[error("cannot list the directory {}", path.display())]
    List {
        /// Where it should be.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Reading it has crashed.
    #[error("reading manifests has crashed")]
    Crashed(#[source] JoinError),
}

impl Manifests {
    /// The manifests in a directory, which may be a link to one.
    ///
    /// # Errors
    ///
    /// [`ManifestsError::List`] if it is not there or may not be listed.
    pub fn new(path: impl Into<PathBuf>) -> Result<Self, ManifestsError> {
        let path = path.into();
        // What the kernel tells of is compared with it.
        let absolute = path::absolute(&path);
        match absolute.and_then(|absolute| fs::read_dir(&absolute).map(|_| absolute)) {
            Ok(path) => Ok(Self { path }),
            Err(source) => Err(ManifestsError::List { path, source }),
        }
    }
}

impl Manifests {
    /// Watches the directory, which may have gone, once it is there again.
    async fn watch_again(&self, lost: &mut bool) -> Watched {
        loop {
            match Watched::new(&self.path) {
                Ok(watched) => return watched,
                Err(error) => report::log_lost(&error, lost),
            }
            time::sleep(RETRY).await;
        }
    }
}

impl Source for Manifests {
    type Error = ManifestsError;

    async fn run(self, events: mpsc::Sender<Event>) -> Result<(), ManifestsError> {
        // Watched before it is read, so that nothing is missed in between.
        let mut watched = Watched::new(&self.path)?;
        let mut directory = Directory::new(self.path.clone());
        let mut scan = Scan::everything();
        let mut synced = Kind::ALL.map(Event::Synced).to_vec();
        let mut lost = false;
        loop {
            let changes;
            (directory, changes) = task::spawn_blocking(move || {
                let changes = directory.scan(&scan);
                (directory, changes)
            })
            .await
            .map_err(ManifestsError::Crashed)?;
            match changes {
                Ok(changes) => {
                    if lost {
                        info!(directory = %self.path.display(), "the directory is there again");
                    }
                    lost = false;
                    for report in changes.reports {
                        report.log();
                    }
                    for event in changes.events.into_iter().chain(synced.drain(..)) {
                        if events.send(event).await.is_err() {
                            return Ok(());
                        }
                    }
                }
                Err(source) => {
                    let path = self.path.clone();
                    let error = ManifestsError::List { path, source };
                    if !synced.is_empty() {
                        return Err(error);
                    }
                    report::log_lost(&error, &mut lost);
                }
            }
            let next = async {
                if lost {
                    time::sleep(RETRY).await;
                } else if let Some(scan) = watched.next().await {
                    return scan;
                }
                watched = self.watch_again(&mut lost).await;
                Scan::everything()
            };
            scan = tokio::select! {
                () = events.closed() => return Ok(()),
                scan = next => scan,
            };
        }
    }
}

/// Names of files in a directory.
type FileNames = BTreeSet<OsString>;
