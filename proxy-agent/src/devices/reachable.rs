// SPDX-License-Identifier: Apache-2.0
//! Neighbours to whom a driver may send although the host's stack does not: the kernel would not ask either whether
//! they are there. Those are permanent ones, those on links without neighbour discovery, and for a time those that have
//! just been confirmed (RFC 4861 section 7.3.2).

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use futures_util::{FutureExt as _, Stream, StreamExt as _};
use rtnetlink::{
    MulticastGroup,
    packet_core::{NetlinkMessage, NetlinkPayload},
    packet_route::{
        AddressFamily, RouteNetlinkMessage,
        neighbour::{NeighbourAttribute, NeighbourMessage, NeighbourState},
    },
};
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval},
};
use tracing::warn;

use super::{
    netlink::{NetlinkError, Requests},
    ways::neighbour_key,
};
use crate::chain::chain;

/// How long a neighbour is trusted after it was confirmed. Linux takes from 15 to 45 s for that, unless an administrator
/// has chosen less (`base_reachable_time_ms`); it tells when that has passed.
const CONFIRMED: Duration = Duration::from_secs(10);

/// How often all are told again.
const PERIOD: Duration = Duration::from_secs(1);

/// What the kernel counts the age of a confirmation in: `USER_HZ`, which is 100 on all architectures that have BPF.
const CLOCK_TICK: Duration = Duration::from_millis(10);

/// A neighbour on an Ethernet link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reachable {
    /// The device that leads to it, by interface index.
    pub device: u32,
    /// Its MAC address.
    pub mac: [u8; 6],
}

/// Calls `tell` with those that are new at once, and with all once a second, in the network namespace of the calling
/// thread, until the tasks are dropped.
///
/// # Errors
///
/// If the sockets cannot be opened. Later failures are retried and logged.
///
/// # Panics
///
/// Outside of a tokio runtime with I/O and time.
pub fn watch_reachable(
    tasks: &mut JoinSet<()>,
    tell: impl FnMut(BTreeSet<Reachable>) + Send + 'static,
) -> Result<(), NetlinkError> {
    let (connection, _, messages) = rtnetlink::new_multicast_connection(&[MulticastGroup::Neigh])
        .map_err(NetlinkError::Open)?;
    let requests = Requests::open()?;
    let _ = tasks.spawn(connection);
    let _ = tasks.spawn(run(requests, messages.map(|(message, _)| message), tell));
    Ok(())
}

async fn run(
    requests: Requests,
    mut messages: impl Stream<Item = NetlinkMessage<RouteNetlinkMessage>> + Unpin,
    mut tell: impl FnMut(BTreeSet<Reachable>),
) {
    let mut known = Known::default();
    let mut is_complete = false;
    let mut period = interval(PERIOD);
    period.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            message = messages.next() => {
                let Some(message) = message else { return };
                let mut new = BTreeSet::new();
                is_complete &= known.hear(message, &mut new);
                while let Some(Some(message)) = messages.next().now_or_never() {
                    is_complete &= known.hear(message, &mut new);
                }
                if !new.is_empty() {
                    tell(new);
                }
            }
            _ = period.tick() => {
                if !is_complete {
                    is_complete = known.read(&requests).await;
                }
                let all = known.all(Instant::now());
                if !all.is_empty() {
                    tell(all);
                }
            }
        }
    }
}

/// Those that are known, by device and address, and until when: without end, where the kernel never asks.
#[derive(Debug, Default)]
struct Known(BTreeMap<(u32, IpAddr), ([u8; 6], Option<Instant>)>);

