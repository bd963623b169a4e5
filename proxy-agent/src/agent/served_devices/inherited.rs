// SPDX-License-Identifier: Apache-2.0
//! What an agent before has left on devices, and what others take away.

use std::collections::BTreeSet;

use tracing::{info, warn};

use super::ServedDevices;
use crate::{
    agent::mending::Mended,
    bpf::Object,
    chain::chain,
    devices::{Looked, ServedDevice, TakenOff},
};

impl ServedDevices {
    /// Takes programs off that an agent before has left where none are wanted any more, and forgets those devices. Only
    /// when all devices that there are have been told of. What fails is tried again by [`mend`](Self::mend). Must not be
    /// cancelled.
    pub(in crate::agent) async fn take_off_others(&mut self, object: &Object) {
        let failed = self.failed.values().map(|failed| &failed.device);
        let awaited: BTreeSet<u32> = failed
            .flat_map(|device| [Some(device.index), device.driven.as_ref().map(|it| it.device)])
            .flatten()
            .collect();
        let is_awaited = |device| awaited.contains(&device);
        let taken = self.attacher.take_off_others(object.version(), is_awaited).await;
        self.has_others = match &taken {
            Ok(taken) => {
                if *taken != TakenOff::default() {
                    let TakenOff { links, filters, disciplines } = taken;
                    info!(links, filters, disciplines, "took off what serves nobody any more");
                }
                false
            }
            Err(error) => {
                warn!(error = chain(error), "cannot take off what serves nobody any more");
                true
            }
        };
        // Their programs may need them otherwise.
        if taken.is_ok() {
            let (served, wires) = (&self.served, &self.wires);
            let forgotten = self.tables.retain(
                |device| served.contains_key(&device),
                |wire, device| wires.has(wire) || awaited.contains(&device),
            );
            if let Err(error) = forgotten {
                self.has_others = true;
                warn!(error = chain(&error), "cannot forget devices that are not served any more");
            }
        }
    }

    /// Looks whether the programs of all devices are there still, and puts them there again. Must not be cancelled.
    pub(in crate::agent) async fn mend(&mut self, object: &mut Object, mended: &mut Mended) {
        // Those that have failed are tried again by themselves.
        let devices = self.served.values().filter(|it| !self.failed.contains_key(&it.index));
        for device in devices.cloned().collect::<Vec<_>>() {
            match self.attacher.look(device.index).await {
                Ok(looked) => self.mend_device(object, device, looked, mended).await,
                Err(error) => {
                    warn!(device = device.name, error = chain(&error), "cannot look after it");
                }
            }
        }
        if self.has_others {
            self.take_off_others(object).await;
        }
    }

    async fn mend_device(
        &mut self,
        object: &mut Object,
        device: ServedDevice,
        looked: Looked,
        mended: &mut Mended,
    ) {
        let Looked { misses_programs, misses_driver, was_repinned } = looked;
        if misses_programs || misses_driver {
            self.serve(object, device.clone()).await;
            if self.failed.contains_key(&device.index) {
                return;
            }
        }
        // Who has taken it off may have put another program there: the operator has been told of that.
        let is_in_driver = self.attacher.in_driver(device.index).is_some();
        let what = [
            (misses_programs, "a program"),
            (misses_driver && is_in_driver, "the program in the driver"),
            (was_repinned, "the pin of a link"),
        ];
        for (_, what) in what.iter().filter(|(has_gone, _)| *has_gone) {
            mended.tell(what, &device.name);
        }
    }
}
