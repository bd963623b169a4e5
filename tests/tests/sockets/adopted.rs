// SPDX-License-Identifier: Apache-2.0

//! The programs of a control group, from one agent to the next.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;

use anyhow::{Context as _, Result, ensure};
use proxy_agent::bpf::{LinkState, Object, Place, ServedNetns, Settings};
use proxy_agent::sockets::SocketPrograms;
use proxy_tests::cgroup::Cgroup;
use proxy_tests::scratch::Scratch;

fn states(object: &Object) -> Result<BTreeMap<String, LinkState>> {
    let links = object.links();
    let states = links.names()?.into_iter().map(|name| {
        let link = links.open(&name)?.context("it is pinned")?;
        Ok((name, link.state()?))
    });
    states.collect()
}

fn place(cgroup: &Cgroup) -> Result<Place> {
    Ok(Place::Cgroup(fs::metadata(cgroup.path())?.ino()))
}

#[test]
fn links_stay_and_follow_the_group() -> Result<()> {
    let scratch = Scratch::new("adopted")?;
    let root = scratch.mount_bpffs()?;
    let (group, other) = (Cgroup::new("one")?, Cgroup::new("other")?);
    let settings = Settings {
        sockets: Some(ServedNetns { host_netns: 1, all: false }),
        ..Settings::default()
    };
    let mut object = Object::load(&root, &settings)?;
    drop(SocketPrograms::attach(&mut object, group.path())?);
    let first = states(&object)?;
    let here = place(&group)?;
    ensure!(first.len() == 8 && first.values().all(|state| state.place == here), "{first:?}");
    object.keep()?;
    drop(object);

    let mut object = Object::load(&root, &settings)?;
    let mut programs = SocketPrograms::attach(&mut object, group.path())?;
    let second = states(&object)?;
    for (name, former) in &first {
        let state = second[name];
        ensure!(state.id == former.id && state.program != former.program, "{name}: {state:?}");
    }
    object.links().open("sixfour_recv4")?.context("it is pinned")?.detach();
    ensure!(programs.mend(&mut object)? == ["sixfour_recv4"]);
    ensure!(programs.mend(&mut object)?.is_empty());
    let mended = states(&object)?;
    ensure!(mended.values().all(|state| state.place == here), "{mended:?}");

    drop(SocketPrograms::attach(&mut object, other.path())?);
    let there = place(&other)?;
    let moved = states(&object)?;
    ensure!(moved.values().all(|state| state.place == there), "{moved:?}");
    ensure!(moved.iter().all(|(name, state)| state.id != mended[name].id), "{moved:?}");
    ensure!(SocketPrograms::take_off(&object.links())? == 8);
    ensure!(states(&object)?.is_empty());
    Ok(())
}
