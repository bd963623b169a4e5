// SPDX-License-Identifier: Apache-2.0
//! An event, in words.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    time::{Duration, SystemTime},
};

use anyhow::Context as _;
use jiff::Timestamp;
use proxy_common::{
    Address, Family, V4, V6,
    counter::Reason,
    event::{Event, Happening},
    family::V4Addr,
    socket::SocketAddress,
};
use rustix::{
    fd::OwnedFd,
    net::{AddressFamily, SocketType, netdevice::index_to_name, socket},
    time::{ClockId, clock_gettime},
};
use serde::Serialize;

use crate::cli::FilterArgs;

/// What has happened.
#[derive(Debug, Serialize)]
pub(super) struct Told {
    /// RFC 3339, in UTC.
    time: String,
    /// `flow`, `socket`, `drop` or `reject`.
    event: &'static str,
    family: &'static str,
    protocol: String,
    /// Who has sent the packet; nothing for a socket.
    source: Option<SocketAddr>,
    /// What the client, or the process, has named.
    destination: SocketAddr,
    /// Who serves it, if somebody does.
    backend: Option<SocketAddr>,
    /// `namespace/name:port`, if it is for one.
    service: Option<String>,
    /// As metrics and logs name it.
    reason: &'static str,
    /// By its name, or by its index if that is gone; nothing for a socket.
    device: Option<String>,
}

impl Told {
    pub(super) fn new(
        event: &Event,
        service: Option<String>,
        clock: &Clock,
        devices: &Devices,
    ) -> Self {
        let reason = Reason::ALL.get(usize::from(event.reason)).copied();
        let happening = reason.and_then(Happening::of);
        Self {
            time: clock.at(event.at),
            event: match happening {
                Some(Happening::Flow) => "flow",
                Some(Happening::Socket) => "socket",
                Some(Happening::Reject) => "reject",
                Some(Happening::Drop) | None => "drop",
            },
            family: if u32::from(event.family) == V4::INDEX { V4::NAME } else { V6::NAME },
            protocol: event.protocol.to_string(),
            source: address(event.source),
            destination: address(event.destination)
                .unwrap_or_else(|| (IpAddr::from([0; 4]), 0).into()),
            backend: address(event.backend),
            service,
            reason: reason.map_or("?", Reason::name),
            device: (event.device != 0).then(|| devices.name(event.device)),
        }
    }

    /// Whether it is of a Service, and of an address, that are of interest. The programs know about families.
    pub(super) fn is_of_interest(&self, filter: &FilterArgs) -> bool {
        let addresses = [self.source, Some(self.destination), self.backend];
        filter.has_service(self.service.as_deref().unwrap_or_default())
            && filter.has_address(addresses.into_iter().flatten().map(|address| address.ip()))
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:<6} {:<4} ", self.time, self.event, self.protocol)?;
        match self.source {
            Some(source) => write!(f, "{source}")?,
            None => write!(f, "(socket)")?,
        }
        write!(f, " -> {}", self.destination)?;
        if let Some(backend) = self.backend {
            write!(f, " -> {backend}")?;
        }
        write!(f, "  {}", self.service.as_deref().unwrap_or("-"))?;
        if let Some(device) = &self.device {
            write!(f, "  {device}")?;
        }
        match self.event {
            "flow" | "socket" => Ok(()),
            _ => write!(f, "  {}", self.reason),
        }
    }
}

/// An address and a port, if there is one.
fn address(told: SocketAddress) -> Option<SocketAddr> {
    if told == SocketAddress::default() {
        return None;
    }
    let ip = if told.address.is_mapped() {
        IpAddr::from(V4Addr::from_mapped(told.address))
    } else {
        told.address.into()
    };
    Some(SocketAddr::new(ip, told.port.number()))
}

/// What the time is at a moment of the monotonic clock.
#[derive(Debug)]
pub(super) struct Clock {
    /// The beginning of that clock.
    beginning: SystemTime,
}

impl Clock {
    pub(super) fn now() -> Self {
        let now = Duration::try_from(clock_gettime(ClockId::Monotonic)).unwrap_or_default();
        Self { beginning: SystemTime::now() - now }
    }

    fn at(&self, nanoseconds: u64) -> String {
        let time = self.beginning + Duration::from_nanos(nanoseconds);
        Timestamp::try_from(time).map_or_else(|_| "?".to_owned(), |time| format!("{time:.6}"))
    }
}

/// The names of devices.
#[derive(Debug)]
pub(super) struct Devices(OwnedFd);

impl Devices {
    pub(super) fn new() -> anyhow::Result<Self> {
        let any = socket(AddressFamily::UNIX, SocketType::DGRAM, None);
        any.map(Self).context("cannot ask for the names of devices")
    }

    fn name(&self, index: u32) -> String {
        index_to_name(&self.0, index).unwrap_or_else(|_| format!("#{index}"))
    }
}

#[cfg(test)]
mod tests {
    use proxy_common::{Port, Protocol, frontend::ServiceIndex};

    use super::*;

    fn event<F: Family>(reason: Reason, source: &str, destination: &str) -> Event {
        let at = |text: &str| {
            let address = text.parse::<SocketAddr>().unwrap();
            Event::address::<F>(F::Addr::from_ip(address.ip()).unwrap(), Port::new(address.port()))
        };
        Event {
            at: 1,
            source: at(source),
            destination: at(destination),
            backend: SocketAddress::default(),
            service: ServiceIndex::FIRST,
            device: 1,
            family: u8::try_from(F::INDEX).unwrap(),
            protocol: Protocol::TCP,
            reason: reason as u8,
            reserved: 0,
        }
    }

    fn is_told<F: Family>(source: &str, destination: &str) {
        let clock = Clock { beginning: SystemTime::UNIX_EPOCH };
        let devices = Devices::new().unwrap();
        let mut flow = event::<F>(Reason::FlowCreated, source, destination);
        flow.backend = event::<F>(Reason::FlowCreated, destination, source).source;
        let told = |event: &Event| {
            Told::new(event, Some("shop/web:http".to_owned()), &clock, &devices).to_string()
        };
        assert_eq!(
            told(&flow),
            format!(
                "1970-01-01T00:00:00.000000Z flow   TCP  {source} -> {destination} -> {destination}  shop/web:http  lo"
            )
        );
        let dropped = event::<F>(Reason::DropLoopback, source, destination);
        assert_eq!(
            told(&dropped),
            format!(
                "1970-01-01T00:00:00.000000Z drop   TCP  {source} -> {destination}  shop/web:http  lo  drop-loopback"
            )
        );
        let socket = Event {
            source: SocketAddress::default(),
            device: 0,
            ..event::<F>(Reason::RejectNoEndpoints, source, destination)
        };
        assert_eq!(
            told(&socket),
            format!(
                "1970-01-01T00:00:00.000000Z reject TCP  (socket) -> {destination}  shop/web:http  reject-no-endpoints"
            )
        );
        let json = serde_json::to_value(Told::new(&socket, None, &clock, &devices)).unwrap();
        assert_eq!(json["family"], F::NAME);
        assert_eq!(json["source"], serde_json::Value::Null);
        assert_eq!(json["destination"], destination);
        assert_eq!(json["service"], serde_json::Value::Null);
    }

    #[test]
    fn events_are_told_v4() {
        is_told::<V4>("192.0.2.1:4000", "198.51.100.7:80");
    }

    #[test]
    fn events_are_told_v6() {
        is_told::<V6>("[2001:db8::1]:4000", "[fd00::7]:80");
    }
}
