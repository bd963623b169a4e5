// SPDX-License-Identifier: Apache-2.0
//! The devices of clients: their programs, and what those know of them.

use std::collections::BTreeSet;

use tracing::{debug, warn};

use crate::{
    bpf::{DeviceTables, Object},
    devices::{Attached, Attacher, DeviceEvent, WorkloadDevice},
};

/// Keeps the programs on the devices of this node's clients.
#[derive(Debug)]
pub(super) struct ClientDevices {
    tables: DeviceTables,
    attacher: Attacher,
    /// Devices whose programs could not be attached.
    failed: BTreeSet<u32>,
}

impl ClientDevices {
    /// Without any device yet.
    pub(super) const fn new(tables: DeviceTables, attacher: Attacher) -> Self {
        Self { tables, attacher, failed: BTreeSet::new() }
    }

    /// Does what an event asks for. What fails is logged: one device does not stop the others.
    pub(super) async fn handle(&mut self, object: &mut Object, event: &DeviceEvent) {
        match event {
            DeviceEvent::Appeared(device) => self.serve(object, device).await,
            DeviceEvent::Changed(device) => {
                if let Err(error) = self.tables.put(device) {
                    warn!(device = device.name, %error, "cannot describe the device");
                }
                if self.failed.contains(&device.index) {
                    self.serve(object, device).await;
                }
            }
            DeviceEvent::Gone { index } => {
                let _: bool = self.failed.remove(index);
                if let Err(error) = self.attacher.detach(*index).await {
                    warn!(device = index, %error, "cannot detach from the device");
                }
                if let Err(error) = self.tables.remove(*index) {
                    warn!(device = index, %error, "cannot forget the device");
                }
            }
            DeviceEvent::Synced => {}
        }
    }

    async fn serve(&mut self, object: &mut Object, device: &WorkloadDevice) {
        // What the programs must know comes first: they run from the moment that they are there.
        if let Err(error) = self.tables.put(device) {
            warn!(device = device.name, %error, "cannot describe the device");
        }
        match self.attacher.attach(object, device.index).await {
            Ok(attached) => {
                let _: bool = self.failed.remove(&device.index);
                if attached == Attached::Now {
                    debug!(device = device.name, index = device.index, "attached");
                }
            }
            Err(error) => {
                let _: bool = self.failed.insert(device.index);
                warn!(device = device.name, %error, "cannot attach to the device");
            }
        }
    }

    /// Takes the programs off all devices.
    pub(super) async fn detach_all(&mut self) {
        for error in self.attacher.detach_all().await {
            warn!(%error, "cannot detach from a device");
        }
    }
}
