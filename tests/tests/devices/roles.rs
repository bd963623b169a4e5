// SPDX-License-Identifier: Apache-2.0

//! Which programs a device has depends on what it is for, and on what its frames begin with.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use aya::programs::tc::qdisc_add_clsact;
use proxy_agent::bpf::object::{
    EGRESS, INGRESS, L3_EGRESS, L3_INGRESS, L3_UPLINK_EGRESS, L3_UPLINK_INGRESS, UPLINK_EGRESS,
    UPLINK_INGRESS,
};
use proxy_agent::devices::{AttachMode, Attached, Programs, Role};
use proxy_tests::both_families;
use proxy_tests::family::{IpFamily, TestFamily};
use proxy_tests::netns::{Namespace, Prefix};

use crate::attach::{Scene, ways};
use crate::node::{Hands, address};
use crate::seen::Seen;
use crate::watch::{Watch, add_pod};

both_families!(
    a_device_that_becomes_an_uplink_has_other_programs,
    addresses_of_before_hold_until_the_node_is_known,
    a_nic_is_an_uplink_as_long_as_it_has_an_address,
);

fn a_device_that_becomes_an_uplink_has_other_programs<F: TestFamily>() -> Result<()> {
    let (node, other) = (Namespace::new("node")?, Namespace::new("other")?);
    add_pod(&node, &other, "eth0")?;
    let netlink = node.netlink()?;
    netlink.add_address(netlink.link("eth0")?, Prefix(address::<F>(1), 24))?;
    let mut watch = Watch::start(&node)?;
    let device = watch.synced()?.pop().context("a device")?;
    let becomes = |watch: &mut Watch, role| {
        watch.gone(device.index)?;
        let device = watch.appeared()?;
        ensure!(device.programs == Programs { role, has_ethernet_header: true }, "{device:?}");
        Ok(())
    };
    let _ = watch.node_addresses.send_replace(Some(BTreeSet::from([address::<F>(1)])));
    becomes(&mut watch, Role::Uplink)?;
    let _ = watch.node_addresses.send_replace(Some(BTreeSet::new()));
    becomes(&mut watch, Role::Workload)?;
    netlink.add_route(
        Prefix(F::FAMILY.unspecified(), 0),
        Some(address::<F>(2)),
        netlink.link("eth0")?,
    )?;
    becomes(&mut watch, Role::Uplink)
}

fn addresses_of_before_hold_until_the_node_is_known<F: TestFamily>() -> Result<()> {
    let (node, other) = (Namespace::new("node")?, Namespace::new("other")?);
    add_pod(&node, &other, "eth0")?;
    let netlink = node.netlink()?;
    netlink.add_address(netlink.link("eth0")?, Prefix(address::<F>(1), 24))?;
    let former = BTreeSet::from([address::<F>(1)]);
    for (known, stays) in [(former.clone(), true), (BTreeSet::new(), false)] {
        let mut watch = Watch::start_with(&node, former.clone())?;
        let device = watch.appeared()?;
        ensure!(device.programs.role == Role::Uplink, "{device:?}");
        watch.is_silent()?;
        let _ = watch.node_addresses.send_replace(Some(known));
        if !stays {
            watch.gone(device.index)?;
        }
        // What is wanted no more may be taken off once it is told of all that is wanted now.
        let roles: Vec<_> = watch.synced()?.iter().map(|device| device.programs.role).collect();
        ensure!(roles == if stays { vec![] } else { vec![Role::Workload] }, "{roles:?}");
    }
    Ok(())
}

/// Of those that packets are routed to: it has a link-local one from the start.
fn a_nic_is_an_uplink_as_long_as_it_has_an_address<F: TestFamily>() -> Result<()> {
    let node = Namespace::new("node")?;
    let netlink = node.netlink()?;
    Hands::new(&node)?.add_pair("leg", "other-leg")?;
    netlink.up("leg")?;
    node.ip("link add link leg name eth1 up type macvlan mode private")?;
    let mut watch = Watch::start(&node)?;
    let devices = watch.synced()?;
    ensure!(devices.is_empty(), "{devices:?}");
    let nic = netlink.link("eth1")?;
    for _ in 0..2 {
        netlink.add_address(nic, Prefix(address::<F>(1), 24))?;
        let device = watch.appeared()?;
        assert_eq!((device.name.as_str(), device.programs.role), ("eth1", Role::Uplink));
        netlink.remove_address(nic, Prefix(address::<F>(1), 24))?;
        watch.gone(device.index)?;
    }
    Ok(())
}

