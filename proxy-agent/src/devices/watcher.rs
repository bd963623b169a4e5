// SPDX-License-Identifier: Apache-2.0
//! Keeps a snapshot of the node's devices true, and tells what changes of those that have programs.
//!
//! The kernel's messages are applied one by one and at once. Every message since before the first
//! reading is applied after it, so what the two tell twice does no harm and nothing falls between
//! them. When the kernel had to drop messages, or when a message does not say all, everything is
//! read again.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    net::IpAddr,
    time::Duration,
};

use futures_util::{FutureExt as _, StreamExt as _, stream::BoxStream};
use rtnetlink::{MulticastGroup, packet_core::NetlinkMessage, packet_route::RouteNetlinkMessage};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::sleep,
};
use tracing::{debug, warn};

use super::{
    classify::{Role, classify},
    forwarders::{Forwarders, forwarders},
    netlink::{self, NetlinkError, Requests},
    node_addresses::NodeAddresses,
    options::DeviceOptions,
    served::{ServedDevice, describe},
    snapshot::{Aftermath, LinkHeader, Snapshot},
    source::Choices,
};
use crate::chain::chain;

/// What the kernel is asked to tell of.
const GROUPS: [MulticastGroup; 5] = [
    MulticastGroup::Link,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv6Ifaddr,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv6Route,
];

/// How many events may wait for their reader before the watcher waits too.
const WAITING_EVENTS: usize = 1024;

/// How many messages are taken in before the reader hears of them.
const BATCH: usize = 256;

/// How long to wait before a reading that failed is tried again.
const READ_RETRY: Duration = Duration::from_millis(100);

/// What happened to the node's devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceEvent {
    /// There is a device that is to have programs. After lost messages it is told of each one again: its programs
    /// may be gone without a word, so attach again what is not there.
    Appeared(ServedDevice),
    /// What the programs must know of a device has changed.
    Changed(ServedDevice),
    /// The device is gone, or is to have no programs any more, or others.
    Gone {
        /// Its interface index, which may be used again.
        index: u32,
    },
    /// All devices that there were at the start have been told of, as they are by the Node's own addresses.
    Synced,
}

/// A running watch; it ends when this is dropped.
#[derive(Debug)]
pub struct DeviceWatcher {
    events: mpsc::Receiver<DeviceEvent>,
    forwarders: watch::Receiver<Forwarders>,
    _tasks: JoinSet<()>,
}

impl DeviceWatcher {
    /// Watches the devices of the calling thread's network namespace.
    ///
    /// The host's own global addresses are told to `addresses` once they are known.
    ///
    /// # Errors
    ///
    /// If the sockets cannot be opened. Later failures are retried and logged.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime with I/O and time.
    pub fn spawn(
        options: DeviceOptions,
        node_addresses: NodeAddresses,
        addresses: watch::Sender<Option<BTreeSet<IpAddr>>>,
    ) -> Result<Self, NetlinkError> {
        let (connection, _, messages) =
            rtnetlink::new_multicast_connection(&GROUPS).map_err(NetlinkError::Open)?;
        let requests = Requests::open()?;
        let (sender, events) = mpsc::channel(WAITING_EVENTS);
        let (forwarding, forwarders) = watch::channel(Forwarders::default());
        let watch = Watch {
            requests,
            messages: messages.map(|(message, _)| message).boxed(),
            options,
            node_addresses,
            addresses,
            sender,
            forwarding,
            snapshot: Snapshot::default(),
            choices: Choices::default(),
            unreadable: BTreeSet::new(),
            told: BTreeMap::new(),
            is_synced: false,
        };
        let mut tasks = JoinSet::new();
        let _ = tasks.spawn(connection);
        let _ = tasks.spawn(async move {
            if watch.run().await.is_none() {
                debug!("the device watch has ended");
            }
        });
        Ok(Self { events, forwarders, _tasks: tasks })
    }

    /// The next event. Nothing if the kernel closed the socket, which does not happen.
    pub async fn next(&mut self) -> Option<DeviceEvent> {
        self.events.recv().await
    }

    /// By which devices the host is to forward packets.
    #[must_use]
    pub fn forwarders(&self) -> watch::Receiver<Forwarders> {
        self.forwarders.clone()
    }
}

fn tell_if_new<T: PartialEq>(watched: &watch::Sender<T>, value: T) {
    let _ = watched.send_if_modified(|told| {
        let changed = *told != value;
        *told = value;
        changed
    });
}

struct Watch {
    requests: Requests,
    messages: BoxStream<'static, NetlinkMessage<RouteNetlinkMessage>>,
    options: DeviceOptions,
    node_addresses: NodeAddresses,
    addresses: watch::Sender<Option<BTreeSet<IpAddr>>>,
    sender: mpsc::Sender<DeviceEvent>,
    forwarding: watch::Sender<Forwarders>,
    snapshot: Snapshot,
    choices: Choices,
    unreadable: BTreeSet<u32>,
    /// What the reader knows.
    told: BTreeMap<u32, ServedDevice>,
    is_synced: bool,
}

