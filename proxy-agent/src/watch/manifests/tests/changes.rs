// SPDX-License-Identifier: Apache-2.0
//! How files may change, and what is seen of it.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::symlink,
    path::Path,
    time::{Duration, Instant},
};

use tokio::{sync::mpsc, time};

use super::{Bench, NOTHING, service, shown};
use crate::watch::{Source, manifests::Manifests};

#[test]
fn only_what_changed_is_said() {
    let mut bench = Bench::new();
    let both = |a, b| format!("{}---\n{}", service("a", a), service("b", b));
    let _ = bench.load("x.yaml", &both("10.0.0.1", "10.0.0.2"));
    assert_eq!(bench.scan().0, NOTHING);
    let (events, _) = bench.load("x.yaml", &both("10.0.0.1", "10.0.0.3"));
    assert_eq!(events, ["+Service ns/b 10.0.0.3"]);
    let (events, _) = bench.load("x.yaml", &service("a", "10.0.0.1"));
    assert_eq!(events, ["-Service ns/b"]);
    // The same object in another file, and the other way to write it.
    bench.remove("x.yaml");
    let json = r#"{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a", "namespace": "ns"},
        "spec": {"clusterIP": "10.0.0.1", "ports": [{"port": 80}]}}"#;
    assert_eq!(bench.load("y.json", json).0, NOTHING);
    bench.remove("y.json");
    assert_eq!(bench.scan().0, ["-Service ns/a"]);
}

#[test]
fn a_file_that_cannot_be_used_keeps_its_objects() {
    let mut bench = Bench::new();
    let _ = bench.load("x.yaml", &service("a", "10.0.0.1"));
    let (events, reports) = bench.load("x.yaml", "apiVersion: v1\nkind: Serv\nmetadata: {");
    assert_eq!(events, NOTHING);
    let cause = "x.yaml: cannot be parsed, so its objects stay as they were";
    assert!(reports[0].starts_with(cause), "{reports:?}");
    let (events, reports) = bench.load("x.yaml", " \n");
    assert_eq!(events, NOTHING);
    let empty = "x.yaml: is empty, so its objects stay as they were; remove it to remove them";
    assert_eq!(reports, [empty]);
    // A link whose target is gone for a moment.
    bench.remove("x.yaml");
    symlink("nowhere", bench.path().join("x.yaml")).unwrap();
    let (events, reports) = bench.scan();
    assert_eq!(events, NOTHING);
    assert_eq!(reports, ["x.yaml: cannot be read, so its objects stay as they were"]);
    bench.remove("x.yaml");
    let (events, _) = bench.load("x.yaml", &service("b", "10.0.0.2"));
    assert_eq!(events, ["-Service ns/a", "+Service ns/b 10.0.0.2"].map(str::to_owned));
}

#[test]
fn an_object_that_cannot_be_used_stays_as_it_was() {
    let mut bench = Bench::new();
    let _ = bench.load("x.yaml", &service("a", "10.0.0.1"));
    let text = format!("{}---\n{}", service("a", "ten"), service("b", "10.0.0.2"));
    let (events, reports) = bench.load("x.yaml", &text);
    assert_eq!(events, ["+Service ns/b 10.0.0.2"]);
    assert_eq!(reports.len(), 1);
    let (events, _) = bench.load("x.yaml", &service("b", "10.0.0.2"));
    assert_eq!(events, ["-Service ns/a"]);
}

#[test]
fn of_two_files_the_first_by_name_counts() {
    let mut bench = Bench::new();
    let _ = bench.load("b.yaml", &service("a", "10.0.0.2"));
    let (events, reports) = bench.load("a.yaml", &service("a", "10.0.0.1"));
    assert_eq!(events, ["+Service ns/a 10.0.0.1"]);
    assert_eq!(reports, ["b.yaml: Service ns/a: is taken from a.yaml"]);
    assert_eq!(bench.load("b.yaml", &service("a", "10.0.0.3")).0, NOTHING);
    bench.remove("a.yaml");
    assert_eq!(bench.scan().0, ["+Service ns/a 10.0.0.3"]);
    let twice = format!("{}---\n{}", service("a", "10.0.0.4"), service("a", "10.0.0.5"));
    let (events, reports) = bench.load("b.yaml", &twice);
    assert_eq!(events, ["+Service ns/a 10.0.0.4"]);
    assert_eq!(reports, ["b.yaml: Service ns/a: is taken from an earlier place in b.yaml"]);
}

/// A source at work on a directory.
pub(super) struct Watched {
    pub(super) bench: Bench,
    pub(super) events: mpsc::Receiver<crate::watch::Event>,
}

impl Watched {
    async fn new(bench: Bench) -> Self {
        let path = bench.path().to_owned();
        Self::at(bench, &path).await
    }