impl Known {
    /// Reads them all; says whether that could be done.
    async fn read(&mut self, requests: &Requests) -> bool {
        self.0.clear();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut request = NeighbourMessage::default();
            request.header.family = family;
            match requests.dump(RouteNetlinkMessage::GetNeighbour(request)).await {
                Ok(answers) => answers.into_iter().for_each(|answer| {
                    let _: bool = self.hear(answer, &mut BTreeSet::new());
                }),
                Err(error) => {
                    let error = chain(&error);
                    warn!(error, "cannot read the neighbours: trying again");
                    return false;
                }
            }
        }
        true
    }

    /// Takes note of what a message says, and of who is `new` by it; says whether nothing has been lost.
    fn hear(
        &mut self,
        message: NetlinkMessage<RouteNetlinkMessage>,
        new: &mut BTreeSet<Reachable>,
    ) -> bool {
        match message.payload {
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewNeighbour(neighbour)) => {
                new.extend(self.learn(&neighbour));
            }
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelNeighbour(neighbour)) => {
                let _ = neighbour_key(&neighbour).and_then(|key| self.0.remove(&key));
            }
            NetlinkPayload::Overrun(_) => return false,
            _ => {}
        }
        true
    }

    fn learn(&mut self, neighbour: &NeighbourMessage) -> Option<Reachable> {
        let key = neighbour_key(neighbour)?;
        let _ = self.0.remove(&key);
        let until = match neighbour.header.state {
            NeighbourState::Permanent | NeighbourState::Noarp => None,
            NeighbourState::Reachable => {
                Some(Instant::now() + CONFIRMED.checked_sub(age(neighbour))?)
            }
            _ => return None,
        };
        let mac = neighbour.attributes.iter().find_map(|attribute| match attribute {
            NeighbourAttribute::LinkLayerAddress(mac) => mac.as_slice().try_into().ok(),
            _ => None,
        })?;
        let _ = self.0.insert(key, (mac, until));
        Some(Reachable { device: key.0, mac })
    }

    /// All that are there still.
    fn all(&mut self, now: Instant) -> BTreeSet<Reachable> {
        self.0.retain(|_, (_, until)| until.is_none_or(|until| now < until));
        self.0
            .iter()
            .map(|((device, _), (mac, _))| Reachable { device: *device, mac: *mac })
            .collect()
    }
}

/// How long ago a neighbour was confirmed.
fn age(neighbour: &NeighbourMessage) -> Duration {
    let ticks = neighbour.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::CacheInfo(info) => Some(info.confirmed),
        _ => None,
    });
    // Who does not say it has just heard of it.
    CLOCK_TICK.saturating_mul(ticks.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use rtnetlink::packet_route::neighbour::NeighbourCacheInfo;

    use super::*;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const NEIGHBOUR: Reachable = Reachable { device: 2, mac: MAC };

    /// One that was confirmed so long ago, in hundredths of a second.
    fn neighbour(state: NeighbourState, confirmed: u32) -> NeighbourMessage {
        let mut neighbour = NeighbourMessage::default();
        neighbour.header.ifindex = NEIGHBOUR.device;
        neighbour.header.state = state;
        let age = [confirmed, 0, 0, 1].map(u32::to_ne_bytes);
        neighbour.attributes = vec![
            NeighbourAttribute::Destination(Ipv4Addr::new(192, 0, 2, 1).into()),
            NeighbourAttribute::LinkLayerAddress(MAC.to_vec()),
            NeighbourAttribute::CacheInfo(NeighbourCacheInfo::parse(age.as_flattened()).unwrap()),
        ];
        neighbour
    }

    #[tokio::test(start_paused = true)]
    async fn who_was_confirmed_is_trusted_for_a_time() {
        let mut known = Known::default();
        assert_eq!(known.learn(&neighbour(NeighbourState::Reachable, 400)), Some(NEIGHBOUR));
        let now = Instant::now();
        assert_eq!(known.all(now + Duration::from_millis(5_900)), [NEIGHBOUR].into());
        assert_eq!(known.all(now + Duration::from_secs(6)), BTreeSet::new());
        assert_eq!(known.learn(&neighbour(NeighbourState::Reachable, 1_001)), None);
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_never_asked_is_always_trusted() {
        let mut known = Known::default();
        for state in [NeighbourState::Permanent, NeighbourState::Noarp] {
            assert_eq!(known.learn(&neighbour(state, 100_000)), Some(NEIGHBOUR));
            let later = Instant::now() + Duration::from_hours(1_000);
            assert_eq!(known.all(later), [NEIGHBOUR].into());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_would_be_asked_is_not_trusted() {
        use NeighbourState::{Delay, Failed, Incomplete, Probe, Reachable, Stale};
        for state in [Stale, Delay, Probe, Incomplete, Failed] {
            let mut known = Known::default();
            assert!(known.learn(&neighbour(Reachable, 0)).is_some());
            assert_eq!(known.learn(&neighbour(state, 0)), None);
            assert_eq!(known.all(Instant::now()), BTreeSet::new(), "{state:?}");
        }
    }
}
