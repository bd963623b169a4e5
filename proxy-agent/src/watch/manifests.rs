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
//!   and when anything else in the directory is replaced (the `..data` of a ConfigMap's mount).
//! - An object in two files is taken from the one whose name comes first; in one file twice, from
//!   the first place. The other is reported, and takes over when the first goes.

mod directory;
mod document;
mod report;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeSet,
    ffi::OsString,
    path::{Path, PathBuf},
    time::Duration,
};

use notify::{
    EventKind, RecommendedWatcher, RecursiveMode, Watcher as _,
    event::{AccessKind, AccessMode, ModifyKind},
};
use tokio::{
    sync::mpsc,
    task::{self, JoinError},
    time,
};

use self::directory::{Directory, Scan};
pub use self::report::{Cause, Report};
use super::{Event, Source};
use crate::model::Kind;

/// How long to wait for more changes after one: several files are often replaced at once.
const DEBOUNCE: Duration = Duration::from_millis(5);
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
    /// The manifests in a directory.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }
}

impl Source for Manifests {
    type Error = ManifestsError;

    async fn run(self, events: mpsc::Sender<Event>) -> Result<(), ManifestsError> {
        // Watched before it is read, so that nothing is missed in between.
        let mut watch = Watch::new(&self.path)?;
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
                    if !lost {
                        report::log_lost(&error);
                    }
                    lost = true;
                }
            }
            let next = async {
                if lost {
                    time::sleep(RETRY).await;
                } else if let Some(scan) = watch.next().await {
                    return scan;
                }
                watch = watch_again(&self.path).await;
                Scan::everything()
            };
            scan = tokio::select! {
                () = events.closed() => return Ok(()),
                scan = next => scan,
            };
        }
    }
}

/// Watches a directory that may have gone, once it is there again.
async fn watch_again(path: &Path) -> Watch {
    loop {
        match Watch::new(path) {
            Ok(watch) => return watch,
            Err(_) => time::sleep(RETRY).await,
        }
    }
}

/// Says when something in the directory changes.
struct Watch {
    path: PathBuf,
    /// Stops watching when it is dropped.
    _watcher: RecommendedWatcher,
    events: mpsc::UnboundedReceiver<notify::Result<notify::Event>>,
}

impl Watch {
    fn new(path: &Path) -> Result<Self, ManifestsError> {
        let error = |source| ManifestsError::Watch { path: path.to_owned(), source };
        let (sender, events) = mpsc::unbounded_channel();
        let mut watcher = notify::recommended_watcher(move |event| {
            // Nobody listens any more: the watcher is about to be dropped too.
            let _ = sender.send(event);
        })
        .map_err(error)?;
        watcher.watch(path, RecursiveMode::NonRecursive).map_err(error)?;
        Ok(Self { path: path.to_owned(), _watcher: watcher, events })
    }

    /// What to read after the next change, and those that come with it; nothing if the directory
    /// itself has gone or been replaced, and must be watched anew.
    async fn next(&mut self) -> Option<Scan> {
        let mut scan = Scan::default();
        while scan.is_empty() {
            let event = self.events.recv().await?;
            self.note(event, &mut scan)?;
        }
        time::sleep(DEBOUNCE).await;
        while let Ok(event) = self.events.try_recv() {
            self.note(event, &mut scan)?;
        }
        Some(scan)
    }

    fn note(&self, event: notify::Result<notify::Event>, scan: &mut Scan) -> Option<()> {
        let event = event.ok()?;
        scan.all |= event.need_rescan();
        let replaced = match event.kind {
            EventKind::Access(AccessKind::Close(AccessMode::Write))
            | EventKind::Modify(ModifyKind::Name(_))
            | EventKind::Remove(_) => true,
            // A file that is being written is read when it is closed.
            EventKind::Create(_) => !event.paths.iter().all(|path| is_new_file(path)),
            _ => false,
        };
        for path in event.paths.iter().filter(|_| replaced) {
            if *path == self.path {
                return None;
            }
            match path.file_name() {
                Some(name) if directory::is_manifest(path) => {
                    let _ = scan.files.insert(name.to_owned());
                }
                _ => scan.all = true,
            }
        }
        Some(())
    }
}

/// Whether this is a file that somebody has begun to write, and not a link to one that is
/// complete.
fn is_new_file(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::symlink_metadata(path).is_ok_and(|found| found.is_file() && found.nlink() == 1)
}

/// Names of files in a directory.
type FileNames = BTreeSet<OsString>;
