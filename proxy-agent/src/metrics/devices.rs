// SPDX-License-Identifier: Apache-2.0
//! Devices with programs, and what others take away of these.

use std::collections::BTreeMap;

use prometheus::{Error, IntCounter, IntGaugeVec, Opts};

use super::Page;

/// Counts devices.
#[derive(Clone, Debug)]
pub struct DeviceCounts {
    devices: IntGaugeVec,
    drivers: IntGaugeVec,
    mended: IntCounter,
}

impl DeviceCounts {
    /// Has the counts on a page.
    ///
    /// # Errors
    ///
    /// If they are there.
    pub fn new(page: &Page) -> Result<Self, Error> {
        let help = "Devices by their role, and by whether they have their programs (served) or could not be given them (failed)";
        let devices = IntGaugeVec::new(Opts::new("sixfour_devices", help), &["role", "state"])?;
        let help = "Uplinks whose packets are to be handled in the driver, by where they are: native, generic, or in the host's stack (off)";
        let drivers = IntGaugeVec::new(Opts::new("sixfour_xdp_devices", help), &["mode"])?;
        let help =
            "Programs, links, filters and pins that others have taken away, and that were put back";
        let mended = IntCounter::new("sixfour_mended_total", help)?;
        page.add(devices.clone())?;
        page.add(drivers.clone())?;
        page.add(mended.clone())?;
        Ok(Self { devices, drivers, mended })
    }

    /// There are so many of each role in each state.
    pub fn set(&self, devices: &BTreeMap<(&str, &str), i64>, drivers: &BTreeMap<&str, i64>) {
        for ((role, state), count) in devices {
            self.devices.with_label_values(&[role, state]).set(*count);
        }
        for (mode, count) in drivers {
            self.drivers.with_label_values(&[mode]).set(*count);
        }
    }

    /// Something had gone, and is there again.
    pub fn mended(&self) {
        self.mended.inc();
    }
}
