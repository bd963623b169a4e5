// SPDX-License-Identifier: Apache-2.0
//! Where the directory is, and what becomes of it.

use std::{env, fs, os::unix::fs::symlink, path::PathBuf};

use super::{Bench, changes::Watched, service};

/// A directory in the bench's, with one Service of this address.
fn make(bench: &Bench, name: &str, address: &str) -> PathBuf {
    let path = bench.path().join(name);
    fs::create_dir_all(&path).unwrap();
    fs::write(path.join("x.yaml"), service("a", address)).unwrap();
    path
}

#[tokio::test]
async fn a_directory_that_goes_and_comes_back_is_followed() {
    let bench = Bench::new();
    let path = make(&bench, "manifests", "10.0.0.1");
    let mut watched = Watched::at(bench, &path).await;
    let aside = watched.bench.path().join("aside");
    fs::rename(&path, &aside).unwrap();
    watched.nothing().await;
    let _ = make(&watched.bench, "manifests", "10.0.0.2");
    assert_eq!(watched.next().await, "+Service ns/a 10.0.0.2");
}

#[tokio::test]
async fn a_relative_path_is_as_good() {
    let bench = Bench::new();
    let path = make(&bench, "manifests", "10.0.0.1");
    let up = env::current_dir().unwrap().components().skip(1).map(|_| "..").collect::<PathBuf>();
    let relative = up.join(path.strip_prefix("/").unwrap());
    let mut watched = Watched::at(bench, &relative).await;
    fs::rename(&path, watched.bench.path().join("aside")).unwrap();
    watched.nothing().await;
    let _ = make(&watched.bench, "manifests", "10.0.0.2");
    assert_eq!(watched.next().await, "+Service ns/a 10.0.0.2");
    fs::write(path.join("x.yaml"), service("a", "10.0.0.3")).unwrap();
    assert_eq!(watched.next().await, "+Service ns/a 10.0.0.3");
}

#[tokio::test]
async fn links_on_the_way_are_followed_when_they_are_replaced() {
    for place in ["link", "link/below"] {
        let bench = Bench::new();
        let below = place.strip_prefix("link").unwrap();
        for (version, address) in [("1", "10.0.0.1"), ("2", "10.0.0.2"), ("3", "10.0.0.3")] {
            let _ = make(&bench, &format!("{version}{below}"), address);
        }
        let link = bench.path().join("link");
        symlink("1", &link).unwrap();
        let path = bench.path().join(place);
        let mut watched = Watched::at(bench, &path).await;
        for version in ["2", "3"] {
            let next = watched.bench.path().join("next");
            symlink(version, &next).unwrap();
            fs::rename(&next, &link).unwrap();
            assert_eq!(watched.next().await, format!("+Service ns/a 10.0.0.{version}"));
        }
    }
}
