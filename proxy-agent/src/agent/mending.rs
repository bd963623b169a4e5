// SPDX-License-Identifier: Apache-2.0
//! Looks after what others may take away: programs, links, filters and pins.

use std::time::Duration;

use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};
use tracing::warn;

use super::served_devices::ServedDevices;
use crate::{bpf::Object, chain::chain, metrics::DeviceCounts, sockets::SocketPrograms};

/// How often it is looked whether all is in place still.
pub(super) const PERIOD: Duration = Duration::from_secs(10);

/// When it is looked.
pub(super) fn looks() -> Interval {
    let mut looks = interval_at(Instant::now() + PERIOD, PERIOD);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    looks
}

/// How often something has been mended.
#[derive(Debug)]
pub(super) struct Mended(u64, DeviceCounts);

impl Mended {
    /// Nothing yet.
    pub(super) const fn new(counts: DeviceCounts) -> Self {
        Self(0, counts)
    }

    /// Says that something had gone, of whom, and is there again.
    pub(super) fn tell(&mut self, what: &str, whose: &str) {
        self.0 += 1;
        self.1.mended();
        warn!(what, of = whose, mended = self.0, "had gone, and is there again");
    }

    /// The same of each.
    fn tell_each(&mut self, all: &[impl AsRef<str>], whose: &str) {
        for what in all {
            self.tell(what.as_ref(), whose);
        }
    }
}

/// Looks at all that is to be in place, and mends what is not. What fails is logged, and tried again the next time. Must
/// not be cancelled.
pub(super) async fn look(
    object: &mut Object,
    devices: &mut ServedDevices,
    sockets: Option<&mut SocketPrograms>,
    mended: &mut Mended,
) {
    devices.mend(object, mended).await;
    if let Some(sockets) = sockets {
        match sockets.mend(object) {
            Ok(programs) => mended.tell_each(&programs, "the control group"),
            Err(error) => warn!(error = chain(&error), "cannot look after the control group"),
        }
    }
    match object.repin_maps() {
        Ok(maps) => mended.tell_each(&maps, "the pinned maps"),
        Err(error) => warn!(error = chain(&error), "cannot look after the pinned maps"),
    }
    pin_programs(object, mended);
}

/// Pins the programs that are verified by now, and those again whose pins have gone.
pub(super) fn pin_programs(object: &mut Object, mended: &mut Mended) {
    match object.pin_programs() {
        Ok(again) => mended.tell_each(&again, "the pinned programs"),
        Err(error) => warn!(error = chain(&error), "cannot pin the programs"),
    }
}
