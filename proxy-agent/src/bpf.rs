// SPDX-License-Identifier: Apache-2.0
//! The kernel's side of the agent: the BPF object, and the tables in typed form.

mod apply;
mod batches;
mod capacity;
pub mod clock;
mod counted_services;
mod counters;
pub mod device_tables;
mod embedded;
mod foreign_nat;
mod former;
mod frontends;
mod full;
mod hops;
pub mod kernel_log;
mod layouts;
mod left_out;
mod link;
mod listening;
mod locality;
mod lock;
mod lookup_batch;
mod map_sizes;
mod mapped;
mod node_addresses;
pub mod object;
mod pinned_links;
mod pinned_maps;
mod pinned_programs;
mod pins;
mod program_runs;
mod raw_map;
mod route_mtus;
mod settings;
mod table;
pub mod tables;
mod told_sockets;
mod traffic;
mod verify;
mod version;
mod ways;

pub use batches::{Batch, FlowBatches};
pub use capacity::{Capacity, FlowCapacity};
pub use counted_services::{CountedServices, Namespaced};
pub use counters::Counters;
pub use device_tables::DeviceTables;
pub use foreign_nat::ForeignNatTable;
pub use former::{CarriedOver, Former, FormerTables, Pass};
pub use hops::HopsTable;
pub use kernel_log::KernelLog;
pub use left_out::LeftOut;
pub use listening::Listening;
pub use locality::LocalityTables;
pub use map_sizes::map_sizes;
pub use node_addresses::NodeAddressTables;
pub use object::Object;
pub use pinned_links::{DeviceLink, Hook, LinkState, Links, NoDeviceLink, PinnedLink, Place};
pub use pinned_programs::guard_programs;
pub use pins::Pins;
pub use program_runs::{ProgramRuns, Runs};
pub use route_mtus::RouteMtus;
pub use settings::{ServedNetns, Settings};
pub use tables::Tables;
pub use told_sockets::ToldSockets;
pub use traffic::{TrafficTable, processors};
pub use version::Version;
pub use ways::WaysTable;

use std::path::PathBuf;

/// What can go wrong between the agent and its maps and programs.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The binary was built without the BPF programs.
    #[error(
        "this binary was built without its BPF programs: run `cargo xtask build-ebpf`, then build it again"
    )]
    NotBuilt,
    /// Another agent has the pin root.
    #[error(
        "another sixfour is running with the pin root {}: stop it, or name another --pin-root",
        .0.display()
    )]
    PinRootTaken(PathBuf),
    /// The pin root, or what is pinned there, could not be made, read or removed.
    #[error("cannot use the pin root {}", .0.display())]
    PinDirectory(PathBuf, #[source] std::io::Error),
    /// A map that is pinned is not what the programs expect.
    #[error(
        "the map {} is not as this version needs it: `sixfour cleanup` removes it, with all that is served by it",
        .0.display()
    )]
    UnfitMap(PathBuf),
    /// A link could not be opened, asked, replaced or removed.
    #[error("cannot handle the link {}", .0.display())]
    PinnedLink(PathBuf, #[source] std::io::Error),
    /// A link could not be pinned.
    #[error("cannot pin the link {0}")]
    PinLink(String, #[source] aya::pin::PinError),
    /// A program could not be pinned.
    #[error("cannot pin the program {0}")]
    PinProgram(String, #[source] aya::pin::PinError),
    /// A map could not be pinned.
    #[error("cannot pin the map {0}")]
    PinMap(String, #[source] aya::pin::PinError),
    /// The object could not be loaded.
    #[error("cannot load the BPF object")]
    Load(#[source] aya::EbpfError),
    /// The object lacks a map.
    #[error("the BPF object has no map {0}")]
    NoMap(String),
    /// The object lacks a program.
    #[error("the BPF object has no program {0}")]
    NoProgram(String),
    /// A program was refused.
    #[error("the kernel refuses the program {0}")]
    Program(String, #[source] aya::programs::ProgramError),
    /// The kernel's type information cannot be read.
    #[error("cannot read the kernel's type information")]
    Btf(#[source] aya::BtfError),
    /// A link is none that can be pinned.
    #[error("cannot pin a link")]
    Link(#[source] aya::programs::links::LinkError),
    /// The list of UDP sockets could not be pinned.
    #[error("cannot pin the list of UDP sockets")]
    PinToldSockets(#[source] aya::pin::PinError),
    /// The list of UDP sockets could not be read.
    #[error("cannot read the list of UDP sockets")]
    ToldSockets(#[source] std::io::Error),
    /// The programs' messages cannot be had.
    #[error("cannot read the log of the BPF programs")]
    KernelLog(#[source] aya_log::Error),
    /// They cannot be waited for.
    #[error("cannot wait for the log of the BPF programs")]
    WaitForKernelLog(#[source] std::io::Error),
    /// A map could not be opened, read or written.
    #[error("map {0}")]
    Map(String, #[source] aya::maps::MapError),
    /// Many entries of a map could not be read at once.
    #[error("cannot read map {0}")]
    Batch(String, #[source] std::io::Error),
    /// Too many listen already.
    #[error(
        "{} are listening already, and there is room for no more",
        proxy_common::event::LISTENERS
    )]
    Listeners,
    /// A map has no room.
    #[error("map {map} is full{}", .flag.map(|flag| format!(": {flag} makes it larger")).unwrap_or_default())]
    Full {
        /// The map's name.
        map: String,
        /// The flag that says how large it is; none if that is fixed.
        flag: Option<&'static str>,
    },
    /// How many processors there are is not known.
    #[error("cannot find out how many processors there are")]
    Processors(#[source] std::io::Error),
    /// A map could not be mapped into memory.
    #[error("cannot map {0} into memory")]
    Mmap(String, #[source] std::io::Error),
    /// An index is outside its table.
    #[error("row {row} is outside {table}")]
    Row {
        /// The table's name.
        table: String,
        /// The row asked for.
        row: u32,
    },
}
