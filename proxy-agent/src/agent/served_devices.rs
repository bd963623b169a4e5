// SPDX-License-Identifier: Apache-2.0
//! The devices that have programs, and what those know of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error,
};

use proxy_common::{V4, V6, device::Wire};
use tokio::time::Instant;
use tracing::{debug, info, warn};

use crate::{
    backoff,
    bpf::{self, DeviceTables, Object, WaysTable},
    chain::chain,
    devices::{
        Attached, Attacher, DeviceEvent, Driven, DriverError, InDriver, Role, ServedDevice, Xdp,
    },
    metrics::DeviceCounts,
};
use wires::Wires;

mod inherited;
mod wires;

/// Keeps the programs on the devices of this node.
#[derive(Debug)]
pub(super) struct ServedDevices {
    tables: DeviceTables,
    ways: WaysTable,
    attacher: Attacher,
    wires: Wires,
    /// The devices that are to have programs, by interface index.
    served: BTreeMap<u32, ServedDevice>,
    /// Whether what an agent before has left could not be taken off.
    has_others: bool,
    /// Devices whose frames are to be handled in a driver, by interface index.
    driven: BTreeMap<u32, Wanted>,
    /// Devices that could not be served, by interface index.
    failed: BTreeMap<u32, Failed>,
}

/// A device whose frames are to be handled in a driver.
#[derive(Debug)]
struct Wanted {
    device: ServedDevice,
    /// Where they are, as far as the programs and the operator have been told.
    told: Option<InDriver>,
    /// Why they are not, if that is so: the operator has been told, and need not be told again.
    refused: Option<String>,
}

/// A device that could not be served.
#[derive(Debug)]
struct Failed {
    device: ServedDevice,
    /// How often in a row.
    failures: u32,
    /// When it is tried again.
    again: Instant,
}

impl ServedDevices {
    /// Without any device yet.
    pub(super) const fn new(tables: DeviceTables, ways: WaysTable, attacher: Attacher) -> Self {
        Self {
            tables,
            ways,
            attacher,
            wires: Wires::new(),
            served: BTreeMap::new(),
            has_others: false,
            driven: BTreeMap::new(),
            failed: BTreeMap::new(),
        }
    }

    /// Does what an event asks for. What fails is logged, and tried again when
    /// [`next_retry`](Self::next_retry) says: one device does not stop the others.
    ///
    /// Must not be cancelled: what it has begun on a device would stay there.
    pub(super) async fn handle(&mut self, object: &mut Object, event: DeviceEvent) {
        if let DeviceEvent::Appeared(device) | DeviceEvent::Changed(device) = &event {
            let _: Option<ServedDevice> = self.served.insert(device.index, device.clone());
        }
        match event {
            DeviceEvent::Appeared(device) => self.serve(object, device).await,
            DeviceEvent::Changed(device) => {
                if self.failed.contains_key(&device.index) {
                    self.serve(object, device).await;
                } else if let Err(error) = self.describe(&device) {
                    self.note_failure(device, &error);
                } else {
                    let _: bool = self.serve_in_driver(object, &device).await;
                }
            }
            DeviceEvent::Gone { index } => {
                let _: Option<ServedDevice> = self.served.remove(&index);
                let _: Option<Failed> = self.failed.remove(&index);
                let _: Option<Wanted> = self.driven.remove(&index);
                for wire in self.wires.set(index, BTreeSet::new()) {
                    if let Err(error) = self.tables.remove_wire(wire) {
                        warn!(device = index, error = chain(&error), "cannot forget a wire");
                    }
                }
                if let Err(error) = self.attacher.detach(index).await {
                    warn!(device = index, error = chain(&error), "cannot detach from the device");
                }
                if let Err(error) = self.tables.remove(index) {
                    warn!(device = index, error = chain(&error), "cannot forget the device");
                }
            }
            DeviceEvent::Synced => {}
        }
    }

    /// How many devices are not served as they should be.
    pub(super) fn failed(&self) -> usize {
        self.failed.len()
    }

    /// Says how many there are, of each role.
    pub(super) fn tell(&self, counts: &DeviceCounts) {
        let roles = Role::BY_PRECEDENCE.map(Role::name);
        let states = roles.iter().flat_map(|role| [(*role, "served"), (*role, "failed")]);
        let mut devices: BTreeMap<_, i64> = states.map(|state| (state, 0)).collect();
        for device in self.served.values() {
            let is_failed = self.failed.contains_key(&device.index);
            let state = if is_failed { "failed" } else { "served" };
            *devices.entry((device.programs.role.name(), state)).or_default() += 1;
        }
        let modes = [Xdp::Native, Xdp::Generic, Xdp::Off].map(|mode| (mode.name(), 0));
        let mut drivers = BTreeMap::from(modes);
        for wanted in self.driven.values() {
            let mode = wanted.told.map_or(Xdp::Off, |in_driver| in_driver.mode);
            *drivers.entry(mode.name()).or_default() += 1;
        }
        counts.set(&devices, &drivers);
    }

    /// When [`retry`](Self::retry) has something to do, if nothing happens before.
    pub(super) fn next_retry(&self) -> Option<Instant> {
        self.failed.values().map(|failed| failed.again).min()
    }

    /// Has what has failed be tried again at once: what was in its way may have gone.
    pub(super) fn hurry(&mut self) {
        let now = Instant::now();
        self.failed.values_mut().for_each(|failed| failed.again = now);
    }

    /// Tries again what has failed long enough ago. Must not be cancelled.
    pub(super) async fn retry(&mut self, object: &mut Object) {
        let now = Instant::now();
        let due = self.failed.values().filter(|failed| failed.again <= now);
        for device in due.map(|failed| failed.device.clone()).collect::<Vec<_>>() {
            self.serve(object, device).await;
        }
    }

