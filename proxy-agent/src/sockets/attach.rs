// SPDX-License-Identifier: Apache-2.0
//! The programs on a control group.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
};

use aya::programs::{CgroupAttachMode, ProgramError, cgroup_sock_addr::CgroupSockAddrLink};

use crate::bpf::{
    self, Object,
    object::{SOCKET_REPLIES, SOCKET_REQUESTS},
};

/// Why the programs are not on a control group.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// The group cannot be opened.
    #[error("cannot open the control group {}", .0.display())]
    Open(PathBuf, #[source] io::Error),
    /// A program cannot be had.
    #[error(transparent)]
    Object(#[from] bpf::Error),
    /// A program cannot be attached.
    #[error(
        "cannot attach {program} to the control group {}: name another one with --cgroup-root, or run with --socket-lb off",
        .cgroup.display()
    )]
    Attach {
        /// The group.
        cgroup: PathBuf,
        /// The program.
        program: &'static str,
        /// Why.
        source: ProgramError,
    },
}

/// The programs on a control group, by links that stack with those of others and that go with the
/// process. Dropped, they are detached: what gives sockets backends goes first.
#[derive(Debug)]
pub struct SocketPrograms {
    _links: Vec<CgroupSockAddrLink>,
}

impl SocketPrograms {
    /// Attaches the programs of an object.
    ///
    /// # Errors
    ///
    /// If one of them cannot be attached; then none is.
    pub fn attach(object: &mut Object, cgroup: &Path) -> Result<Self, AttachError> {
        let group = File::open(cgroup).map_err(|error| AttachError::Open(cgroup.into(), error))?;
        let mut links = Vec::new();
        // A socket that was given a backend must not see it.
        for program in SOCKET_REPLIES.into_iter().chain(SOCKET_REQUESTS) {
            let loaded = object.socket_program(program)?;
            let attached = loaded
                .attach(&group, CgroupAttachMode::Single)
                .and_then(|id| loaded.take_link(id))
                .map_err(|source| AttachError::Attach { cgroup: cgroup.into(), program, source })?;
            links.insert(0, attached);
        }
        Ok(Self { _links: links })
    }
}