    /// At work on this path, in the directory or not.
    pub(super) async fn at(bench: Bench, path: &Path) -> Self {
        let (sender, events) = mpsc::channel(64);
        let source = Manifests::new(path).unwrap();
        drop(tokio::spawn(async move { source.run(sender).await.unwrap() }));
        let mut watched = Self { bench, events };
        while watched.next().await != "=ServiceCIDR" {}
        watched
    }

    pub(super) async fn next(&mut self) -> String {
        let event = time::timeout(Duration::from_secs(5), self.events.recv()).await;
        shown(&event.expect("an event in time").expect("a source at work"))
    }

    /// Asserts that nothing comes of what has been done.
    pub(super) async fn nothing(&mut self) {
        let event = time::timeout(Duration::from_millis(50), self.events.recv()).await;
        assert!(event.is_err(), "{event:?}");
    }
}

#[tokio::test]
async fn all_that_is_there_comes_before_synced() {
    let bench = Bench::new();
    bench.write("x.yaml", &service("a", "10.0.0.1"));
    let (sender, mut events) = mpsc::channel(64);
    let source = Manifests::new(bench.path()).unwrap();
    let running = tokio::spawn(source.run(sender));
    let mut seen = Vec::new();
    while seen.len() < 5 {
        seen.push(shown(&events.recv().await.unwrap()));
    }
    let expected =
        ["+Service ns/a 10.0.0.1", "=Service", "=EndpointSlice", "=Node", "=ServiceCIDR"];
    assert_eq!(seen, expected);
    // It ends when nobody listens.
    drop(events);
    running.await.unwrap().unwrap();
}

#[test]
fn a_directory_that_is_not_there_is_an_error() {
    let error = Manifests::new("/nowhere/at/all").unwrap_err();
    assert_eq!(error.to_string(), "cannot list the directory /nowhere/at/all");
}

#[tokio::test]
async fn files_are_followed_at_once() {
    let mut watched = Watched::new(Bench::new()).await;
    let started = Instant::now();
    watched.bench.write("x.yaml", &service("a", "10.0.0.1"));
    assert_eq!(watched.next().await, "+Service ns/a 10.0.0.1");
    assert!(started.elapsed() < Duration::from_millis(500), "{:?}", started.elapsed());
    // Replaced by a rename, as editors and careful scripts do.
    watched.bench.write("x.tmp", &service("a", "10.0.0.2"));
    let at = |name| watched.bench.path().join(name);
    fs::rename(at("x.tmp"), at("x.yaml")).unwrap();
    assert_eq!(watched.next().await, "+Service ns/a 10.0.0.2");
    watched.bench.remove("x.yaml");
    assert_eq!(watched.next().await, "-Service ns/a");
}

#[tokio::test]
async fn a_file_is_not_read_while_it_is_written() {
    let mut watched = Watched::new(Bench::new()).await;
    watched.bench.write("x.yaml", &service("a", "10.0.0.1"));
    assert_eq!(watched.next().await, "+Service ns/a 10.0.0.1");
    let mut file = fs::File::create(watched.bench.path().join("x.yaml")).unwrap();
    // Half of it, which by chance is a good manifest without the Service.
    file.write_all(service("b", "10.0.0.2").as_bytes()).unwrap();
    file.flush().unwrap();
    watched.nothing().await;
    // Not even when everything else is read, and other files mean nothing.
    watched.bench.write("notes.txt", "unrelated");
    watched.nothing().await;
    symlink("nowhere", watched.bench.path().join("..data")).unwrap();
    watched.nothing().await;
    let rest = format!("---\n{}", service("a", "10.0.0.1"));
    file.write_all(rest.as_bytes()).unwrap();
    drop(file);
    assert_eq!(watched.next().await, "+Service ns/b 10.0.0.2");
    watched.nothing().await;
}

#[tokio::test]
async fn the_mount_of_a_config_map_is_followed() {
    let bench = Bench::new();
    let write = |version: &str, ip| {
        fs::create_dir(bench.path().join(version)).unwrap();
        bench.write(&format!("{version}/x.yaml"), &service("a", ip));
    };
    write("..1", "10.0.0.1");
    symlink("..1", bench.path().join("..data")).unwrap();
    symlink("..data/x.yaml", bench.path().join("x.yaml")).unwrap();
    let path = bench.path().to_owned();
    let mut watched = Watched::new(bench).await;
    fs::create_dir(path.join("..2")).unwrap();
    watched.bench.write("..2/x.yaml", &service("a", "10.0.0.2"));
    symlink("..2", path.join("..data_tmp")).unwrap();
    fs::rename(path.join("..data_tmp"), path.join("..data")).unwrap();
    assert_eq!(watched.next().await, "+Service ns/a 10.0.0.2");
    watched.nothing().await;
}
