// SPDX-License-Identifier: Apache-2.0

//! A small tc program of somebody else's: it counts, may drop, and ends with a verdict of its own.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;

use anyhow::{Context as _, Result};
use aya::maps::{Array, Map, MapData};
use aya::programs::SchedClassifier;
use nix::libc;
use proxy_tests::family::{IpFamily, TestFamily};
use proxy_tests::scratch::Scratch;

use crate::rig::{PORT, TARGET};

/// Goes on to the next program, by TCX as well as by clsact: `TC_ACT_UNSPEC`.
pub(super) const NEXT: i32 = -1;
/// Lets the packet pass and asks nobody else: `TC_ACT_OK`.
pub(super) const OK: i32 = 0;
/// Drops the packet: `TC_ACT_SHOT`.
pub(super) const DROP: i32 = 2;

/// How many packets a program has seen, of TCP and UDP, by the port on the server's side: that of
/// the Service, or that of its endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) to_service: u64,
    pub(super) to_endpoint: u64,
    pub(super) from_service: u64,
    pub(super) from_endpoint: u64,
}

/// The loaded program.
pub(super) struct Foreign {
    pub(super) program: SchedClassifier,
    counts: Array<MapData, u64>,
    _pins: Scratch,
}

impl Foreign {
    /// Loads one that ends with `verdict`, except for packets to the endpoint's port, which end
    /// with `at_endpoint`.
    pub(super) fn load<F: TestFamily>(verdict: i32, at_endpoint: i32) -> Result<Self> {
        let create = MapCreate { kind: 2, key_size: 4, value_size: 8, entries: 4, flags: 0 };
        let map = bpf(0, &create).context("making a map")?;
        let code = assemble(F::FAMILY, map.as_raw_fd(), verdict, at_endpoint);
        let load = ProgramLoad {
            kind: 3,
            length: code.len().try_into()?,
            code: code.as_ptr().addr() as u64,
            license: c"GPL".as_ptr().addr() as u64,
        };
        let program = bpf(5, &load).context("loading a program")?;
        let pins = Scratch::new("foreign")?;
        let path = pins.mount_bpffs()?.join("program");
        let name = CString::new(path.as_os_str().as_bytes())?;
        let pin = Pin { path: name.as_ptr().addr() as u64, object: program.as_raw_fd(), flags: 0 };
        let _ = bpf_call(6, &pin).context("pinning a program")?;
        let counts = Array::try_from(Map::from_map_data(MapData::from_fd(map)?)?)?;
        Ok(Self { program: SchedClassifier::from_pin(path)?, counts, _pins: pins })
    }

    /// What it has seen since it was asked last.
    pub(super) fn take(&mut self) -> Result<Seen> {
        let mut counts = [0; 4];
        for (index, count) in (0..).zip(&mut counts) {
            *count = self.counts.get(&index, 0)?;
            self.counts.set(index, 0, 0)?;
        }
        let [to_service, to_endpoint, from_service, from_endpoint] = counts;
        Ok(Seen { to_service, to_endpoint, from_service, from_endpoint })
    }
}

/// An instruction of `linux/bpf.h`.
fn instruction(code: u8, to: u8, from: u8, offset: i16, value: i32) -> u64 {
    let [low, high] = offset.to_le_bytes();
    let [a, b, c, d] = value.to_le_bytes();
    u64::from_le_bytes([code, from << 4 | to, low, high, a, b, c, d])
}

/// The program for Ethernet frames that carry packets of a family without options.
fn assemble(family: IpFamily, map: i32, verdict: i32, at_endpoint: i32) -> Vec<u64> {
    // Where the protocol and the ports are.
    let (ether_type, protocol, ports) = match family {
        IpFamily::V4 => (0x0800, 23, 34),
        IpFamily::V6 => (0x86dd, 20, 54),
    };
    let [service, endpoint] = [PORT, TARGET].map(i32::from);
    let set = |register, value| instruction(0xb7, register, 0, 0, value);
    let copy = |to, from| instruction(0xbf, to, from, 0, 0);
    let byte = |at| instruction(0x30, 0, 0, 0, at);
    let half = |at| instruction(0x28, 0, 0, 0, at);
    let equal = |register, value, skip| instruction(0x15, register, 0, skip, value);
    let unequal = |register, value, skip| instruction(0x55, register, 0, skip, value);
    let jump = |skip| instruction(0x05, 0, 0, skip, 0);
    vec![
        // Loads of the packet want it in register 6, and spoil registers 1 to 5.
        copy(6, 1),
        set(9, verdict),
        half(12),
        unequal(0, ether_type, 25),
        byte(protocol),
        equal(0, 6, 1),
        unequal(0, 17, 22),
        half(ports),
        copy(7, 0),
        half(ports + 2),
        // Register 8: which of the counters.
        set(8, 0),
        equal(0, service, 8),
        set(8, 1),
        equal(0, endpoint, 5),
        set(8, 2),
        equal(7, service, 4),
        set(8, 3),
        equal(7, endpoint, 2),
        jump(10),
        set(9, at_endpoint),
        // The key on the stack, and the counter at that key.
        instruction(0x63, 10, 8, -4, 0),
        copy(2, 10),
        instruction(0x07, 2, 0, 0, -4),
        instruction(0x18, 1, 1, 0, map),
        0,
        instruction(0x85, 0, 0, 0, 1),
        equal(0, 0, 2),
        set(1, 1),
        // Added atomically.
        instruction(0xdb, 0, 1, 0, 0),
        copy(0, 9),
        instruction(0x95, 0, 0, 0, 0),
    ]
}

/// `BPF_MAP_CREATE`'s part of `bpf_attr`.
#[repr(C)]
struct MapCreate {
    kind: u32,
    key_size: u32,
    value_size: u32,
    entries: u32,
    flags: u32,
}

/// `BPF_PROG_LOAD`'s part of `bpf_attr`, as far as it is needed.
#[repr(C)]
struct ProgramLoad {
    kind: u32,
    length: u32,
    code: u64,
    license: u64,
}

/// `BPF_OBJ_PIN`'s part of `bpf_attr`.
#[repr(C)]
struct Pin {
    path: u64,
    object: i32,
    flags: u32,
}

/// A command that returns a descriptor.
fn bpf<A>(command: i32, attributes: &A) -> io::Result<OwnedFd> {
    let descriptor = bpf_call(command, attributes)?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// `bpf(2)`. The attributes must be those of the command.
fn bpf_call<A>(command: i32, attributes: &A) -> io::Result<i32> {
    // SAFETY: the kernel reads as many bytes as it is told that the structure has, and what the
    // pointers in there point at outlives the call.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, &raw const *attributes, size_of::<A>()) };
    match i32::try_from(result) {
        Ok(result) if result >= 0 => Ok(result),
        _ => Err(io::Error::last_os_error()),
    }
}
