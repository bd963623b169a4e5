// SPDX-License-Identifier: Apache-2.0
//! Takes off what Sixfour has left: programs outlive the agent, so somebody must be able to remove them.

use std::{fmt, io, path::Path};

use anyhow::{Context as _, bail};

use crate::{
    bpf::{Pins, Version},
    devices::{Filters, TakenOff, devices_with_clsact, links_of, take_off},
    sockets::SocketPrograms,
};

/// What has been removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    devices: TakenOff,
    sockets: usize,
    programs: usize,
    maps: usize,
}

impl fmt::Display for Removed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::default() {
            return write!(f, "nothing was there");
        }
        let Self { devices: TakenOff { links, filters, disciplines }, sockets, programs, maps } =
            self;
        write!(
            f,
            "removed: {links} links of devices, {filters} filters, {disciplines} clsact, {sockets} links of the control group, {programs} pinned programs, {maps} maps"
        )
    }
}

/// Removes all that was left with a pin root, and says what that was.
///
/// # Errors
///
/// If an agent is running there, or something cannot be removed.
pub fn run(pin_root: &Path) -> anyhow::Result<()> {
    let pins = if pin_root.exists() {
        let pins = Pins::try_claim(pin_root)?;
        if pins.is_none() {
            let root = pin_root.display();
            bail!("sixfour is running with the pin root {root}: stop it first");
        }
        pins
    } else {
        None
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("cannot start the runtime")?;
    let removed = runtime.block_on(remove_all(pin_root))?;
    // Until here nobody else could begin anew.
    drop(pins);
    println!("{removed}");
    Ok(())
}

/// Removes what agents of all versions have left with a pin root, which must be locked: first the programs on devices,
/// then those on control groups, then all else that is pinned.
///
/// # Errors
///
/// If something cannot be removed.
pub async fn remove_all(pin_root: &Path) -> anyhow::Result<Removed> {
    let versions = versions(pin_root)?;
    let devices = devices_with_clsact().await?;
    let removed = remove(&versions, Filters::OfDevices(&devices)).await?;
    // It may be a mount point.
    let _: io::Result<()> = std::fs::remove_dir(pin_root);
    Ok(removed)
}

/// Removes what agents of other versions have pinned.
///
/// # Errors
///
/// If something cannot be removed.
pub async fn remove_others(pin_root: &Path, own: &Version) -> anyhow::Result<Removed> {
    let mut versions = versions(pin_root)?;
    versions.retain(|version| version != own);
    let programs = versions.iter().flat_map(Version::program_ids).collect();
    let devices = devices_with_clsact().await?;
    remove(&versions, Filters::OfPrograms(&programs, &devices)).await
}

fn versions(pin_root: &Path) -> anyhow::Result<Vec<Version>> {
    Version::all(pin_root).with_context(|| format!("cannot read {}", pin_root.display()))
}

async fn remove(versions: &[Version], filters: Filters<'_>) -> anyhow::Result<Removed> {
    let mut links = Vec::new();
    for version in versions {
        links.extend(links_of(version)?);
    }
    let devices = take_off(&links, filters).await?;
    let mut removed = Removed { devices, ..Removed::default() };
    for version in versions {
        removed.sockets += SocketPrograms::take_off(&version.links())?;
        let [maps, programs, _] = version.remove().context("cannot remove what is pinned")?;
        removed.maps += maps;
        removed.programs += programs;
    }
    Ok(removed)
}
