// SPDX-License-Identifier: Apache-2.0

//! The programs and their tables, for one scenario at a time.

use std::net::{IpAddr, SocketAddr};
use std::ops::{Deref, DerefMut, RangeInclusive};
use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::{Context as _, Result, ensure};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use proxy_agent::bpf::{Capacity, FlowCapacity};
use proxy_common::backend::{Backend, BackendId};
use proxy_common::clock::{Tick, seconds};
use proxy_common::counter::Reason;
use proxy_common::device::Device;
use proxy_common::flow::{FlowKey, Kind};
use proxy_common::frontend::{Frontend, FrontendKey, FrontendKind, ServiceIndex};
use proxy_common::service::BackendSet;
use proxy_common::service_cidr::Prefix;
use proxy_common::{Address as _, Family, Port};
use proxy_tests::family::{TestFamily, V4, V6};
use proxy_tests::protocol::Protocol;

use crate::loaded::{Loaded, SOURCE_PORTS};

/// The device that all packets are at: the loopback device of the test's
/// network namespace.
pub(crate) const DEVICE: u32 = 1;

/// Half-open flows that there is room for, and closed ones.
pub(crate) const PLACES: u32 = 1 << 12;
/// With as many others.
pub(crate) const CAPACITY: FlowCapacity =
    FlowCapacity { entries: 6 * PLACES, places: PLACES, endless: PLACES };

/// A family of the tests with its tables.
pub(crate) trait Tabled: TestFamily {
    /// The same in the ABI of the tables.
    type Abi: Family<Addr: Send + Sync>;

    /// What other scenarios have left.
    fn pool() -> &'static Mutex<Vec<Loaded<Self>>>;
}

impl Tabled for V4 {
    type Abi = proxy_common::V4;

    fn pool() -> &'static Mutex<Vec<Loaded<Self>>> {
        static POOL: Mutex<Vec<Loaded<V4>>> = Mutex::new(Vec::new());
        &POOL
    }
}

impl Tabled for V6 {
    type Abi = proxy_common::V6;

    fn pool() -> &'static Mutex<Vec<Loaded<Self>>> {
        static POOL: Mutex<Vec<Loaded<V6>>> = Mutex::new(Vec::new());
        &POOL
    }
}

/// The programs and tables of one scenario, in a network namespace of its own.
///
/// The kernel takes much longer to verify the programs than a scenario takes. So a scenario that
/// has passed leaves them, with empty tables, to another one.
pub(crate) struct Rig<F: Tabled> {
    /// There until the rig is dropped.
    loaded: Option<Loaded<F>>,
    is_pooled: bool,
}

impl<F: Tabled> Rig<F> {
    /// Moves the calling thread into a new network namespace.
    pub(crate) fn new() -> Result<Self> {
        enter_namespaces()?;
        Self::in_this_network()
    }

    /// The same without moving.
    pub(crate) fn in_this_network() -> Result<Self> {
        let left = F::pool().lock().unwrap_or_else(PoisonError::into_inner).pop();
        let loaded = match left {
            Some(loaded) => loaded,
            None => Loaded::new(CAPACITY)?,
        };
        Ok(Self { loaded: Some(loaded), is_pooled: true })
    }

    /// The same with these ports for translated sources, and with programs and tables that no other
    /// scenario has used or will use.
    pub(crate) fn with_source_ports(ports: RangeInclusive<u16>) -> Result<Self> {
        enter_namespaces()?;
        Ok(Self { loaded: Some(Loaded::with_source_ports(CAPACITY, ports)?), is_pooled: false })
    }

    /// The same with room for so many flows, and with programs and tables that no other
    /// scenario has used or will use.
    pub(crate) fn with_capacity(capacity: FlowCapacity) -> Result<Self> {
        enter_namespaces()?;
        Ok(Self { loaded: Some(Loaded::new(capacity)?), is_pooled: false })
    }

    /// The same with room for so much in each table.
    pub(crate) fn with_tables(capacity: Capacity) -> Result<Self> {
        enter_namespaces()?;
        let loaded = Loaded::with_tables(capacity, SOURCE_PORTS)?;
        Ok(Self { loaded: Some(loaded), is_pooled: false })
    }
}

/// Moves the calling thread into network and mount namespaces of its own.
fn enter_namespaces() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)
        .context("making a network and a mount namespace (are you root?)")?;
    // Or what is mounted here would be mounted everywhere.
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>).context("making mounts private")
}

impl<F: Tabled> Drop for Rig<F> {
    fn drop(&mut self) {
        let Some(mut loaded) = self.loaded.take() else { return };
        if self.is_pooled && !thread::panicking() && loaded.clear().is_ok() {
            F::pool().lock().unwrap_or_else(PoisonError::into_inner).push(loaded);
        }
    }
}

impl<F: Tabled> Deref for Rig<F> {
    type Target = Loaded<F>;

    fn deref(&self) -> &Loaded<F> {
        self.loaded.as_ref().expect("it is there until the rig is dropped")
    }
}

impl<F: Tabled> DerefMut for Rig<F> {
    fn deref_mut(&mut self) -> &mut Loaded<F> {
        self.loaded.as_mut().expect("it is there until the rig is dropped")
    }
}

impl<F: Tabled> Loaded<F> {
    /// Adds a Service port with a backend set.
    pub(crate) fn service(
        &mut self,
        frontend: SocketAddr,
        protocol: Protocol,
        backends: &[SocketAddr],
    ) -> Result<ServiceIndex> {
        let index = ServiceIndex(self.next_service);
        self.next_service += 1;
        let set = self.backend_set(backends)?;
        self.tables.publish_cluster(index, set)?;
        self.tables.put_frontend(frontend_key::<F>(frontend, protocol), index)?;
        Ok(index)
    }

