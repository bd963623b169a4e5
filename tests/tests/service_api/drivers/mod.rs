// SPDX-License-Identifier: Apache-2.0

//! Clients outside whose packets are handled in the drivers of uplinks.

mod abilities;
mod changes;
mod gateways;
mod jumbo;
mod mended;
mod modes;
mod neighbours;
mod queues;
mod restarts;
mod routes;
pub(super) mod stacked;
mod versions;

use std::fs;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use anyhow::{Context as _, Result, ensure};
use aya::maps::{MapData, PerCpuArray};
use nix::errno::Errno;
use nix::libc;
use proxy_agent::bpf::object::{map_directory, pinned};
use proxy_common::counter::Reason;
use proxy_common::{V4, V6, map_names};
use proxy_tests::agent::Agent;
use proxy_tests::cluster::eventually;
use proxy_tests::family::{IpFamily, TestFamily};
use proxy_tests::netns::Card;
use proxy_tests::topology::TopologySpec;

use super::rig::{LOCAL, REMOTE, Rig};
use super::uplinks::{OTHER_UPLINK, join_otherwise, with_router};

/// The node, another one, a machine outside and one behind a router; all of them with network cards.
pub(super) fn with_cards(spec: TopologySpec) -> Result<(Rig, Vec<Card>)> {
    let rig = with_router(spec)?;
    let cards = rig.cluster.topology.be_like_network_cards()?;
    rig.cluster.manifests.apply(&rig.service(&[LOCAL, REMOTE]))?;
    Ok((rig, cards))
}

/// The same with another uplink, by which the router is reached.
fn with_another_uplink(spec: TopologySpec) -> Result<(Rig, Vec<Card>)> {
    let (rig, mut cards) = with_cards(spec)?;
    join_otherwise(&rig)?;
    let router = rig.cluster.topology.outsider("router").namespace();
    cards.push(router.be_network_card(OTHER_UPLINK)?);
    Ok((rig, cards))
}

/// The log comes to say this, as often as that.
pub(super) fn says(agent: &Agent<'_>, text: &str, times: usize) -> bool {
    eventually(|| agent.log().is_ok_and(|log| log.matches(text).count() == times))
}

/// How often the agent has counted a reason.
pub(super) fn count<F: TestFamily>(agent: &Agent<'_>, reason: Reason) -> Result<u64> {
    Ok(count_by_processors::<F>(agent, reason)?.iter().sum())
}

/// The same on each processor.
fn count_by_processors<F: TestFamily>(agent: &Agent<'_>, reason: Reason) -> Result<Vec<u64>> {
    let map = pinned(&map_directory(agent.pin_root()), map_names::COUNTERS)?;
    let counters: PerCpuArray<MapData, u64> = map.try_into()?;
    let row = match F::FAMILY {
        IpFamily::V4 => reason.row::<V4>(),
        IpFamily::V6 => reason.row::<V6>(),
    };
    Ok(counters.get(&row, 0)?.to_vec())
}

/// `BPF_LINK_GET_FD_BY_ID` of `linux/bpf.h`.
const LINK_BY_ID: libc::c_long = 30;
/// `BPF_LINK_DETACH` of `linux/bpf.h`.
const DETACH_LINK: libc::c_long = 34;

/// Takes the agent's programs off all drivers, as an administrator could.
fn detach_from_drivers(agent: &Agent<'_>) -> Result<()> {
    let process = agent.process().context("the agent does not run")?.id();
    let mut detached = 0;
    for descriptor in fs::read_dir(format!("/proc/{process}/fdinfo"))? {
        let text = fs::read_to_string(descriptor?.path())?;
        let field = |name: &str| {
            let mut lines = text.lines().filter_map(|line| line.split_once(":\t"));
            lines.find(|(key, _)| *key == name).map(|(_, value)| value.trim().to_owned())
        };
        if field("link_type").as_deref() == Some("xdp") {
            let id: u32 = field("link_id").context("a link without id")?.parse()?;
            let link = bpf(LINK_BY_ID, id)?;
            // SAFETY: the kernel has just given it, to nobody else.
            let link = unsafe { OwnedFd::from_raw_fd(i32::try_from(link)?) };
            let _: libc::c_long = bpf(DETACH_LINK, link.as_raw_fd().cast_unsigned())?;
            detached += 1;
        }
    }
    ensure!(detached > 0, "there is no such link");
    Ok(())
}

/// Has the kernel do something with what a number names.
fn bpf(command: libc::c_long, number: u32) -> Result<libc::c_long> {
    let mut attributes = [0_u32; 16];
    attributes[0] = number;
    // SAFETY: the attributes live, and have the size that is told.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command, attributes.as_mut_ptr(), size_of_val(&attributes))
    };
    Ok(Errno::result(result)?)
}
