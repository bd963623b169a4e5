// SPDX-License-Identifier: Apache-2.0
//! Changes of the node's routes, addresses and neighbours, for programs that remember by which way packets go: they
//! ask again when something has changed. Without this they do so once a second.
//!
//! Where messages do not say all of the routes' MTUs, or were lost, all routes are read again. Meanwhile changes are
//! told as ever. What has been told of routes since a reading began is applied to its outcome once more: what the two
//! say twice does no harm, and nothing falls between them.

use std::{
    future::pending,
    mem::{replace, take},
    sync::Arc,
    time::Duration,
};

use futures_util::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::BoxStream};
use ipnet::IpNet;
use rtnetlink::{
    MulticastGroup,
    packet_core::{NetlinkMessage, NetlinkPayload},
    packet_route::{AddressFamily, RouteNetlinkMessage, route::RouteMessage},
};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};
use tracing::{debug, warn};

use self::neighbours::Neighbours;
pub(super) use self::neighbours::key as neighbour_key;
use super::{
    netlink::{NetlinkError, Requests},
    route_mtus::{Heard, RouteMtu, RouteMtus},
};
use crate::chain::chain;

mod neighbours;
#[cfg(test)]
mod tests;

/// What the kernel is asked to tell of. Not of nexthop objects: rtnetlink cannot read those messages, and logs an error
/// for each.
const GROUPS: [MulticastGroup; 8] = [
    MulticastGroup::Link,
    MulticastGroup::Neigh,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv6Ifaddr,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv6Route,
    MulticastGroup::Ipv4Rule,
    MulticastGroup::Ipv6Rule,
];

/// Changes seldom come alone: those within this time are told as one. Programs cannot tell more than 255 of
/// them in a second.
const PAUSE: Duration = Duration::from_millis(20);

/// How long after a reading, whether it failed or not, another may begin. There may be a million routes.
const READ_PAUSE: Duration = Duration::from_secs(1);

/// What comes of a reading of all routes.
type Outcome = Result<RouteMtus, NetlinkError>;

/// Calls `changed` for each change, with what holds from then on of routes' MTUs where that is another than before, in
/// the network namespace of the calling thread, until the tasks are dropped. What comes later holds, should a
/// destination come twice. Before, `said` holds: destinations, and the MTUs of routes to them in bytes.
///
/// # Errors
///
/// If the sockets cannot be opened. Later failures are retried and logged.
///
/// # Panics
///
/// Outside of a tokio runtime with I/O and time.
pub fn watch_ways(
    tasks: &mut JoinSet<()>,
    said: Vec<(IpNet, u32)>,
    changed: impl FnMut(Vec<RouteMtu>) + Send + 'static,
) -> Result<(), NetlinkError> {
    let (connection, _, messages) =
        rtnetlink::new_multicast_connection(&GROUPS).map_err(NetlinkError::Open)?;
    let requests = Arc::new(Requests::open()?);
    let mut watch = Watch::new(move || read(Arc::clone(&requests)).boxed(), changed);
    watch.mtus = RouteMtus::said(said);
    let _ = tasks.spawn(connection);
    let _ = tasks.spawn(watch.run(messages.map(|(message, _)| message).boxed()));
    Ok(())
}

/// Reads the MTUs of all routes.
async fn read(requests: Arc<Requests>) -> Outcome {
    let mut mtus = RouteMtus::default();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut request = RouteMessage::default();
        request.header.address_family = family;
        for route in requests.dump(RouteNetlinkMessage::GetRoute(request)).await? {
            if let NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewRoute(route)) =
                route.payload
            {
                mtus.add(&route);
            }
        }
    }
    Ok(mtus)
}

struct Watch<R, C> {
    /// Reads all routes.
    read: R,
    changed: C,
    neighbours: Neighbours,
    mtus: RouteMtus,
    /// Whether something was missed since the last reading began, or that failed: another has to follow.
    is_unclear: bool,
    has_failed: bool,
    /// When the next reading may begin.
    next_reading: Instant,
    /// The reading that is under way.
    reading: Option<BoxFuture<'static, Outcome>>,
    /// What has been told of routes since that began, and whether they are there.
    meanwhile: Vec<(RouteMessage, bool)>,
}

