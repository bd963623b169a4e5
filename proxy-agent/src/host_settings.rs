// SPDX-License-Identifier: Apache-2.0
//! Settings of the host without which its packets do not get to where Sixfour sends them.
//!
//! They are read and told of, never changed: [`Settings::read`] reads them, [`judge`] judges, and
//! [`HostSettings`] says each warning once for as long as it is true. Which ones matter was found
//! by trying; `docs/network-plugins.md` has those that do not.

use std::{collections::BTreeSet, fmt, fs, path::Path, time::Duration};

use proxy_common::{Family, V4, V6};
use tokio::{sync::watch, time::Instant};
use tracing::warn;

use crate::devices::Forwarders;

/// How long after a change they are looked at: whoever adds a device sets it up first.
const SETTLING: Duration = Duration::from_secs(1);

/// Where settings of networks are.
const SYSCTL: &str = "/proc/sys/net";

/// A setting that must be as Sixfour needs it.
#[derive(Debug)]
struct Need {
    family: &'static str,
    index: u32,
    /// For all devices, below [`SYSCTL`].
    everywhere: &'static str,
    /// For one device, whose name stands between the two.
    on_device: [&'static str; 2],
    /// Whether it must be on; otherwise off.
    on: bool,
    counts: Counts,
    /// Whether it matters on bridges of pods only.
    on_bridges: bool,
    /// What does not work.
    consequence: &'static str,
}

/// Which of the two settings decides, that for all devices or that of the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Counts {
    /// That of the device; the other says what new devices get.
    Device,
    /// Either suffices.
    Either,
    /// That of the device, where the other, which is another need, is met.
    Both,
}

const NEEDS: [Need; 4] = [
    // IPv4 looks at the device that a packet has come by.
    Need {
        family: V4::NAME,
        index: V4::INDEX,
        everywhere: "ipv4/ip_forward",
        on_device: ["ipv4/conf/", "/forwarding"],
        on: true,
        counts: Counts::Device,
        on_bridges: false,
        consequence: "packets are not forwarded, and pods do not reach all backends of Services",
    },
    // IPv6 looks at the setting for all devices, and then at that of the device, which Linux has
    // since 6.17.
    Need {
        family: V6::NAME,
        index: V6::INDEX,
        everywhere: "ipv6/conf/all/forwarding",
        on_device: ["ipv6/conf/", "/force_forwarding"],
        on: true,
        counts: Counts::Either,
        on_bridges: false,
        consequence: "packets are not forwarded, and pods do not reach all backends of Services",
    },
    Need {
        family: V6::NAME,
        index: V6::INDEX,
        everywhere: "ipv6/conf/all/disable_ipv6",
        on_device: ["ipv6/conf/", "/disable_ipv6"],
        on: false,
        counts: Counts::Device,
        on_bridges: false,
        consequence: "packets are thrown away, and pods do not reach all backends of Services",
    },
    // Forwarding does not look at it, but what programs ask for a way does.
    Need {
        family: V6::NAME,
        index: V6::INDEX,
        everywhere: "ipv6/conf/all/forwarding",
        on_device: ["ipv6/conf/", "/forwarding"],
        on: true,
        counts: Counts::Both,
        on_bridges: true,
        consequence: "packets are routed to pods beside their sender, and where conntrack's INVALID \
                      is dropped, these do not reach each other's Services",
    },
];

impl Need {
    fn key(&self, device: Option<&str>) -> String {
        let [before, after] = self.on_device;
        device.map_or_else(|| self.everywhere.to_owned(), |name| format!("{before}{name}{after}"))
    }
}

/// What the host says of one need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Settings {
    /// For all devices; none if the kernel does not have it.
    everywhere: Option<bool>,
    /// For the device in question; none if the kernel does not have it, or the device is gone.
    on_device: Option<bool>,
}

