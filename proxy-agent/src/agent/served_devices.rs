// SPDX-License-Identifier: Apache-2.0
//! The devices that have programs, and what those know of them.

use std::{collections::BTreeMap, error::Error};

use proxy_common::{V4, V6};
use tokio::time::Instant;
use tracing::{debug, warn};

use crate::{
    backoff,
    bpf::{self, DeviceTables, Object},
    chain::chain,
    devices::{Attached, Attacher, DeviceEvent, ServedDevice},
};

/// Keeps the programs on the devices of this node.
#[derive(Debug)]
pub(super) struct ServedDevices {
    tables: DeviceTables,
    attacher: Attacher,
    /// Devices that could not be served, by interface index.
    failed: BTreeMap<u32, Failed>,
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
        Self { tables, attacher, failed: BTreeMap::new() }
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
                }
            }
            DeviceEvent::Gone { index } => {
                let _: Option<Failed> = self.failed.remove(&index);
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
            Ok(attached) => {
                let _: Option<Failed> = self.failed.remove(&device.index);
                if attached == Attached::Now {
                    debug!(device = device.name, index = device.index, "attached");
                }
            }
            Err(error) => self.note_failure(device, &error),
        }
    }

    fn describe(&mut self, device: &ServedDevice) -> Result<(), bpf::Error> {
        let addresses = device.host_addresses;
        self.tables.put(device.index, device.device, (addresses.of::<V4>(), addresses.of::<V6>()))
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
