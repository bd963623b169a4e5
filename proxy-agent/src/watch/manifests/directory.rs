// SPDX-License-Identifier: Apache-2.0
//! The files of a directory, what was last read of them, and what a change of them means.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::{OsStr, OsString},
    fs::{self, Metadata},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use super::{Cause, FileNames, Report, document};
use crate::{
    model::{Object, ObjectKey},
    watch::Event,
};

/// What to read again.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// Files by name, whether they look changed or not, and whether they exist or not.
    pub(super) files: FileNames,
    /// All files that look changed.
    pub(super) all: bool,
    /// But not these: somebody is writing to them.
    pub(super) unfinished: FileNames,
}

impl Scan {
    pub(super) fn everything() -> Self {
        Self { all: true, ..Self::default() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.files.is_empty() && !self.all
    }
}

/// What has changed.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub(super) events: Vec<Event>,
    pub(super) reports: Vec<Report>,
}

/// A directory of manifests.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    files: BTreeMap<OsString, File>,
    /// The files that have an object, the one that it is taken from first.
    holders: BTreeMap<ObjectKey, FileNames>,
}

#[derive(Debug, Default)]
struct File {
    /// What the file looked like when it was last read.
    stamp: Option<Stamp>,
    /// What it held when it could last be read.
    objects: BTreeMap<ObjectKey, Object>,
}

/// What tells a file from the one that was read: inode, length, and times of change in
/// nanoseconds.
#[derive(Debug, PartialEq, Eq)]
struct Stamp([u64; 3], [(i64, i64); 2]);

impl Stamp {
    fn of(found: &Metadata) -> Self {
        Self(
            [found.dev(), found.ino(), found.len()],
            [(found.mtime(), found.mtime_nsec()), (found.ctime(), found.ctime_nsec())],
        )
    }
}

/// Whether a file is read, by its name.
pub(super) fn is_manifest(path: &Path) -> bool {
    let hidden = |name: &OsStr| name.as_encoded_bytes().starts_with(b".");
    let extension = path.extension().and_then(OsStr::to_str);
    !path.file_name().is_none_or(hidden) && matches!(extension, Some("yaml" | "yml" | "json"))
}

impl Directory {
    pub(super) const fn new(path: PathBuf) -> Self {
        Self { path, files: BTreeMap::new(), holders: BTreeMap::new() }
    }

    /// Reads what is to be read, and says what that changes. An error leaves everything as it
    /// was.
    pub(super) fn scan(&mut self, scan: &Scan) -> io::Result<Changes> {
        let present = self.list()?;
        let mut changes = Changes::default();
        let mut before = BTreeMap::new();
        let gone = self.files.keys().filter(|name| !present.contains(*name));
        for name in gone.cloned().collect::<Vec<_>>() {
            let _ = self.replace(&name, BTreeMap::new(), &mut before);
            let _ = self.files.remove(&name);
        }
        for name in &present {
            let forced = scan.files.contains(name);
            if !forced && (!scan.all || scan.unfinished.contains(name)) {
                continue;
            }
            self.read(name, forced, &mut before, &mut changes.reports);
        }
        for (key, before) in before {
            let now = self.current(&key);
            if now == before.as_ref() {
                continue;
            }
            changes.events.push(match now {
                Some(object) => Event::Apply(object.clone()),
                None => Event::Delete(key),
            });
        }
        Ok(changes)
    }

    /// The names of all manifests.
    fn list(&self) -> io::Result<FileNames> {
        let mut names = BTreeSet::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            let path = entry.path();
            if is_manifest(&path) && !path.is_dir() {
                let _ = names.insert(entry.file_name());
            }
        }
        Ok(names)
    }

    /// Reads a file, if it has changed or if it must be.
    fn read(
        &mut self,
        name: &OsStr,
        forced: bool,
        before: &mut BTreeMap<ObjectKey, Option<Object>>,
        reports: &mut Vec<Report>,
    ) {
        let path = self.path.join(name);
        // Taken before the content: if that changes in between, the file is read again.
        let stamp = fs::metadata(&path).ok().as_ref().map(Stamp::of);
        let file = self.files.entry(name.to_owned()).or_default();
        if !forced && stamp.is_some() && file.stamp == stamp {
            return;
        }
        file.stamp = stamp;
        let report = |cause| Report { file: path.clone(), cause };
        let is_json = path.extension().is_some_and(|extension| extension == "json");
        let contents = fs::read_to_string(&path)
            .map_err(Cause::Read)
            .and_then(|text| document::parse(&text, &name.to_string_lossy(), is_json));
        match contents {
            Err(cause) => reports.push(report(cause)),
            Ok(contents) => {
                reports.extend(contents.causes.into_iter().map(report));
                let objects = contents.objects.into_iter();
                // An object that cannot be used stays what it was.
                let objects = objects.filter_map(|(key, object)| {
                    let object = object.or_else(|| file.objects.get(&key).cloned())?;
                    Some((key, object))
                });
                let objects = objects.collect();
                let second = self.replace(name, objects, before);
                reports.extend(second.into_iter().map(|(name, object, winner)| Report {
                    file: self.path.join(name),
                    cause: Cause::Duplicate {
                        object,
                        winner: winner.to_string_lossy().into_owned(),
                    },
                }));
            }
        }
    }

    /// Gives a file other objects. Keeps in `before` what they were taken as, and says which of
    /// them are in several files now: a file that has it, the object, the file that wins.
    fn replace(
        &mut self,
        name: &OsStr,
        objects: BTreeMap<ObjectKey, Object>,
        before: &mut BTreeMap<ObjectKey, Option<Object>>,
    ) -> Vec<(OsString, ObjectKey, OsString)> {
        let old = self.files.get(name).map(|file| &file.objects);
        let old: Vec<_> = old.into_iter().flat_map(BTreeMap::keys).cloned().collect();
        for key in old.iter().chain(objects.keys()) {
            if !before.contains_key(key) {
                let _ = before.insert(key.clone(), self.current(key).cloned());
            }
        }
        for key in old {
            if let Some(holders) = self.holders.get_mut(&key) {
                let _ = holders.remove(name);
                if holders.is_empty() {
                    let _ = self.holders.remove(&key);
                }
            }
        }
        let mut second = Vec::new();
        for key in objects.keys() {
            let holders = self.holders.entry(key.clone()).or_default();
            let _ = holders.insert(name.to_owned());
            if let Some(winner) = holders.first() {
                let losers = holders.iter().skip(1);
                second.extend(losers.map(|loser| (loser.clone(), key.clone(), winner.clone())));
            }
        }
        if let Some(file) = self.files.get_mut(name) {
            file.objects = objects;
        }
        second
    }

    /// What an object is taken as.
    fn current(&self, key: &ObjectKey) -> Option<&Object> {
        let holder = self.holders.get(key)?.first()?;
        self.files.get(holder)?.objects.get(key)
    }
}
