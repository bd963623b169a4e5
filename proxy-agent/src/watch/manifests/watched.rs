// SPDX-License-Identifier: Apache-2.0
//! Says when something in a directory of manifests changes.

use std::{
    ffi::{OsStr, OsString},
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use notify::{
    EventKind, RecommendedWatcher, RecursiveMode, Watcher as _,
    event::{AccessKind, AccessMode, ModifyKind},
};
use tokio::{sync::mpsc, time};

use super::{
    FileNames, ManifestsError,
    directory::{self, Scan},
};

/// How long to wait for more changes after one: several files are often replaced at once.
const DEBOUNCE: Duration = Duration::from_millis(5);

/// A directory that is watched, and what leads to it.
pub(super) struct Watched {
    path: PathBuf,
    /// What leads somewhere else when it is replaced: the directory, and the links on the way.
    joints: Vec<PathBuf>,
    /// Files that somebody has begun to write to.
    unfinished: FileNames,
    /// Stops watching when it is dropped.
    _watcher: RecommendedWatcher,
    events: mpsc::UnboundedReceiver<notify::Result<notify::Event>>,
}

impl Watched {
    /// Watches a directory, given by its absolute path.
    pub(super) fn new(path: &Path) -> Result<Self, ManifestsError> {
        let error = |source| ManifestsError::Watch { path: path.to_owned(), source };
        let (sender, events) = mpsc::unbounded_channel();
        let mut watcher = notify::recommended_watcher(move |event| {
            // Nobody listens any more: the watcher is about to be dropped too.
            let _ = sender.send(event);
        })
        .map_err(error)?;
        let is_link = |path: &Path| path.is_symlink();
        let links = path.ancestors().skip(1).filter(|above| is_link(above));
        let joints: Vec<_> = [path].into_iter().chain(links).map(Path::to_owned).collect();
        for parent in joints.iter().filter_map(|joint| joint.parent()) {
            watcher.watch(parent, RecursiveMode::NonRecursive).map_err(error)?;
        }
        watcher.watch(path, RecursiveMode::NonRecursive).map_err(error)?;
        let (path, unfinished) = (path.to_owned(), FileNames::new());
        Ok(Self { path, joints, unfinished, _watcher: watcher, events })
    }

    /// What to read after the next change, and those that come with it; nothing if the directory
    /// itself has gone or been replaced, and must be watched anew.
    pub(super) async fn next(&mut self) -> Option<Scan> {
        let mut scan = Scan::default();
        while scan.is_empty() {
            let event = self.events.recv().await?;
            self.note(event, &mut scan)?;
        }
        time::sleep(DEBOUNCE).await;
        while let Ok(event) = self.events.try_recv() {
            self.note(event, &mut scan)?;
        }
        scan.unfinished.clone_from(&self.unfinished);
        Some(scan)
    }

    fn note(&mut self, event: notify::Result<notify::Event>, scan: &mut Scan) -> Option<()> {
        let event = event.ok()?;
        if event.need_rescan() {
            // Whatever was unfinished may have been finished unseen.
            self.unfinished.clear();
            scan.all = true;
        }
        for path in &event.paths {
            let change = Change::of(event.kind, path);
            if self.joints.contains(path) {
                if change == Change::Replaced {
                    return None;
                }
            } else if path.parent() == Some(&self.path)
                && let Some(name) = path.file_name()
            {
                self.note_file(path, name, change, scan);
            }
        }
        Some(())
    }

    fn note_file(&mut self, path: &Path, name: &OsStr, change: Change, scan: &mut Scan) {
        let name: OsString = name.to_owned();
        match change {
            // Other files are nobody's business, but links and directories may be what manifests
            // are reached by.
            _ if !directory::is_manifest(path) => {
                let leads_on = || fs::symlink_metadata(path).is_ok_and(|found| !found.is_file());
                scan.all |= change == Change::Replaced && leads_on();
            }
            Change::Begun => {
                let _ = scan.files.remove(&name);
                let _ = self.unfinished.insert(name);
            }
            Change::Finished | Change::Replaced => {
                let _ = self.unfinished.remove(&name);
                let _ = scan.files.insert(name);
            }
            Change::Nothing => {}
        }
    }
}

/// What has happened to a file, a directory or a link.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Change {
    /// Somebody has begun to write to it, and will close it.
    Begun,
    /// Somebody who could write to it has closed it.
    Finished,
    /// Its name has come, gone, or leads to something else.
    Replaced,
    /// Nothing that matters.
    Nothing,
}

impl Change {
    fn of(kind: EventKind, path: &Path) -> Self {
        match kind {
            EventKind::Access(AccessKind::Close(AccessMode::Write)) => Self::Finished,
            EventKind::Create(_) if is_new_file(path) => Self::Begun,
            EventKind::Modify(ModifyKind::Data(_)) => Self::Begun,
            EventKind::Create(_)
            | EventKind::Remove(_)
            | EventKind::Modify(ModifyKind::Name(_)) => Self::Replaced,
            _ => Self::Nothing,
        }
    }
}

/// Whether this is a file that somebody has begun to write, and not a link to one that is
/// complete.
fn is_new_file(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.is_file() && found.nlink() == 1)
}
