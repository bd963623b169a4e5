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
    bpf::{self, DeviceTables, Object},
    chain::chain,
    devices::{Attached, Attacher, DeviceEvent, Driven, ServedDevice, Xdp},
};

/// Keeps the programs on the devices of this node.
#[derive(Debug)]
pub(super) struct ServedDevices {
    tables: DeviceTables,
    attacher: Attacher,
    /// By which wires frames come, by the interface index of the device that they are for.
    wires: BTreeMap<u32, BTreeSet<Wire>>,
    /// Devices whose frames are to be handled in a driver, by interface index.
    driven: BTreeMap<u32, InDriver>,
    /// Devices that could not be served, by interface index.
    failed: BTreeMap<u32, Failed>,
}

/// A device whose frames are to be handled in a driver.
#[derive(Debug)]
struct InDriver {
    device: ServedDevice,
    /// Where they are, as far as the programs and the operator have been told.
    told: Option<Xdp>,
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
    pub(super) const fn new(tables: DeviceTables, attacher: Attacher) -> Self {
        Self {
            tables,
            attacher,
            wires: BTreeMap::new(),
            driven: BTreeMap::new(),
            failed: BTreeMap::new(),
        }
    }

    /// Does what an event asks for. What fails is logged, and tried again when
    /// [`next_retry`](Self::next_retry) says: one device does not stop the others.
    ///
    /// Must not be cancelled: what it has begun on a device would stay there.
    pub(super) async fn handle(&mut self, object: &mut Object, event: DeviceEvent) {
        match event {
            DeviceEvent::Appeared(device) => self.serve(object, device).await,
            DeviceEvent::Changed(device) => {
                if self.failed.contains_key(&device.index) {
                    self.serve(object, device).await;
                } else if let Err(error) = self.describe(&device) {
                    self.note_failure(device, &error);
                } else {
                    self.serve_in_driver(object, &device);
                }
            }
            DeviceEvent::Gone { index } => {
                let _: Option<Failed> = self.failed.remove(&index);
                let _: Option<InDriver> = self.driven.remove(&index);
                let former = self.wires.remove(&index).unwrap_or_default();
                for wire in self.unused(former) {
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

    /// When [`retry`](Self::retry) has something to do, if nothing happens before.
    pub(super) fn next_retry(&self) -> Option<Instant> {
        self.failed.values().map(|failed| failed.again).min()
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
                let _: Option<Failed> = self.failed.remove(&device.index);
                if attached == Attached::Now {
                    debug!(device = device.name, index = device.index, "attached");
                }
                self.serve_in_driver(object, &device);
            }
            Err(error) => self.note_failure(device, &error),
        }
    }

    /// Has packets handled in the driver by which the device's frames come, if that is wanted. What a driver cannot
    /// do, the host's stack does: nothing is tried again.
    fn serve_in_driver(&mut self, object: &mut Object, device: &ServedDevice) {
        let attached = self.attacher.attach_to_driver(object, device.index, device.driven.as_ref());
        let refused = attached.err().map(|error| chain(&error));
        let before = self.driven.remove(&device.index);
        let (told, said) = before.map_or((None, None), |before| (before.told, before.refused));
        if let Some(error) = refused.as_ref()
            && said != refused
        {
            let name = &device.name;
            warn!(device = name, error, "no XDP here: packets go through the host's stack");
        }
        self.tell_of_driver(device, told);
        if device.driven.is_some() {
            let told = self.attacher.in_driver(device.index);
            let driven = InDriver { device: device.clone(), told, refused };
            let _: Option<InDriver> = self.driven.insert(device.index, driven);
        }
        self.tell_of_others();
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
            self.tell_of_driver(&device, told);
        }
    }

    /// Tells the programs, and the operator if it is something new, where packets of a device are handled.
    fn tell_of_driver(&mut self, device: &ServedDevice, told: Option<Xdp>) {
        let name = &device.name;
        match self.attacher.in_driver(device.index) {
            now if now == told => {}
            Some(mode) => {
                info!(device = name, mode = mode.name(), "packets are handled in the driver");
            }
            None => info!(device = name, "packets are handled in the driver no more"),
        }
        // Others may send by it from now on, or no more.
        if let Err(error) = self.describe(device).and_then(|()| self.describe_wires(device)) {
            self.note_failure(device.clone(), &error);
        }
    }

    fn describe(&mut self, served: &ServedDevice) -> Result<(), bpf::Error> {
        let addresses = served.host_addresses;
        let in_driver = self.attacher.in_driver(served.index).zip(served.driven.as_ref());
        let device = in_driver.map_or(served.device, |(mode, driven)| {
            served.device.with_xdp(driven.wire(), mode == Xdp::Generic)
        });
        self.tables.put(served.index, device, (addresses.of::<V4>(), addresses.of::<V6>()))
    }

    /// Says by which wires a device's frames come, where its index does not.
    fn describe_wires(&mut self, served: &ServedDevice) -> Result<(), bpf::Error> {
        let in_driver = self.attacher.in_driver(served.index).and(served.driven.as_ref());
        let own = Wire::new(served.index, 0);
        let wires = in_driver.into_iter().flat_map(Driven::wires).filter(|wire| *wire != own);
        let wires: BTreeSet<Wire> = wires.collect();
        for wire in &wires {
            self.tables.put_wire(*wire, served.index)?;
        }
        let former = self.wires.insert(served.index, wires).unwrap_or_default();
        self.unused(former).into_iter().try_for_each(|wire| self.tables.remove_wire(wire))
    }

    /// Those of some wires by which no device's frames come. One that was a device's may be another's already: which of
    /// the two is told of first is chance.
    fn unused(&self, mut wires: BTreeSet<Wire>) -> BTreeSet<Wire> {
        wires.retain(|wire| !self.wires.values().any(|used| used.contains(wire)));
        wires
    }

    fn note_failure(&mut self, device: ServedDevice, error: &dyn Error) {
        let failures = self.failed.get(&device.index).map_or(0, |failed| failed.failures);
        let pause = backoff::pause(failures);
        let error = chain(error);
        warn!(device = device.name, error, again_in = ?pause, "cannot serve the device");
        let failed = Failed { failures: failures + 1, again: Instant::now() + pause, device };
        let _: Option<Failed> = self.failed.insert(failed.device.index, failed);
    }

    /// Takes the programs off all devices. Must not be cancelled.
    pub(super) async fn detach_all(&mut self) {
        for error in self.attacher.detach_all().await {
            warn!(error = chain(&error), "cannot detach from a device");
        }
    }
}