    /// Adds another frontend of a Service port: a node port, if it has no address.
    pub(crate) fn frontend(
        &mut self,
        socket: SocketAddr,
        protocol: Protocol,
        service: ServiceIndex,
        kind: FrontendKind,
    ) -> Result<()> {
        let key = frontend_key::<F>(socket, protocol);
        Ok(self.tables.put_frontend(key, Frontend::new(service, kind))?)
    }

    /// Writes backends into fresh rows and fresh slots.
    pub(crate) fn backend_set(&mut self, backends: &[SocketAddr]) -> Result<BackendSet> {
        let ids =
            backends.iter().map(|backend| self.backend(*backend)).collect::<Result<Vec<_>>>()?;
        self.slots(&ids)
    }

    /// Writes a backend into a fresh row.
    pub(crate) fn backend(&mut self, socket: SocketAddr) -> Result<BackendId> {
        let id = BackendId(self.next_backend);
        self.next_backend += 1;
        self.put_backend(id, socket, 1)?;
        Ok(id)
    }

    /// Writes a backend with this generation.
    pub(crate) fn put_backend(
        &mut self,
        id: BackendId,
        socket: SocketAddr,
        generation: u32,
    ) -> Result<()> {
        // The Service port that was made last.
        let service = ServiceIndex(self.next_service - 1);
        let port = Port::new(socket.port());
        let backend = Backend::new(address::<F>(socket), port, generation, service);
        Ok(self.tables.put_backend(id, backend)?)
    }

    /// Writes fresh slots.
    pub(crate) fn slots(&mut self, ids: &[BackendId]) -> Result<BackendSet> {
        let start = self.next_slot;
        let count = u32::try_from(ids.len())?;
        self.next_slot += count;
        self.tables.put_slots(start, ids)?;
        Ok(if ids.is_empty() { BackendSet::REJECT } else { BackendSet::new(start, count) })
    }

    /// Marks an address and port, or all of an address if the port is 0.
    pub(crate) fn mark(
        &mut self,
        socket: SocketAddr,
        protocol: Protocol,
        mark: ServiceIndex,
    ) -> Result<()> {
        let key = match socket.port() {
            0 => FrontendKey::whole(address::<F>(socket)),
            _ => frontend_key::<F>(socket, protocol),
        };
        Ok(self.tables.put_frontend(key, mark)?)
    }

    /// Guards the addresses that share the first bits of this one.
    pub(crate) fn guard(&mut self, address: IpAddr, length: u32) -> Result<()> {
        let prefix =
            Prefix { length, address: crate::rig::address::<F>(SocketAddr::new(address, 0)) };
        self.service_cidrs.push(prefix);
        Ok(self.tables.put_service_cidr(prefix)?)
    }

    /// Says what the device is.
    pub(crate) fn set_device(&mut self, device: Device) -> Result<()> {
        Ok(self.devices.insert(DEVICE, device, 0)?)
    }

    /// Says what the host's address towards the device's pod is.
    pub(crate) fn set_host_address(&mut self, host: IpAddr) -> Result<()> {
        let address = address::<F>(SocketAddr::new(host, 0));
        Ok(self.host_addresses.insert(DEVICE, address, 0)?)
    }

    /// Forgets which flows are masqueraded as what.
    pub(crate) fn forget_masquerades(&mut self) -> Result<()> {
        let entries = self.flows.iter().collect::<Result<Vec<_>, _>>()?;
        for (key, _) in entries.iter().filter(|(_, flow)| flow.kind.has(Kind::MASQUERADED)) {
            self.flows.remove(key)?;
        }
        Ok(())
    }

    /// Makes an entry of a flow older: what the programs read as the time of its
    /// last packet moves into the past.
    pub(crate) fn age(&mut self, key: &FlowKey<F::Abi>, by_seconds: u32) -> Result<()> {
        let mut flow = self.tables.flow(key)?.context("there is no such entry")?;
        flow.last_seen = Tick(flow.last_seen.0.wrapping_sub(seconds(by_seconds)));
        Ok(self.flows.insert(key, flow, 0)?)
    }

    /// How often a reason was counted in the test's family, and never in the
    /// other one.
    pub(crate) fn count(&self, reason: Reason) -> Result<u64> {
        let own = reason.row::<F::Abi>();
        let other = (own + Reason::COUNT) % (2 * Reason::COUNT);
        let sum = |row| anyhow::Ok(self.counters.get(&row, 0)?.iter().sum::<u64>());
        ensure!(sum(other)? == 0, "{} is counted in the other family", reason.name());
        sum(own)
    }
}

/// An address of the tables.
pub(crate) fn address<F: Tabled>(socket: SocketAddr) -> <F::Abi as Family>::Addr {
    <F::Abi as Family>::Addr::from_ip(socket.ip()).expect("an address of the family")
}

/// The key of a frontend.
pub(crate) fn frontend_key<F: Tabled>(
    socket: SocketAddr,
    protocol: Protocol,
) -> FrontendKey<F::Abi> {
    FrontendKey::new(address::<F>(socket), Port::new(socket.port()), number(protocol))
}

/// A protocol of the tables.
pub(crate) const fn number(protocol: Protocol) -> proxy_common::Protocol {
    match protocol {
        Protocol::Tcp => proxy_common::Protocol::TCP,
        Protocol::Udp => proxy_common::Protocol::UDP,
        Protocol::Sctp => proxy_common::Protocol::SCTP,
    }
}