    async fn serve(&mut self, object: &mut Object, device: ServedDevice) {
        // What the programs must know comes first: they run from the moment that they are there.
        if let Err(error) = self.describe(&device) {
            return self.note_failure(device, &error);
        }
        match self.attacher.attach(object, device.index, device.programs).await {
            Ok(Attached::NoDevice) => {
                let _: Option<Failed> = self.failed.remove(&device.index);
            }
            Ok(attached) => {
                if attached == Attached::Now {
                    debug!(device = device.name, index = device.index, "attached");
                }
                if self.serve_in_driver(object, &device).await {
                    let _: Option<Failed> = self.failed.remove(&device.index);
                }
            }
            Err(error) => self.note_failure(device, &error),
        }
    }

    /// Waits until [`look_again`](Self::look_again) has something to do. May be cancelled.
    pub(super) async fn driver_news(&mut self) {
        self.attacher.driver_news().await;
    }

    /// Looks at all drivers again: some can do more or less than before. Must not be cancelled.
    pub(super) async fn look_again(&mut self, object: &mut Object) {
        let devices = self.driven.values().map(|wanted| wanted.device.clone());
        for device in devices.collect::<Vec<_>>() {
            let _: bool = self.serve_in_driver(object, &device).await;
        }
    }

    /// Has packets handled in the driver by which the device's frames come, if that is wanted; says whether all is done
    /// that can be done. What a driver cannot do, the host's stack does: that is not tried again, until the driver can
    /// do more.
    async fn serve_in_driver(&mut self, object: &mut Object, device: &ServedDevice) -> bool {
        let driven = device.driven.as_ref();
        let refused = match self.attacher.attach_to_driver(object, device.index, driven).await {
            Err(error @ DriverError::Abilities(_)) => {
                self.note_failure(device.clone(), &error);
                return false;
            }
            attached => attached.err().map(|error| chain(&error)),
        };
        let before = self.driven.remove(&device.index);
        let (told, said) = before.map_or((None, None), |before| (before.told, before.refused));
        if let Some(error) = refused.as_ref()
            && said != refused
        {
            let name = &device.name;
            warn!(device = name, error, "no XDP here: packets go through the host's stack");
        }
        let is_told = self.tell_of_driver(device, told);
        if device.driven.is_some() {
            let told = self.attacher.in_driver(device.index);
            let wanted = Wanted { device: device.clone(), told, refused };
            let _: Option<Wanted> = self.driven.insert(device.index, wanted);
        }
        self.tell_of_others();
        is_told
    }

    /// Tells of the other devices that used a driver, too, which has lost its program.
    fn tell_of_others(&mut self) {
        let mut changed = Vec::new();
        for (index, driven) in &mut self.driven {
            let now = self.attacher.in_driver(*index);
            if now != driven.told {
                changed.push((driven.device.clone(), driven.told));
                driven.told = now;
            }
        }
        for (device, told) in changed {
            let _: bool = self.tell_of_driver(&device, told);
        }
    }

    /// Tells the programs, and the operator if it is something new, where packets of a device are handled. Says whether
    /// it could.
    fn tell_of_driver(&mut self, device: &ServedDevice, told: Option<InDriver>) -> bool {
        let name = &device.name;
        let now = self.attacher.in_driver(device.index);
        match now {
            now if now == told => {}
            Some(InDriver { mode, abilities }) => info!(
                device = name,
                mode = mode.name(),
                sends_for_others = abilities.sends_for_others,
                sends_buffers_for_others = abilities.sends_buffers_for_others,
                "packets are handled in the driver"
            ),
            None => info!(device = name, "packets are handled in the driver no more"),
        }
        // Others may send by it from now on, or no more.
        let described = self.describe(device).and_then(|()| self.describe_wires(device));
        let told =
            described.and_then(|()| if now == told { Ok(()) } else { self.ways.end_epoch() });
        if let Err(error) = &told {
            self.note_failure(device.clone(), error);
        }
        told.is_ok()
    }

    fn describe(&mut self, served: &ServedDevice) -> Result<(), bpf::Error> {
        let addresses = served.host_addresses;
        let in_driver = self.attacher.in_driver(served.index).zip(served.driven.as_ref());
        let device = in_driver.map_or(served.device, |(in_driver, driven)| {
            served.device.with_xdp(driven.wire()).with(in_driver.traits())
        });
        self.tables.put(served.index, device, (addresses.of::<V4>(), addresses.of::<V6>()))
    }

    /// Says by which wires a device's frames come, where its index does not.
    fn describe_wires(&mut self, served: &ServedDevice) -> Result<(), bpf::Error> {
        let in_driver = self.attacher.in_driver(served.index).and(served.driven.as_ref());
        let own = Wire::new(served.index, 0);
        let wires = in_driver.into_iter().flat_map(Driven::wires).filter(|wire| *wire != own);
        let wires: BTreeSet<Wire> = wires.collect();
        // In a full table, what goes makes room; and what has been written is known if the rest cannot be.
        let unused = self.wires.set(served.index, wires.clone());
        unused.into_iter().try_for_each(|wire| self.tables.remove_wire(wire))?;
        wires.into_iter().try_for_each(|wire| self.tables.put_wire(wire, served.index))
    }

    fn note_failure(&mut self, device: ServedDevice, error: &dyn Error) {
        let failures = self.failed.get(&device.index).map_or(0, |failed| failed.failures);
        let pause = backoff::pause(failures);
        let error = chain(error);
        warn!(device = device.name, error, again_in = ?pause, "cannot serve the device");
        let failed = Failed { failures: failures + 1, again: Instant::now() + pause, device };
        let _: Option<Failed> = self.failed.insert(failed.device.index, failed);
    }
}
