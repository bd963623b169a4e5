// SPDX-License-Identifier: Apache-2.0
//! The BPF object: loading it and pinning its maps.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use proxy_common::map_names;

pub use super::pins::map_directory;
use super::{
    Error, Former, Settings,
    embedded::{self, OBJECT},
    kernel_log,
    layouts::Layouts,
    pinned_links::Links,
    pinned_maps::{self, PINNED_BY_HAND},
    pins::{Pins, entries, remove_if_there},
    verify::{UDP, verify},
    version::Version,
};
use aya::{
    Btf, Ebpf, EbpfLoader,
    maps::{Map, MapData},
    programs::{CgroupSockAddr, Iter, SchedClassifier, Xdp},
};

/// The program at the ingress of client devices.
pub const INGRESS: &str = "sixfour_ingress";
/// The program at the egress of client devices.
pub const EGRESS: &str = "sixfour_egress";
/// The program at the ingress of uplinks and tunnels.
pub const UPLINK_INGRESS: &str = "sixfour_up_in";
/// The program at the egress of uplinks and tunnels.
pub const UPLINK_EGRESS: &str = "sixfour_up_out";
/// [`INGRESS`], where frames have no Ethernet header.
pub const L3_INGRESS: &str = "sixfour_l3_in";
/// [`EGRESS`], where frames have no Ethernet header.
pub const L3_EGRESS: &str = "sixfour_l3_out";
/// [`UPLINK_INGRESS`], where frames have no Ethernet header.
pub const L3_UPLINK_INGRESS: &str = "sixfour_l3upin";
/// [`UPLINK_EGRESS`], where frames have no Ethernet header.
pub const L3_UPLINK_EGRESS: &str = "sixfour_l3upout";

/// The program in the drivers of uplinks.
pub const XDP: &str = "sixfour_xdp";
/// The same behind drivers, for frames of one buffer.
pub const XDP_GENERIC: &str = "sixfour_xdp_skb";

/// The programs that give sockets backends.
pub const SOCKET_REQUESTS: [&str; 4] =
    ["sixfour_conn4", "sixfour_conn6", "sixfour_send4", "sixfour_send6"];
/// The programs that name to processes what these have named.
pub const SOCKET_REPLIES: [&str; 4] =
    ["sixfour_recv4", "sixfour_recv6", "sixfour_peer4", "sixfour_peer6"];
/// The iterator over UDP sockets.
const UDP_SOCKETS: &str = "sixfour_udp";

/// The loaded object. Its maps are pinned under the pin root, which is its own. Dropped before [`Object::keep`], it
/// leaves the pin root as it was found.
#[derive(Debug)]
pub struct Object {
    pub(super) ebpf: Ebpf,
    pub(super) pins: Pins,
    pub(super) maps: PathBuf,
    /// What other versions have left.
    former: Vec<Former>,
    /// The maps that are pinned.
    pub(super) shared: BTreeSet<String>,
    /// The programs that this has pinned.
    pub(super) pinned_programs: BTreeSet<String>,
    serves_sockets: bool,
    pub(super) serves_all_netns: bool,
    /// The kernel's type information, until all is verified.
    btf: Option<Btf>,
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

    /// Loads the object with the maps below `pin_root`, which nobody else may have: see [`Object::load_with`].
    ///
    /// # Errors
    ///
    /// If another agent has the pin root; else as [`Object::load_with`].
    pub fn load(pin_root: &Path, settings: &Settings) -> Result<Self, Error> {
        Self::check()?;
        Self::load_with(Pins::claim(pin_root)?, settings)
    }

    /// Loads the object with the maps that are pinned, and pins those that are not there yet. Programs are verified when
    /// they are asked for, or by [`verify`](Self::verify).
    ///
    /// # Errors
    ///
    /// If the object is not there, a map that is pinned does not fit, or the kernel refuses one. Nothing is changed in the pin
    /// root then.
    pub fn load_with(pins: Pins, settings: &Settings) -> Result<Self, Error> {
        Self::check()?;
        let maps = pins.own().maps();
        let Settings { source_ports, capacity, sockets, loopback_node_ports, .. } = settings;
        let former = Former::all(&pins)?;
        pins.make()?;
        former.iter().try_for_each(|former| former.share_sockets(&maps))?;
        let capacity = pinned_maps::adopt(&maps, *capacity)?;
        let fast_path = u32::from(settings.fast_path);
        let ports = u32::from(*source_ports.start()) << 16 | u32::from(*source_ports.end());
        // No namespace has the cookie 0.
        let host_netns = sockets.map_or(0, |served| served.host_netns);
        let serves_all_netns = sockets.is_some_and(|served| served.all);
        let all_netns = u32::from(serves_all_netns);
        // Without it, programs are loaded as they are.
        let btf = Btf::from_sys_fs().ok();
        let mut loader = EbpfLoader::new();
        let level = kernel_log::level();
        let _: &mut EbpfLoader<'_> = loader
            .btf(btf.as_ref())
            .default_map_pin_directory(&maps)
            .override_global("SOURCE_PORTS", &ports, true)
            .override_global("HOST_NETNS", &host_netns, true)
            .override_global("ALL_NETNS", &all_netns, true)
            .override_global("LOOPBACK_NODE_PORTS", loopback_node_ports, true)
            .override_global("FAST_PATH", &fast_path, true)
            .override_global("PLACES", &capacity.flows.places, true)
            .override_global("ENDLESS_PLACES", &capacity.flows.endless, true)
            .override_global(aya_log::LEVEL, &level, true);
        let tables = capacity.tables();
        for (name, entries) in &tables {
            let _: &mut EbpfLoader<'_> = loader.map_max_entries(name, *entries);
        }
        for name in PINNED_BY_HAND {
            let _: &mut EbpfLoader<'_> = loader.map_pin_path(name, maps.join(name));
        }
        let ebpf = loader.load(OBJECT).map_err(Error::Load)?;
        embedded::forget();
        let error = |error| Error::PinDirectory(maps.clone(), error);
        let left_out = maps.join(map_names::LEFT_OUT);
        if !serves_all_netns && !pins.has_found(&left_out) {
            // None can be left out, and so nobody is to find the table.
            let _: bool = remove_if_there(&left_out).map_err(error)?;
        }
        Layouts::own().leave(&maps)?;
        let names = entries(&maps).map_err(error)?;
        Ok(Self {
            ebpf,
            pins,
            maps,
            former,
            shared: names.into_iter().filter_map(|name| name.into_string().ok()).collect(),
            pinned_programs: BTreeSet::new(),
            serves_sockets: sockets.is_some(),
            serves_all_netns,
            btf,
        })
    }

