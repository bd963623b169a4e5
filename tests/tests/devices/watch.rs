// SPDX-License-Identifier: Apache-2.0

//! What the watch tells of pods that come, change and go.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use proxy_agent::devices::{
    DeviceEvent, DeviceOptions, DeviceWatcher, NodeAddresses, Patterns, Role, ServedDevice,
    XdpModes,
};
use proxy_agent::local_clients::LocalClients;
use proxy_common::device::Device;
use proxy_common::{V4, V6};
use proxy_tests::both_families;
use proxy_tests::family::{IpFamily, TestFamily};
use proxy_tests::median::median;
use proxy_tests::netns::{Namespace, Prefix, Veth};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::node::{Hands, address, host};

/// How long to wait for what must not come.
const SILENCE: Duration = Duration::from_millis(100);

/// How soon a pod must be told of.
const AT_ONCE: Duration = Duration::from_millis(100);

/// How long to wait for what must come.
const PATIENCE: Duration = Duration::from_secs(20);

const MAC: [u8; 6] = [2, 0, 0, 0, 9, 1];

both_families!(
    a_bridge_port_is_followed,
    the_kernels_choice_is_asked_for,
    a_pod_without_routes_gets_an_address_of_the_uplink,
);

/// A watch in a namespace. Its tasks run on a thread of their own, or only while it is asked.
pub(crate) struct Watch {
    runtime: Runtime,
    watcher: DeviceWatcher,
    pub(crate) node_addresses: watch::Sender<Option<BTreeSet<IpAddr>>>,
    /// The last device that became an uplink.
    uplink: Option<u32>,
}

impl Watch {
    pub(crate) fn start(node: &Namespace) -> Result<Self> {
        Self::on(Builder::new_multi_thread().worker_threads(1).enable_all().build()?, node)
    }

    /// One that begins with a Node's addresses of before: what they are now is not known yet.
    pub(crate) fn start_with(node: &Namespace, former: BTreeSet<IpAddr>) -> Result<Self> {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        Self::with(runtime, node, None, former)
    }

    fn asleep_unless_asked(node: &Namespace) -> Result<Self> {
        Self::on(Builder::new_current_thread().enable_all().build()?, node)
    }

    fn on(runtime: Runtime, node: &Namespace) -> Result<Self> {
        Self::with(runtime, node, Some(BTreeSet::new()), BTreeSet::new())
    }

    fn with(
        runtime: Runtime,
        node: &Namespace,
        known: Option<BTreeSet<IpAddr>>,
        former: BTreeSet<IpAddr>,
    ) -> Result<Self> {
        let (node_addresses, receiver) = watch::channel(known);
        let (addresses, _) = watch::channel(None);
        let watcher = node.run(|| {
            let _guard = runtime.enter();
            let options = DeviceOptions {
                patterns: Patterns::none(),
                local_clients: LocalClients::ByRole,
                xdp: XdpModes::default(),
            };
            let receiver = NodeAddresses::new(receiver, former);
            Ok(DeviceWatcher::spawn(options, receiver, addresses)?)
        })?;
        Ok(Self { runtime, watcher, node_addresses, uplink: None })
    }

    fn next_within(&mut self, limit: Duration) -> Result<DeviceEvent> {
        let next = async { timeout(limit, self.watcher.next()).await };
        self.runtime.block_on(next).context("no event")?.context("the watch has ended")
    }

    /// What is told of all devices before `Synced`.
    pub(crate) fn synced(&mut self) -> Result<Vec<ServedDevice>> {
        let mut devices = Vec::new();
        loop {
            match self.next_within(PATIENCE)? {
                DeviceEvent::Appeared(device) => devices.push(device),
                DeviceEvent::Synced => return Ok(devices),
                event => bail!("{event:?}"),
            }
        }
    }

    pub(crate) fn appeared(&mut self) -> Result<ServedDevice> {
        match self.next_within(PATIENCE)? {
            DeviceEvent::Appeared(device) => Ok(device),
            event => bail!("{event:?}"),
        }
    }

    /// Nothing more is told.
    pub(crate) fn is_silent(&mut self) -> Result<()> {
        let next = self.next_within(SILENCE);
        ensure!(next.is_err(), "{next:?}");
        Ok(())
    }

    /// The name of a device that there is.
    fn appeared_or_changed(&mut self) -> Result<String> {
        match self.next_within(PATIENCE)? {
            DeviceEvent::Appeared(device) | DeviceEvent::Changed(device) => Ok(device.name),
            event => bail!("{event:?}"),
        }
    }

