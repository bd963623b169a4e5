// SPDX-License-Identifier: Apache-2.0
//! The BPF object: loading it and pinning its maps.

use std::{
    fs,
    ops::RangeInclusive,
    path::{Path, PathBuf},
};

use aya::{
    Ebpf, EbpfLoader, include_bytes_aligned,
    maps::{Map, MapData},
    programs::SchedClassifier,
};
use proxy_common::ABI_VERSION;

use super::{Error, kernel_log};

/// The object as `cargo xtask build-ebpf` made it; empty if it was not there.
static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/sixfour.bpf.o"));

/// The program at the ingress of client devices.
pub const INGRESS: &str = "sixfour_ingress";
/// The program at the egress of client devices.
pub const EGRESS: &str = "sixfour_egress";

/// The loaded object. Its maps are pinned under the pin root until [`Object::unpin`].
#[derive(Debug)]
pub struct Object {
    ebpf: Ebpf,
    pins: PathBuf,
}

impl Object {
    /// Whether the binary has its BPF programs.
    ///
    /// # Errors
    ///
    /// [`Error::NotBuilt`] if it has not.
    pub fn check() -> Result<(), Error> {
        if OBJECT.is_empty() { Err(Error::NotBuilt) } else { Ok(()) }
    }

    /// Loads the object, pins its maps below `pin_root` and verifies its programs.
    ///
    /// # Errors
    ///
    /// If the object is not there or the kernel refuses a part of it.
    pub fn load(pin_root: &Path, source_ports: &RangeInclusive<u16>) -> Result<Self, Error> {
        Self::check()?;
        let pins = map_directory(pin_root);
        fs::create_dir_all(&pins).map_err(|error| Error::PinDirectory(pins.clone(), error))?;
        let ports = u32::from(*source_ports.start()) << 16 | u32::from(*source_ports.end());
        let mut ebpf = EbpfLoader::new()
            .default_map_pin_directory(&pins)
            .override_global("SOURCE_PORTS", &ports, true)
            .override_global(aya_log::LEVEL, &kernel_log::level(), true)
            .load(OBJECT)
            .map_err(Error::Load)?;
        for name in [INGRESS, EGRESS] {
            classifier(&mut ebpf, name)?
                .load()
                .map_err(|error| Error::Program(name.to_owned(), error))?;
        }
        Ok(Self { ebpf, pins })
    }

    /// Where the maps are pinned.
    #[must_use]
    pub fn pins(&self) -> &Path {
        &self.pins
    }

    /// A program of the object.
    ///
    /// # Errors
    ///
    /// If there is none of that name.
    pub fn program(&mut self, name: &str) -> Result<&mut SchedClassifier, Error> {
        classifier(&mut self.ebpf, name)
    }

    /// The object itself, for what reads its own maps (the kernel's log messages).
    pub fn ebpf_mut(&mut self) -> &mut Ebpf {
        &mut self.ebpf
    }

    /// Removes the pins, and the directories that become empty by it.
    ///
    /// # Errors
    ///
    /// If a pin cannot be removed.
    pub fn unpin(&self) -> std::io::Result<()> {
        for pin in fs::read_dir(&self.pins)? {
            fs::remove_file(pin?.path())?;
        }
        fs::remove_dir(&self.pins)?;
        // Another version's maps may be there, or the pin root may be a mount point.
        for directory in self.pins.ancestors().skip(1).take(2) {
            let _: Result<(), std::io::Error> = fs::remove_dir(directory);
        }
        Ok(())
    }
}

/// Where the maps of this ABI are pinned below a pin root.
#[must_use]
pub fn map_directory(pin_root: &Path) -> PathBuf {
    pin_root.join(format!("v{ABI_VERSION}")).join("maps")
}

/// Opens a pinned map.
///
/// # Errors
///
/// If it is not there or may not be opened.
pub fn pinned(pins: &Path, name: &str) -> Result<Map, Error> {
    let error = |error| Error::Map(name.to_owned(), error);
    let data = MapData::from_pin(pins.join(name)).map_err(error)?;
    Map::from_map_data(data).map_err(error)
}

fn classifier<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut SchedClassifier, Error> {
    ebpf.program_mut(name)
        .ok_or_else(|| Error::NoProgram(name.to_owned()))?
        .try_into()
        .map_err(|error| Error::Program(name.to_owned(), error))
}
