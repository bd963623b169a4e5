// SPDX-License-Identifier: Apache-2.0
//! The programs on a control group.

use std::{
    fs::File,
    io,
    os::{fd::AsFd as _, unix::fs::MetadataExt as _},
    path::{Path, PathBuf},
};

use aya::programs::{CgroupAttachMode, ProgramError, cgroup_sock_addr::CgroupSockAddrLink};

use crate::bpf::{
    self, Links, Object, PinnedLink, Place,
    object::{SOCKET_REPLIES, SOCKET_REQUESTS},
};

/// Why the programs are not on a control group.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// The group cannot be opened.
    #[error("cannot open the control group {}", .0.display())]
    Open(PathBuf, #[source] io::Error),
    /// A program cannot be had, or a link not be handled.
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

/// The programs on a control group, by links that stack with those of others and that are pinned by the programs' names.
/// Dropped, they stay.
#[derive(Debug)]
pub struct SocketPrograms {
    cgroup: PathBuf,
    place: Place,
    links: Vec<(&'static str, PinnedLink)>,
}

/// How one program comes onto the group.
#[derive(Debug)]
enum Way {
    /// In the place of the one of before.
    Instead(PinnedLink),
    /// Anew, and then the one of before goes, which is elsewhere.
    New(CgroupSockAddrLink, Option<PinnedLink>),
}

impl SocketPrograms {
    /// Attaches the programs of an object: in the place of those that an agent before has put there. Where these are on
    /// another group, they go once all the others are there: a socket that meets both is served by one, since what that
    /// gives it is no frontend's address, and both name it the same.
    ///
    /// # Errors
    ///
    /// If one of them cannot be attached; then none is, and those of before are as they were. If one cannot be replaced
    /// or pinned, some are replaced; all of them serve.
    pub fn attach(object: &mut Object, cgroup: &Path) -> Result<Self, AttachError> {
        let error = |error| AttachError::Open(cgroup.into(), error);
        let group = File::open(cgroup).map_err(error)?;
        let place = Place::Cgroup(group.metadata().map_err(error)?.ino());
        let links = object.links();
        let mut ways = Vec::new();
        // A socket that was given a backend must not see it.
        for program in SOCKET_REPLIES.into_iter().chain(SOCKET_REQUESTS) {
            let former = match links.open(program)? {
                None => links.open_former_of_sockets(program)?,
                own => own,
            };
            let loaded = object.socket_program(program)?;
            let way = match former {
                Some(link) if link.is_at(place)? => Way::Instead(link),
                former => {
                    let attached = loaded
                        .attach(&group, CgroupAttachMode::Single)
                        .and_then(|id| loaded.take_link(id))
                        .map_err(refused(cgroup, program))?;
                    Way::New(attached, former)
                }
            };
            ways.push((program, way));
        }
        // From here on, something of it serves, whatever comes of the rest.
        object.keep()?;
        let mut attached = Vec::new();
        for (program, way) in ways {
            let link = match way {
                Way::Instead(link) => {
                    let loaded = object.socket_program(program)?;
                    link.update(loaded.fd().map_err(refused(cgroup, program))?.as_fd())?;
                    links.take(link, program)?
                }
                Way::New(link, former) => {
                    let pinned = links.pin(link, program)?;
                    if let Some(former) = former {
                        former.detach();
                    }
                    pinned
                }
            };
            attached.push((program, link));
        }
        Ok(Self { cgroup: cgroup.to_owned(), place, links: attached })
    }

    /// Looks whether they are there still, and mends what is not. Returns what was mended.
    ///
    /// # Errors
    ///
    /// If the kernel refuses.
    pub fn mend(&mut self, object: &mut Object) -> Result<Vec<&'static str>, AttachError> {
        let mut mended = Vec::new();
        for (program, link) in &self.links {
            if !link.is_at(self.place)? || link.repin()? {
                mended.push(*program);
            }
        }
        if !mended.is_empty() {
            *self = Self::attach(object, &self.cgroup.clone())?;
        }
        Ok(mended)
    }

    /// Takes off those that give sockets backends, and leaves those that name to processes what these have named; says
    /// how many.
    ///
    /// # Errors
    ///
    /// If a link cannot be removed.
    pub fn take_requests_off(links: &Links) -> Result<usize, bpf::Error> {
        take_off(links, SOCKET_REQUESTS)
    }

    /// Takes the programs off that are pinned as `links`, wherever they are; says how many. What gives sockets backends goes first.
    ///
    /// # Errors
    ///
    /// If a link cannot be removed.
    pub fn take_off(links: &Links) -> Result<usize, bpf::Error> {
        Ok(Self::take_requests_off(links)? + take_off(links, SOCKET_REPLIES)?)
    }
}

fn take_off<const N: usize>(links: &Links, programs: [&str; N]) -> Result<usize, bpf::Error> {
    programs
        .into_iter()
        .try_fold(0, |taken, program| Ok(taken + usize::from(links.remove(program)?)))
}

fn refused(cgroup: &Path, program: &'static str) -> impl Fn(ProgramError) -> AttachError {
    move |source| AttachError::Attach { cgroup: cgroup.into(), program, source }
}