/// What messages have told.
#[derive(Default)]
struct Told {
    /// Whether some packet may take another way.
    matters: bool,
    /// In the order in which it was learned: the last of a destination holds.
    mtus: Vec<RouteMtu>,
}

impl<R, C> Watch<R, C>
where
    R: FnMut() -> BoxFuture<'static, Outcome>,
    C: FnMut(Vec<RouteMtu>),
{
    fn new(read: R, changed: C) -> Self {
        Self {
            read,
            changed,
            neighbours: Neighbours::default(),
            mtus: RouteMtus::default(),
            is_unclear: true,
            has_failed: false,
            next_reading: Instant::now(),
            reading: None,
            meanwhile: Vec::new(),
        }
    }

    /// Runs until nobody writes the messages any more.
    async fn run(mut self, mut messages: BoxStream<'static, NetlinkMessage<RouteNetlinkMessage>>) {
        loop {
            let mut told = Told::default();
            tokio::select! {
                message = messages.next() => {
                    let Some(message) = message else { return };
                    self.take(message, &mut told);
                }
                outcome = outcome(&mut self.reading) => self.conclude(outcome, &mut told),
                () = sleep_until(self.next_reading),
                    if self.is_unclear && self.reading.is_none() => self.begin(),
            }
            while let Some(Some(message)) = messages.next().now_or_never() {
                self.take(message, &mut told);
            }
            if told.matters {
                (self.changed)(told.mtus);
                sleep(PAUSE).await;
            }
        }
    }

    fn take(&mut self, message: NetlinkMessage<RouteNetlinkMessage>, told: &mut Told) {
        use RouteNetlinkMessage::{DelNeighbour, DelRoute, NewNeighbour, NewRoute};
        told.matters |= match message.payload {
            NetlinkPayload::InnerMessage(NewNeighbour(neighbour)) => {
                self.neighbours.learn(&neighbour)
            }
            NetlinkPayload::InnerMessage(DelNeighbour(neighbour)) => {
                self.neighbours.forget(&neighbour)
            }
            NetlinkPayload::InnerMessage(NewRoute(route)) => {
                self.hear(route, true, told);
                true
            }
            NetlinkPayload::InnerMessage(DelRoute(route)) => {
                self.hear(route, false, told);
                true
            }
            NetlinkPayload::InnerMessage(_) => true,
            NetlinkPayload::Overrun(_) => {
                self.is_unclear = true;
                true
            }
            _ => false,
        };
    }

    fn hear(&mut self, route: RouteMessage, is_there: bool, told: &mut Told) {
        match self.mtus.hear(&route, is_there) {
            Heard::Nothing => {}
            Heard::Holds(mtu) => told.mtus.push(mtu),
            Heard::Unclear => self.is_unclear = true,
        }
        if self.reading.is_some() {
            self.meanwhile.push((route, is_there));
        }
    }

    /// Begins to read all routes.
    fn begin(&mut self) {
        self.is_unclear = false;
        self.reading = Some((self.read)());
    }

    /// Takes note of what a reading has said.
    fn conclude(&mut self, outcome: Outcome, told: &mut Told) {
        self.reading = None;
        self.next_reading = Instant::now() + READ_PAUSE;
        let meanwhile = take(&mut self.meanwhile);
        match outcome {
            Ok(mut mtus) => {
                for (route, is_there) in &meanwhile {
                    self.is_unclear |= mtus.hear(route, *is_there) == Heard::Unclear;
                }
                let before = replace(&mut self.mtus, mtus);
                told.mtus.extend(self.mtus.since(&before));
                told.matters = true;
                self.has_failed = false;
            }
            Err(error) => {
                let error = chain(&error);
                if self.has_failed {
                    debug!(error, "cannot read the routes yet");
                } else {
                    warn!(error, "cannot read the routes and their MTUs: trying again");
                }
                self.has_failed = true;
                self.is_unclear = true;
            }
        }
    }
}

/// Waits for a reading, for ever if there is none. What has waited in vain may wait again.
async fn outcome(reading: &mut Option<BoxFuture<'static, Outcome>>) -> Outcome {
    match reading {
        Some(reading) => reading.await,
        None => pending().await,
    }
}