    /// Verifies the programs that nearly every node needs, several at a time.
    ///
    /// # Errors
    ///
    /// If the kernel refuses one.
    pub fn verify(&mut self) -> Result<(), Error> {
        let btf = self.btf.take();
        let mut names = vec![UPLINK_EGRESS, INGRESS, UPLINK_INGRESS, EGRESS];
        if self.serves_sockets {
            names.extend(SOCKET_REQUESTS);
            names.extend(SOCKET_REPLIES);
            names.push(UDP_SOCKETS);
        }
        verify(&mut self.ebpf, &names, btf.as_ref())
    }

    /// Where the maps are pinned.
    #[must_use]
    pub fn pins(&self) -> &Path {
        &self.maps
    }

    /// Where links are pinned.
    #[must_use]
    pub fn links(&self) -> Links {
        self.pins.own().links().after(self.former.clone())
    }

    /// What other versions have left, and can be carried over.
    #[must_use]
    pub fn former(&self) -> &[Former] {
        &self.former
    }

    /// The pins of this version.
    #[must_use]
    pub const fn version(&self) -> &Version {
        self.pins.own()
    }

    /// The pin root.
    #[must_use]
    pub fn pin_root(&self) -> &Path {
        self.pins.root()
    }

    /// A program of the object. What few nodes have a device for is verified when it is asked for.
    ///
    /// # Errors
    ///
    /// If there is none of that name, or the kernel refuses it.
    pub fn program(&mut self, name: &str) -> Result<&mut SchedClassifier, Error> {
        verified(&mut self.ebpf, name)
    }

    /// A program for uplinks' drivers, [`XDP`] or [`XDP_GENERIC`]. Few nodes ask for one: it is verified when one does.
    ///
    /// # Errors
    ///
    /// If there is none, or the kernel refuses it.
    pub fn driver_program(&mut self, name: &str) -> Result<&mut Xdp, Error> {
        let refused = |error| Error::Program(name.to_owned(), error);
        let program = self.ebpf.program_mut(name);
        let program = program.ok_or_else(|| Error::NoProgram(name.to_owned()))?;
        let program: &mut Xdp = program.try_into().map_err(refused)?;
        if program.fd().is_err() {
            program.load().map_err(refused)?;
        }
        Ok(program)
    }

    /// Whether sockets of all network namespaces are served.
    #[must_use]
    pub const fn serves_all_netns(&self) -> bool {
        self.serves_all_netns
    }

    /// A program for sockets.
    ///
    /// # Errors
    ///
    /// If there is none of that name, or the kernel refuses it.
    pub fn socket_program(&mut self, name: &str) -> Result<&mut CgroupSockAddr, Error> {
        let refused = |error| Error::Program(name.to_owned(), error);
        let program = self.ebpf.program_mut(name);
        let program = program.ok_or_else(|| Error::NoProgram(name.to_owned()))?;
        let program: &mut CgroupSockAddr = program.try_into().map_err(refused)?;
        if program.fd().is_err() {
            program.load().map_err(refused)?;
        }
        Ok(program)
    }

    /// The program that tells of UDP sockets, verified.
    pub(super) fn udp_iterator(&mut self) -> Result<&mut Iter, Error> {
        let refused = |error| Error::Program(UDP_SOCKETS.to_owned(), error);
        let program = self.ebpf.program_mut(UDP_SOCKETS);
        let program = program.ok_or_else(|| Error::NoProgram(UDP_SOCKETS.to_owned()))?;
        let program: &mut Iter = program.try_into().map_err(refused)?;
        if program.fd().is_err() {
            program.load(UDP, &Btf::from_sys_fs().map_err(Error::Btf)?).map_err(refused)?;
        }
        Ok(program)
    }

    /// The object itself, for what reads its own maps (the kernel's log messages).
    pub fn ebpf_mut(&mut self) -> &mut Ebpf {
        &mut self.ebpf
    }
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

/// A program, verified if it is not yet.
fn verified<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut SchedClassifier, Error> {
    let refused = |error| Error::Program(name.to_owned(), error);
    let program = ebpf.program_mut(name).ok_or_else(|| Error::NoProgram(name.to_owned()))?;
    let program: &mut SchedClassifier = program.try_into().map_err(refused)?;
    if program.fd().is_err() {
        program.load().map_err(refused)?;
    }
    Ok(program)
}
