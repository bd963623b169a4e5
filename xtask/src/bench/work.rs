// SPDX-License-Identifier: Apache-2.0
//! What clients do that is measured.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use anyhow::{Result, bail};
use proxy_tests::{protocol::Protocol, topology::Host};

use super::{
    network::{EXCHANGES, Measured, STREAMS},
    peer::{self, Exchange},
    processors::{Place, Processors},
    rounds::Sample,
};
use crate::{
    iperf3::{self, Arrived, Client},
    statistics::real,
};

/// What is done to learn how much fills a window: bytes sent, and exchanges.
const FEW_EXCHANGES: Duration = Duration::from_millis(20);
const SHORT_STREAM: f64 = 128e6;
const FEW_DATAGRAMS: f64 = 2e6;

/// The largest packet of all networks here, in bytes.
const MTU: f64 = 1500.0;

/// Has iperf3 send datagrams.
const UDP: &str = "--udp";

/// Something that is measured of a work.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Quantity {
    /// Its name.
    pub(crate) title: &'static str,
    /// Its unit.
    pub(crate) unit: &'static str,
    /// How many digits are shown after the point.
    pub(crate) digits: usize,
    /// Whether the summary shows it.
    pub(crate) in_summary: bool,
}

/// A work, and what is measured of it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Work {
    /// Its name.
    pub(crate) title: &'static str,
    /// What a [`Sample`] of it holds.
    pub(crate) quantities: &'static [Quantity],
    /// What there is of it by second of a processor.
    pub(crate) efficiency: Quantity,
    tool: Tool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Tool {
    /// iperf3 with these arguments, which have it send so many streams.
    Iperf3(&'static [&'static str], u8),
    /// Exchanges with the lean server, by so many threads, in a place.
    Peer(Exchange, usize, Place),
}

const fn quantity(title: &'static str, unit: &'static str, digits: usize) -> Quantity {
    Quantity { title, unit, digits, in_summary: false }
}

const fn shown(title: &'static str, unit: &'static str, digits: usize) -> Quantity {
    Quantity { title, unit, digits, in_summary: true }
}

const GIGABITS: Quantity = quantity("work by processor", "Gbit by CPU second", 1);
const DATAGRAMS: Quantity = quantity("work by processor", "datagrams by CPU second", 0);
const CONNECTIONS: Quantity = quantity("work by processor", "connections by CPU second", 0);
const REQUESTS: Quantity = quantity("work by processor", "requests by CPU second", 0);

const THROUGHPUT: [Quantity; 1] = [shown("throughput", "Gbit/s", 2)];
const RECEIVED: [Quantity; 1] = [shown("received", "datagrams/s", 0)];
const RATE: [Quantity; 4] = [
    shown("rate", "1/s", 0),
    quantity("latency, median", "µs", 1),
    quantity("latency, 90 %", "µs", 1),
    quantity("latency, 99 %", "µs", 1),
];
const LATENCY: [Quantity; 4] = [
    quantity("rate", "1/s", 0),
    shown("latency, median", "µs", 1),
    quantity("latency, 90 %", "µs", 1),
    quantity("latency, 99 %", "µs", 1),
];

impl Work {
    /// iperf3 over TCP, one stream.
    pub(crate) const STREAM: Self = Self {
        title: "iperf3 TCP, one stream",
        quantities: &THROUGHPUT,
        efficiency: GIGABITS,
        tool: Tool::Iperf3(&[], 1),
    };

    /// iperf3 over TCP, several streams.
    pub(crate) const STREAMS: Self = Self {
        title: "iperf3 TCP, four streams",
        tool: Tool::Iperf3(&["--parallel=4"], 4),
        ..Self::STREAM
    };

    /// iperf3 over UDP, datagrams of 64 bytes as fast as it can.
    pub(crate) const DATAGRAMS: Self = Self {
        title: "iperf3 UDP, 64 bytes",
        quantities: &RECEIVED,
        efficiency: DATAGRAMS,
        tool: Tool::Iperf3(&[UDP, "--bitrate=0", "--length=64"], 1),
    };

    /// Connections with a request each, by several threads.
    pub(crate) const CONNECTIONS: Self = Self {
        title: "connections, four threads",
        quantities: &RATE,
        efficiency: CONNECTIONS,
        tool: Tool::Peer(Exchange::Connection, 4, Place::Client),
    };

    /// The same one after the other, client and server on one processor.
    pub(crate) const PINNED: Self = Self {
        title: "connections, one processor",
        quantities: &LATENCY,
        tool: Tool::Peer(Exchange::Connection, 1, Place::First),
        ..Self::CONNECTIONS
    };

    /// Requests one after the other on one connection.
    pub(crate) const REQUESTS: Self = Self {
        title: "requests on one connection",
        quantities: &LATENCY,
        efficiency: REQUESTS,
        tool: Tool::Peer(Exchange::Request, 1, Place::Client),
    };

    /// Whether processors must not sleep meanwhile.
    pub(crate) const fn is_about_latency(self) -> bool {
        matches!(self.tool, Tool::Peer(..))
    }