    pub(crate) fn gone(&mut self, index: u32) -> Result<()> {
        let event = self.next_within(PATIENCE)?;
        ensure!(event == DeviceEvent::Gone { index }, "{event:?}");
        Ok(())
    }

    /// The state of a device once it is as wanted; on the way it may be told of several times.
    fn changed_until(&mut self, wanted: impl Fn(&ServedDevice) -> bool) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let event = self.next_within(deadline.saturating_duration_since(Instant::now()))?;
            match event {
                DeviceEvent::Changed(device) if wanted(&device) => return Ok(()),
                DeviceEvent::Changed(_) => {}
                // An uplink beside the pods.
                DeviceEvent::Appeared(device) if device.programs.role == Role::Uplink => {
                    self.uplink = Some(device.index);
                }
                DeviceEvent::Gone { index } if Some(index) == self.uplink => {}
                event => bail!("{event:?}"),
            }
        }
    }
}

fn host_address<F: TestFamily>(device: &ServedDevice) -> Option<IpAddr> {
    match F::FAMILY {
        IpFamily::V4 => device.host_addresses.of::<V4>().map(Into::into),
        IpFamily::V6 => device.host_addresses.of::<V6>().map(Into::into),
    }
}

/// Tries until it works.
fn eventually(mut attempt: impl FnMut() -> Result<()>) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match attempt() {
            Err(_) if Instant::now() < deadline => sleep(Duration::from_millis(10)),
            result => return result,
        }
    }
}

pub(crate) fn add_pod(node: &Namespace, pod: &Namespace, name: &str) -> Result<()> {
    node.netlink()?.add_veth(Veth::named(name), Veth::named("eth0"), pod)
}

fn a_bridge_port_is_followed<F: TestFamily>() -> Result<()> {
    let (node, pod) = (Namespace::new("node")?, Namespace::new("pod")?);
    let netlink = node.netlink()?;
    let bridge = netlink.add_bridge("cni0", MAC)?;
    let mut watch = Watch::start(&node)?;
    ensure!(watch.synced()?.is_empty(), "no pod yet");
    let hands = Hands::new(&node)?;
    let bridge_index = hands.index("cni0")?;

    add_pod(&node, &pod, "veth1")?;
    let index = hands.index("veth1")?;
    let device = watch.appeared()?;
    assert_eq!((device.index, device.name.as_str()), (index, "veth1"));
    assert_eq!(
        (device.device, host_address::<F>(&device)),
        (Device::routed().as_pair().with_local_clients(true), None)
    );

    netlink.enslave("veth1", bridge)?;
    watch.changed_until(|pod| {
        pod.device == Device::bridge_port(bridge_index, MAC).with_local_clients(true)
    })?;
    netlink.add_address(bridge, Prefix(address::<F>(1), 24))?;
    watch.changed_until(|pod| host_address::<F>(pod) == Some(address::<F>(1)))?;
    let mut mac = MAC;
    mac[5] = 77;
    hands.set_mac("cni0", mac)?;
    watch.changed_until(|pod| {
        pod.device == Device::bridge_port(bridge_index, mac).with_local_clients(true)
    })?;
    netlink.delete("veth1")?;
    watch.gone(index)
}

fn the_kernels_choice_is_asked_for<F: TestFamily>() -> Result<()> {
    let (node, pod) = (Namespace::new("node")?, Namespace::new("pod")?);
    add_pod(&node, &pod, "veth1")?;
    let mut watch = Watch::start(&node)?;
    let device = watch.synced()?.pop().context("the pod that was there")?;
    assert_eq!(host_address::<F>(&device), None);
    let hands = Hands::new(&node)?;
    let netlink = node.netlink()?;
    for number in [2, 1] {
        netlink.add_address(netlink.link("lo")?, host(address::<F>(number)))?;
    }
    // The kernel looks over IPv6 addresses before it lets them be used, in its own time.
    eventually(|| hands.add_route_from(host(address::<F>(7)), device.index, address::<F>(2)))?;
    watch.changed_until(|pod| host_address::<F>(pod) == Some(address::<F>(2)))?;
    // Whatever has addresses itself does not need a choice.
    netlink.add_address(netlink.link("veth1")?, host(address::<F>(3)))?;
    watch.changed_until(|pod| host_address::<F>(pod) == Some(address::<F>(3)))
}

