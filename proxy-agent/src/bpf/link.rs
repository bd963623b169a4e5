// SPDX-License-Identifier: Apache-2.0
//! Links as the kernel has them: where one is, what runs there, and another program instead.
//!
//! aya attaches programs, and gives links away to be pinned. It does not say where a link is, nor replace the program
//! on a control group, nor detach what others hold open: hence these few calls of `bpf(2)`.

use std::{
    ffi::CString,
    io,
    mem::{self, MaybeUninit},
    os::{
        fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

use aya_obj::generated::{
    bpf_attach_type::{BPF_TCX_EGRESS, BPF_TCX_INGRESS},
    bpf_cmd::{
        self, BPF_LINK_DETACH, BPF_LINK_UPDATE, BPF_OBJ_GET, BPF_OBJ_GET_INFO_BY_FD, BPF_OBJ_PIN,
    },
    bpf_link_info,
    bpf_link_type::{BPF_LINK_TYPE_CGROUP, BPF_LINK_TYPE_TCX, BPF_LINK_TYPE_XDP},
};
use nix::libc;

// As the kernel writes them.
const CGROUP: u32 = BPF_LINK_TYPE_CGROUP as u32;
const XDP: u32 = BPF_LINK_TYPE_XDP as u32;
const TCX: u32 = BPF_LINK_TYPE_TCX as u32;
const INGRESS: u32 = BPF_TCX_INGRESS as u32;
const EGRESS: u32 = BPF_TCX_EGRESS as u32;

/// Where a program runs by a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// At a device's tc ingress, by TCX: its interface index.
    Ingress(u32),
    /// At a device's tc egress, by TCX: its interface index.
    Egress(u32),
    /// In a device's driver, or behind it: its interface index.
    Driver(u32),
    /// On a control group: its id, which is the inode of its directory.
    Cgroup(u64),
    /// Nowhere any more, or where none of ours is.
    Nowhere,
}

/// What the kernel says of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkState {
    /// Its id.
    pub id: u32,
    /// Where it is.
    pub place: Place,
    /// The id of its program.
    pub program: u32,
}

/// An open link. It stays as long as it is open, here or elsewhere, or pinned.
#[derive(Debug)]
pub(super) struct Link(OwnedFd);

impl Link {
    /// Opens a pinned link; nothing if nothing is pinned there.
    pub(super) fn open(path: &Path) -> io::Result<Option<Self>> {
        let name = CString::new(path.as_os_str().as_bytes())?;
        let mut object = Named { path: name.as_ptr() as u64, descriptor: 0, flags: 0 };
        match bpf(BPF_OBJ_GET, &mut object) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
            // SAFETY: the kernel has just opened it for the caller, who is to close it.
            Ok(descriptor) => Ok(Some(Self(unsafe { OwnedFd::from_raw_fd(descriptor) }))),
        }
    }

    /// Pins it where nothing is.
    pub(super) fn pin(&self, path: &Path) -> io::Result<()> {
        let name = CString::new(path.as_os_str().as_bytes())?;
        let mut object =
            Named { path: name.as_ptr() as u64, descriptor: self.descriptor(), flags: 0 };
        bpf(BPF_OBJ_PIN, &mut object).map(drop)
    }

    /// Where it is, and what runs there.
    pub(super) fn state(&self) -> io::Result<LinkState> {
        let mut info = MaybeUninit::<bpf_link_info>::zeroed();
        let mut asked = Asked {
            descriptor: self.descriptor(),
            length: u32::try_from(size_of::<bpf_link_info>()).map_err(io::Error::other)?,
            info: info.as_mut_ptr() as u64,
        };
        let _: i32 = bpf(BPF_OBJ_GET_INFO_BY_FD, &mut asked)?;
        // SAFETY: it is made of numbers only, for which zeros do.
        let info = unsafe { info.assume_init() };
        // SAFETY: the kernel fills the part that goes with the type, and the rest is zeros.
        let (cgroup, xdp, tcx) = unsafe {
            let place = info.__bindgen_anon_1;
            (place.cgroup.cgroup_id, place.xdp.ifindex, place.tcx)
        };
        let place = match (info.type_, tcx.attach_type) {
            (CGROUP, _) if cgroup != 0 => Place::Cgroup(cgroup),
            (XDP, _) if xdp != 0 => Place::Driver(xdp),
            (TCX, INGRESS) if tcx.ifindex != 0 => Place::Ingress(tcx.ifindex),
            (TCX, EGRESS) if tcx.ifindex != 0 => Place::Egress(tcx.ifindex),
            _ => Place::Nowhere,
        };
        Ok(LinkState { id: info.id, place, program: info.prog_id })
    }

    /// Has another program run where it is, from one packet to the next.
    pub(super) fn update(&self, program: BorrowedFd<'_>) -> io::Result<()> {
        let program = program.as_raw_fd().cast_unsigned();
        let mut update = Update { link: self.descriptor(), program, flags: 0, former: 0 };
        bpf(BPF_LINK_UPDATE, &mut update).map(drop)
    }

    /// Takes its program off, whoever else has it open.
    pub(super) fn detach(&self) -> io::Result<()> {
        bpf(BPF_LINK_DETACH, &mut self.descriptor()).map(drop)
    }

    fn descriptor(&self) -> u32 {
        self.0.as_raw_fd().cast_unsigned()
    }
}

/// What `bpf_attr` is for `BPF_OBJ_PIN` and `BPF_OBJ_GET`.
#[repr(C)]
struct Named {
    path: u64,
    descriptor: u32,
    flags: u32,
}

/// What it is for `BPF_OBJ_GET_INFO_BY_FD`.
#[repr(C)]
struct Asked {
    descriptor: u32,
    length: u32,
    info: u64,
}

/// What it is for `BPF_LINK_UPDATE`.
#[repr(C)]
struct Update {
    link: u32,
    program: u32,
    flags: u32,
    former: u32,
}

/// Calls `bpf(2)` with what `bpf_attr` is for the command.
pub(super) fn bpf<T>(command: bpf_cmd, attributes: &mut T) -> io::Result<i32> {
    let attributes: *mut T = attributes;
    // SAFETY: the kernel reads no more of it than it is told that there is, and takes what it is not given for zeros.
    // What it is pointed at from there outlives the call, and is as long as is said.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command as u32, attributes, mem::size_of::<T>()) };
    match i32::try_from(result) {
        Ok(result) if result >= 0 => Ok(result),
        _ => Err(io::Error::last_os_error()),
    }
}