impl Watch {
    /// Runs until nobody reads the events (or writes the messages) any more.
    async fn run(mut self) -> Option<()> {
        self.read().await;
        self.tell(Aftermath::default()).await?;
        let mut node_is_known = true;
        loop {
            let mut aftermath = Aftermath::default();
            tokio::select! {
                message = self.messages.next() => self.take(message?, &mut aftermath),
                changed = self.node_addresses.own.changed(), if node_is_known => {
                    node_is_known = changed.is_ok();
                    self.snapshot.node_addresses = self.node_addresses.current();
                }
                () = self.sender.closed() => return None,
            }
            // What came with it is applied with it: the events tell the outcome.
            for _ in 1..BATCH {
                let Some(message) = self.messages.next().now_or_never() else {
                    break;
                };
                self.take(message?, &mut aftermath);
            }
            self.settle(&mut aftermath).await;
            self.tell(aftermath).await?;
        }
    }

    fn take(&mut self, message: NetlinkMessage<RouteNetlinkMessage>, aftermath: &mut Aftermath) {
        for change in netlink::changes(message) {
            self.snapshot.apply(change, aftermath);
        }
    }

    /// Learns what the messages did not say.
    async fn settle(&mut self, aftermath: &mut Aftermath) {
        // An answer may lead to one more question, about the other end of a pair.
        let mut asked = BTreeSet::new();
        while let Some(index) = aftermath.ask.pop_first() {
            if !self.snapshot.links.contains_key(&index) || !asked.insert(index) {
                continue;
            }
            match self.requests.link(index).await {
                Ok(changes) => {
                    for change in changes {
                        self.snapshot.apply(change, aftermath);
                    }
                }
                Err(error) => {
                    warn!(index, error = chain(&error), "cannot ask for a device");
                    aftermath.reread = true;
                }
            }
        }
        if aftermath.reread {
            debug!("reading all devices again");
            self.read().await;
            // Routes and addresses are new, for all that is known.
            aftermath.readdressed = true;
        }
    }

    /// Reads everything, however often it takes.
    async fn read(&mut self) {
        loop {
            match self.requests.read().await {
                Ok(snapshot) => {
                    let node_addresses = self.node_addresses.current();
                    self.snapshot = Snapshot { node_addresses, ..snapshot };
                    return;
                }
                Err(error) => {
                    warn!(error = chain(&error), "cannot read the devices");
                    sleep(READ_RETRY).await;
                }
            }
        }
    }

    /// Sends what is new to the reader. Nothing when there is no reader any more.
    async fn tell(&mut self, aftermath: Aftermath) -> Option<()> {
        for index in &aftermath.gone {
            self.tell_gone(*index).await?;
        }
        self.warn_of_unreadable();
        let roles = classify(&self.snapshot, &self.options.patterns);
        tell_if_new(&self.forwarding, forwarders(&self.snapshot, &roles));
        let addresses = self.snapshot.addresses.values().flat_map(BTreeMap::keys);
        tell_if_new(&self.addresses, Some(addresses.copied().collect()));
        self.choices.ask(&self.requests, &self.snapshot, &roles, &aftermath).await;
        let devices = describe(&self.snapshot, &roles, self.choices.known(), &self.options);
        let no_longer: Vec<_> =
            self.told.keys().filter(|index| !devices.contains_key(index)).copied().collect();
        for index in no_longer {
            self.tell_gone(index).await?;
        }
        // Guards come last: what is on its way to a pod's programs is not to be held back.
        let mut devices: Vec<_> = devices.into_iter().collect();
        devices.sort_by_key(|(_, device)| device.programs.role != Role::Workload);
        for (index, device) in devices {
            if self.told.get(&index).is_some_and(|told| told.programs != device.programs) {
                self.tell_gone(index).await?;
            }
            let event = match self.told.get(&index) {
                Some(_) if aftermath.lost => DeviceEvent::Appeared(device.clone()),
                Some(told) if *told == device => continue,
                Some(_) => DeviceEvent::Changed(device.clone()),
                None => DeviceEvent::Appeared(device.clone()),
            };
            let _ = self.told.insert(index, device);
            self.sender.send(event).await.ok()?;
        }
        if self.node_addresses.are_known && !mem::replace(&mut self.is_synced, true) {
            self.sender.send(DeviceEvent::Synced).await.ok()?;
        }
        Some(())
    }

    fn warn_of_unreadable(&mut self) {
        let links = &self.snapshot.links;
        let unreadable = links.iter().filter(|(_, link)| link.header == LinkHeader::Other);
        let unreadable: BTreeSet<u32> = unreadable.map(|(index, _)| *index).collect();
        for index in unreadable.difference(&self.unreadable) {
            let device = &links[index].name;
            warn!(device, "its frames begin with neither Ethernet nor IP: it gets no programs");
        }
        self.unreadable = unreadable;
    }

    async fn tell_gone(&mut self, index: u32) -> Option<()> {
        if self.told.remove(&index).is_some() {
            self.sender.send(DeviceEvent::Gone { index }).await.ok()?;
        }
        Some(())
    }
}