    /// What iperf3 is told, if it is done by that.
    pub(crate) const fn iperf3(self) -> Option<&'static [&'static str]> {
        match self.tool {
            Tool::Iperf3(arguments, _) => Some(arguments),
            Tool::Peer(..) => None,
        }
    }

    /// The protocol that it is done over.
    pub(crate) fn protocol(self) -> Protocol {
        match self.tool {
            Tool::Iperf3(arguments, _) if arguments.contains(&UDP) => Protocol::Udp,
            _ => Protocol::Tcp,
        }
    }

    /// The Service that it is done with.
    pub(crate) const fn service(self) -> Measured {
        match self.tool {
            Tool::Iperf3(..) => STREAMS,
            Tool::Peer(..) => EXCHANGES,
        }
    }

    /// The port that it is done at.
    pub(crate) const fn port(self) -> u16 {
        match self.tool {
            Tool::Iperf3(..) => iperf3::PORT,
            Tool::Peer(_, _, Place::First) => peer::PORT_BESIDE,
            Tool::Peer(..) => peer::PORT,
        }
    }

    /// How many flows what was done has opened, at least; iperf3 has one more, over which both ends
    /// agree, and tries again if the server is at another run.
    pub(crate) fn opened(self, done: &Sample) -> f64 {
        match self.tool {
            Tool::Iperf3(_, streams) => f64::from(streams) + 1.0,
            Tool::Peer(Exchange::Connection, ..) => done.work,
            Tool::Peer(Exchange::Request, threads, _) => real(threads),
        }
    }

    /// How many packets that took at least, both ways: as those of streams that are not joined, and of connections
    /// that are opened, used and closed.
    pub(crate) fn packets(self, done: &Sample) -> f64 {
        match self.tool {
            Tool::Iperf3(..) if self.protocol() == Protocol::Udp => done.work,
            Tool::Iperf3(..) => done.work * 1e9 / 8.0 / MTU,
            Tool::Peer(Exchange::Connection, ..) => done.work * 6.0,
            Tool::Peer(Exchange::Request, ..) => done.work * 2.0,
        }
    }

    /// How much of it fills a window, by a short time of it.
    ///
    /// # Errors
    ///
    /// If it cannot be done.
    pub(crate) fn amount(
        self,
        asker: &Asker<'_>,
        target: IpAddr,
        time: Duration,
    ) -> Result<Amount> {
        let Tool::Iperf3(arguments, _) = self.tool else {
            let _ = self.measure(asker, target, Amount::Time(FEW_EXCHANGES))?;
            return Ok(Amount::Time(time));
        };
        let is_udp = self.protocol() == Protocol::Udp;
        let first = if is_udp { FEW_DATAGRAMS } else { SHORT_STREAM };
        let arrived = asker.stream(target, arguments, first)?;
        let bytes = arrived.bits / arrived.seconds * time.as_secs_f64() / 8.0;
        Ok(Amount::Bytes(bytes.round()))
    }

    /// Does it.
    ///
    /// # Errors
    ///
    /// If it cannot be done.
    pub(crate) fn measure(
        self,
        asker: &Asker<'_>,
        target: IpAddr,
        amount: Amount,
    ) -> Result<Sample> {
        match (self.tool, amount) {
            (Tool::Iperf3(arguments, _), Amount::Bytes(bytes)) => {
                Ok(arrived(asker.stream(target, arguments, bytes)?))
            }
            (Tool::Peer(exchange, threads, place), Amount::Time(time)) => {
                let target = SocketAddr::new(target, self.port());
                let namespace = asker.host.namespace();
                let answer = asker
                    .processors
                    .run(place, || peer::ask(namespace, target, exchange, threads, time))?;
                let peer::Answer { count, rate, p50, p90, p99 } = answer;
                Ok(Sample { values: vec![rate, p50, p90, p99], work: count })
            }
            _ => bail!("{} is not measured by that", self.title),
        }
    }
}

/// What is measured of a run of iperf3.
pub(crate) fn arrived(arrived: Arrived) -> Sample {
    let Arrived { bits, datagrams, seconds } = arrived;
    if datagrams > 0.0 {
        Sample { values: vec![datagrams / seconds], work: datagrams }
    } else {
        Sample { values: vec![arrived.gigabits_a_second()], work: bits / 1e9 }
    }
}

/// How much is done in a window.
#[derive(Clone, Copy)]
pub(crate) enum Amount {
    /// For this long.
    Time(Duration),
    /// So many bytes.
    Bytes(f64),
}

/// A client on its processors.
pub(crate) struct Asker<'a> {
    host: &'a Host,
    processors: &'a Processors,
    iperf3: Client<'a>,
}

impl<'a> Asker<'a> {
    /// A client in `host`.
    ///
    /// # Errors
    ///
    /// If there is no room for its reports.
    pub(crate) fn new(host: &'a Host, processors: &'a Processors) -> Result<Self> {
        Ok(Self { host, processors, iperf3: Client::new(host)? })
    }

    fn stream(&self, target: IpAddr, arguments: &[&str], bytes: f64) -> Result<Arrived> {
        let bytes = format!("--bytes={bytes:.0}");
        let arguments = [arguments, &[&bytes]].concat();
        let target = SocketAddr::new(target, iperf3::PORT);
        self.processors.run(Place::Client, || self.iperf3.run(target, &arguments))
    }
}