fn a_pod_without_routes_gets_an_address_of_the_uplink<F: TestFamily>() -> Result<()> {
    let (node, pod) = (Namespace::new("node")?, Namespace::new("pod")?);
    add_pod(&node, &pod, "veth1")?;
    let mut watch = Watch::start(&node)?;
    assert_eq!(watch.synced()?.len(), 1);
    // Nobody is there to tell whether an address is taken.
    node.sysctl([("ipv6/conf/default/accept_dad", "0")])?;
    let netlink = node.netlink()?;
    let uplink = netlink.add_bridge("br0", MAC)?;
    netlink.add_address(uplink, host(address::<F>(1)))?;
    netlink.add_route(Prefix(F::FAMILY.unspecified(), 0), None, uplink)?;
    watch.changed_until(|pod| host_address::<F>(pod) == Some(address::<F>(1)))?;
    netlink.delete("br0")?;
    watch.changed_until(|pod| host_address::<F>(pod).is_none())
}

/// Most plugins make a pair in the node's namespace and move one end into the pod's.
#[test]
fn a_pair_is_a_pods_once_one_end_has_moved() -> Result<()> {
    let (node, pod) = (Namespace::new("node")?, Namespace::new("pod")?);
    let mut watch = Watch::start(&node)?;
    assert_eq!(watch.synced()?, []);
    let hands = Hands::new(&node)?;
    let mut took = Vec::new();
    for round in 0..10 {
        hands.add_pair("veth1", "tmp1")?;
        let index = hands.index("veth1")?;
        let start = Instant::now();
        hands.move_to("tmp1", &pod)?;
        let device = watch.appeared().with_context(|| format!("round {round}"))?;
        took.push(start.elapsed());
        assert_eq!((device.index, device.name.as_str()), (index, "veth1"));
        node.netlink()?.delete("veth1")?;
        watch.gone(index)?;
    }
    ensure!(median(&mut took) < AT_ONCE, "they were told of after {took:?}");
    Ok(())
}

#[test]
fn a_pod_that_goes_with_its_namespace_is_gone() -> Result<()> {
    let node = Namespace::new("node")?;
    let pod = Namespace::new("pod")?;
    add_pod(&node, &pod, "veth1")?;
    let mut watch = Watch::start(&node)?;
    let device = watch.synced()?.pop().context("a device")?;
    drop(pod);
    // The kernel clears namespaces away in its own time.
    let event = watch.next_within(PATIENCE)?;
    assert_eq!(event, DeviceEvent::Gone { index: device.index });
    Ok(())
}

#[test]
fn a_new_name_is_told() -> Result<()> {
    let (node, pod) = (Namespace::new("node")?, Namespace::new("pod")?);
    add_pod(&node, &pod, "veth1")?;
    let mut watch = Watch::start(&node)?;
    let device = watch.synced()?.pop().context("a device")?;
    let hands = Hands::new(&node)?;
    hands.rename(device.index, "veth2")?;
    watch.changed_until(|pod| pod.name == "veth2")
}

/// The kernel drops messages that nobody reads in time: nothing may be lost for that.
#[test]
fn lost_messages_are_made_up_for() -> Result<()> {
    const PODS: usize = 300;
    let (node, pod) = (Namespace::new("node")?, Namespace::new("pod")?);
    add_pod(&node, &pod, "stays")?;
    node.netlink()?.add_veth(Veth::named("goes"), Veth::named("eth1"), &pod)?;
    let mut watch = Watch::asleep_unless_asked(&node)?;
    let mut known: BTreeSet<_> = watch.synced()?.into_iter().map(|device| device.name).collect();
    assert_eq!(known.len(), 2);
    let hands = Hands::new(&node)?;
    let goes = hands.index("goes")?;
    let netlink = node.netlink()?;
    netlink.delete("goes")?;
    for number in 0..PODS {
        let (here, there) = (format!("veth{number}"), format!("pod{number}"));
        netlink.add_veth(Veth::named(&here), Veth::named(&there), &pod)?;
    }
    // What stays is told of again, as it may have gone and come: so messages were lost.
    let mut told_again = BTreeSet::new();
    while known.len() < PODS + 1 || known.contains("goes") || !told_again.contains("stays") {
        match watch.next_within(PATIENCE)? {
            DeviceEvent::Appeared(device) => {
                if !known.insert(device.name.clone()) {
                    let _ = told_again.insert(device.name);
                }
            }
            DeviceEvent::Gone { index } => assert!(index == goes && known.remove("goes")),
            DeviceEvent::Changed(_) => {}
            event @ DeviceEvent::Synced => bail!("{event:?}"),
        }
    }
    // Afterwards all is as ever.
    netlink.add_veth(Veth::named("late"), Veth::named("late"), &pod)?;
    while watch.appeared_or_changed()? != "late" {}
    Ok(())
}
