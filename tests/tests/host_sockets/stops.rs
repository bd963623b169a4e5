// SPDX-License-Identifier: Apache-2.0

//! What an agent leaves at sockets when it ends, and when that is removed.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;

use anyhow::{Context as _, Result, ensure};
use nix::libc;
use proxy_tests::cluster::{WEB, eventually};
use proxy_tests::family::TestFamily;
use proxy_tests::topology::Host;
use proxy_tests::traffic::CountedStream;

use super::rig::{NODE, OTHER_NODE, Rig, SILENCE, target};

/// `BPF_CGROUP_INET4_CONNECT` and the others of `linux/bpf.h` that the agent attaches to.
const ATTACH_TYPES: [u32; 8] = [10, 11, 14, 15, 19, 20, 29, 30];

/// `BPF_PROG_QUERY`'s part of `bpf_attr`, as far as it is needed.
#[repr(C)]
#[derive(Default)]
struct Query {
    target: i32,
    attach_type: u32,
    flags: u32,
    attach_flags: u32,
    programs: u64,
    count: u32,
    reserved: u32,
}

/// One program of each kind is on the node's control group, and none on another's.
pub(crate) fn is_running(rig: &Rig) -> Result<()> {
    let (here, there) = (programs(rig.node(NODE))?, programs(rig.node(OTHER_NODE))?);
    ensure!(here as usize == ATTACH_TYPES.len() && there == 0, "{here} programs, and {there}");
    Ok(())
}

/// How many programs a host's control group has for sockets.
fn programs(host: &Host) -> Result<u32> {
    const PROG_QUERY: i32 = 16;
    let cgroup = File::open(host.cgroup().context("nodes have a group")?)?;
    let mut all = 0;
    for attach_type in ATTACH_TYPES {
        let mut query = Query { target: cgroup.as_raw_fd(), attach_type, ..Query::default() };
        // SAFETY: the kernel reads and writes no more bytes than it is told that there are.
        let result =
            unsafe { libc::syscall(libc::SYS_bpf, PROG_QUERY, &raw mut query, size_of::<Query>()) };
        ensure!(result == 0, "BPF_PROG_QUERY: {}", io::Error::last_os_error());
        all += query.count;
    }
    Ok(all)
}

/// No program is left on the node's control group, so that processes are not served any more; and
/// a connection of before goes on.
pub(crate) fn is_over<F: TestFamily>(rig: &Rig, stream: &mut CountedStream) -> Result<()> {
    let node = rig.node(NODE);
    // The kernel takes its time when a process was killed.
    let gone = eventually(|| programs(node).is_ok_and(|programs| programs == 0));
    ensure!(gone, "{} programs are left", programs(node)?);
    for (client, form, way) in rig.clients::<F>() {
        let answer = way.ask(&client.patience(SILENCE), target::<F>(WEB));
        ensure!(answer.is_err(), "{form:?} {way:?} {answer:?}");
    }
    for _ in 0..50 {
        let _ = stream.exchange()?;
    }
    Ok(())
}