impl Settings {
    fn read(need: &Need, device: &str) -> Self {
        Self { everywhere: read(&need.key(None)), on_device: read(&need.key(Some(device))) }
    }
}

fn read(key: &str) -> Option<bool> {
    let text = fs::read_to_string(Path::new(SYSCTL).join(key)).ok()?;
    Some(text.trim() != "0")
}

/// Where a setting is to be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Everywhere,
    OnDevice,
}

/// Whether a need is met on a device, and if not, where to change that.
fn judge(need: &Need, settings: Settings) -> Option<Place> {
    let wrong = |value: Option<bool>| value.is_some_and(|value| value != need.on);
    let (everywhere, on_device) = (wrong(settings.everywhere), wrong(settings.on_device));
    match need.counts {
        Counts::Device if on_device && everywhere => Some(Place::Everywhere),
        Counts::Device => on_device.then_some(Place::OnDevice),
        Counts::Either => {
            let suffices = settings.on_device == Some(need.on);
            (everywhere && !suffices).then_some(Place::Everywhere)
        }
        Counts::Both => (on_device && !everywhere).then_some(Place::OnDevice),
    }
}

/// A need that is not met; displayed as one sentence with the command that changes it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Warning {
    /// The place of the need in [`NEEDS`].
    need: usize,
    /// The device; none if it is about all of them.
    device: Option<String>,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let need = &NEEDS[self.need];
        let key = format!("net/{}", need.key(self.device.as_deref()));
        let (is, wanted) = (u8::from(!need.on), u8::from(need.on));
        let Need { family, consequence, .. } = need;
        let which = match &self.device {
            Some(device) => format!("that come by {device} "),
            None => String::new(),
        };
        let consequence = consequence.replacen("packets ", &format!("packets {which}"), 1);
        write!(
            f,
            "{key} is {is}, so {family} {consequence}: change it with `sysctl -w {key}={wanted}`."
        )
    }
}

/// Watches over the settings that matter on this node's devices.
#[derive(Debug)]
pub struct HostSettings {
    forwarders: watch::Receiver<Forwarders>,
    /// When to look.
    due: Option<Instant>,
    told: BTreeSet<Warning>,
}

impl HostSettings {
    /// Those of the calling thread's network namespace.
    #[must_use]
    pub const fn new(forwarders: watch::Receiver<Forwarders>) -> Self {
        Self { forwarders, due: None, told: BTreeSet::new() }
    }

    /// Completes when there is something new to look at and devices have settled. May be
    /// cancelled.
    pub async fn changed(&mut self) {
        loop {
            match self.due {
                Some(due) => return tokio::time::sleep_until(due).await,
                // Without any watch there will be no more devices.
                None if self.forwarders.changed().await.is_err() => std::future::pending().await,
                None => self.due = Some(Instant::now() + SETTLING),
            }
        }
    }

    /// Looks at the settings, and logs what is newly wrong.
    pub fn look(&mut self) {
        self.due = None;
        let forwarders = self.forwarders.borrow_and_update();
        let warnings = warnings(&forwarders, Settings::read);
        for warning in warnings.difference(&self.told) {
            warn!("{warning}");
        }
        drop(forwarders);
        self.told = warnings;
    }
}

/// All that is wrong, given how to read settings.
fn warnings(forwarders: &Forwarders, read: impl Fn(&Need, &str) -> Settings) -> BTreeSet<Warning> {
    let mut warnings = BTreeSet::new();
    for (place, need) in NEEDS.iter().enumerate() {
        if !forwarders.in_use[need.index as usize] {
            continue;
        }
        let devices = if need.on_bridges { &forwarders.bridges } else { &forwarders.devices };
        for device in devices {
            let device = match judge(need, read(need, device)) {
                Some(Place::OnDevice) => Some(device.clone()),
                Some(Place::Everywhere) => None,
                None => continue,
            };
            let _ = warnings.insert(Warning { need: place, device });
        }
    }
    warnings
}

#[cfg(test)]
mod tests;