/// What hangs on a device with these programs, at ingress and at egress.
fn seen(mode: AttachMode, ingress: &[&str], egress: &[&str]) -> Seen {
    let names = [ingress, egress].map(|names| names.iter().map(ToString::to_string).collect());
    match mode {
        AttachMode::Clsact => Seen { clsact: names, has_clsact: true, ..Seen::default() },
        _ => Seen { tcx: names, ..Seen::default() },
    }
}

#[test]
fn each_role_has_its_programs_and_they_are_exchanged() -> Result<()> {
    let cases: [(Role, bool, &[&str], &[&str]); 6] = [
        (Role::Workload, true, &[INGRESS], &[EGRESS]),
        (Role::Uplink, true, &[UPLINK_INGRESS], &[UPLINK_EGRESS]),
        (Role::Tunnel, true, &[UPLINK_INGRESS], &[UPLINK_EGRESS]),
        (Role::Workload, false, &[L3_INGRESS], &[L3_EGRESS]),
        (Role::Uplink, false, &[L3_UPLINK_INGRESS], &[L3_UPLINK_EGRESS]),
        (Role::Tunnel, false, &[L3_UPLINK_INGRESS], &[L3_UPLINK_EGRESS]),
    ];
    for mode in ways() {
        let mut scene = Scene::new()?;
        let mut attacher = scene.attacher(*mode)?;
        let index = scene.index()?;
        for (role, has_ethernet_header, ingress, egress) in cases {
            let programs = Programs { role, has_ethernet_header };
            for attached in [Attached::Now, Attached::Before] {
                assert_eq!(scene.attach_as(&mut attacher, index, programs)?, attached);
                assert_eq!(scene.seen()?, seen(*mode, ingress, egress), "{programs:?}");
            }
        }
        scene.detach(&mut attacher)?;
        assert_eq!(scene.seen()?, Seen::default());
    }
    Ok(())
}

#[test]
fn a_guard_that_was_left_in_clsact_is_replaced() -> Result<()> {
    let mut scene = Scene::new()?;
    let index = scene.index()?;
    let uplink = Programs { role: Role::Uplink, has_ethernet_header: true };
    let mut killed = scene.attacher(AttachMode::Clsact)?;
    assert_eq!(scene.attach_as(&mut killed, index, uplink)?, Attached::Now);
    drop(killed);
    let mut attacher = scene.attacher(AttachMode::Clsact)?;
    assert_eq!(scene.attach_as(&mut attacher, index, uplink)?, Attached::Now);
    assert_eq!(scene.seen()?, seen(AttachMode::Clsact, &[UPLINK_INGRESS], &[UPLINK_EGRESS]));
    scene.detach(&mut attacher)?;
    assert_eq!(scene.seen()?, Seen::default());
    Ok(())
}

/// Others may translate there.
#[test]
fn a_guard_comes_after_other_filters_at_egress() -> Result<()> {
    let uplink = Programs { role: Role::Uplink, has_ethernet_header: true };
    let pod = Programs { role: Role::Workload, has_ethernet_header: true };
    for (programs, egress) in [(uplink, [INGRESS, UPLINK_EGRESS]), (pod, [EGRESS, INGRESS])] {
        let mut scene = Scene::new()?;
        let index = scene.index()?;
        scene.node.run(|| Ok(qdisc_add_clsact("veth1")?))?;
        let _foreign = scene.foreign_at_egress()?;
        let mut attacher = scene.attacher(AttachMode::Clsact)?;
        assert_eq!(scene.attach_as(&mut attacher, index, programs)?, Attached::Now);
        assert_eq!(scene.seen()?.clsact[1], egress);
        scene.detach(&mut attacher)?;
    }
    Ok(())
}

/// What is on its way to a pod's programs is not to be held back.
#[test]
fn guards_are_told_of_last() -> Result<()> {
    let (node, pod) = (Namespace::new("node")?, Namespace::new("pod")?);
    let netlink = node.netlink()?;
    let uplink = netlink.add_bridge("br0", [2, 0, 0, 0, 9, 1])?;
    netlink.add_route(Prefix(IpFamily::V4.unspecified(), 0), None, uplink)?;
    add_pod(&node, &pod, "veth1")?;
    let told = Watch::start(&node)?.synced()?;
    let roles: Vec<_> = told.iter().map(|device| device.programs.role).collect();
    assert_eq!(roles, [Role::Workload, Role::Uplink]);
    assert!(told[0].index > told[1].index, "their order is that of their indices");
    Ok(())
}
