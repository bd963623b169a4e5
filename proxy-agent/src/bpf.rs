// SPDX-License-Identifier: Apache-2.0
//! The kernel's side of the agent: the BPF object, and the tables in typed form.

mod apply;
pub mod clock;
pub mod device_tables;
mod embedded;
mod frontends;
mod hops;
pub mod kernel_log;
mod left_out;
mod locality;
mod mapped;
pub mod object;
mod pins;
mod route_mtus;
mod settings;
mod table;
pub mod tables;
mod told_sockets;
mod verify;
mod ways;

pub use device_tables::DeviceTables;
pub use hops::HopsTable;
pub use kernel_log::KernelLog;
pub use left_out::LeftOut;
pub use locality::LocalityTables;
pub use object::Object;
pub use route_mtus::RouteMtus;
pub use settings::{FlowCapacity, ServedNetns, Settings};
pub use tables::Tables;
pub use told_sockets::ToldSockets;
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
    /// The pin root could not be made, or what is left there not be removed.
    #[error("cannot use the pin root {}", .0.display())]
    PinDirectory(PathBuf, #[source] std::io::Error),
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
