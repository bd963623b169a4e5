// SPDX-License-Identifier: Apache-2.0
//! Manifests of every form, good and bad, and how files may change.

mod changes;
mod forms;
mod places;

use std::{fs, path::Path};

use tempfile::TempDir;

use super::directory::{Changes, Directory, Scan};
use crate::{
    model::{Object, ObjectKey},
    watch::Event,
};

/// A directory with its files.
struct Bench {
    temporary: TempDir,
    directory: Directory,
}

impl Bench {
    fn new() -> Self {
        let temporary = tempfile::tempdir().unwrap();
        let directory = Directory::new(temporary.path().to_owned());
        Self { temporary, directory }
    }

    fn path(&self) -> &Path {
        self.temporary.path()
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path().join(name), text).unwrap();
    }

    fn remove(&self, name: &str) {
        fs::remove_file(self.path().join(name)).unwrap();
    }

    /// What reading everything that looks changed changes: events, reports without the path.
    fn scan(&mut self) -> (Vec<String>, Vec<String>) {
        let Changes { events, reports } = self.directory.scan(&Scan::everything()).unwrap();
        let prefix = format!("{}/", self.path().display());
        let reports = reports.iter().map(ToString::to_string);
        let reports = reports.map(|text| text.replace(&prefix, ""));
        (events.iter().map(shown).collect(), reports.collect())
    }

    /// Writes a file and reads it.
    fn load(&mut self, name: &str, text: &str) -> (Vec<String>, Vec<String>) {
        self.write(name, text);
        self.scan()
    }
}

fn shown(event: &Event) -> String {
    match event {
        Event::Apply(Object::Service(service)) => {
            let ips: Vec<_> = service.cluster_ips.iter().map(ToString::to_string).collect();
            format!("+Service {} {}", service.name, ips.join(","))
        }
        Event::Apply(object) => format!("+{}", object.key()),
        Event::Delete(ObjectKey { kind, name }) => format!("-{kind} {name}"),
        Event::Synced(kind) => format!("={kind}"),
    }
}

fn service(name: &str, ip: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: ns}}\n\
         spec: {{clusterIP: \"{ip}\", ports: [{{port: 80}}]}}\n"
    )
}

const NOTHING: [&str; 0] = [];
