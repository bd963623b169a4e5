// SPDX-License-Identifier: Apache-2.0

//! Floods of SYNs: whole packets from addresses that nobody has, so that nobody answers the SYN-ACKs.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::libc;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::family::IpFamily;
use crate::netns::Prefix;
use crate::packet::{Packet, TcpFlags};
use crate::topology::Host;

/// How long one lasts at most.
const LIMIT: Duration = Duration::from_mins(3);
/// How often it looks at the time.
const PAUSE: Duration = Duration::from_millis(2);
/// How many addresses the sources have: those of [`sources`] in IPv4, but for the first and the last.
const ADDRESSES: u64 = (1 << 17) - 2;
/// Has neighbours in the order of numbers be far from each other in the range; prime.
const STRIDE: u64 = 49_157;
/// The ports of the sources begin with the first, and are so many.
const FIRST_PORT: u16 = 1024;
const PORTS: u64 = 60_000;

/// The addresses that floods come from: the ranges for benchmarks (RFC 2544, RFC 5180).
#[must_use]
pub const fn sources(family: IpFamily) -> Prefix {
    match family {
        IpFamily::V4 => Prefix(IpAddr::V4(Ipv4Addr::new(198, 18, 0, 0)), 15),
        IpFamily::V6 => Prefix(IpAddr::V6(Ipv6Addr::new(0x2001, 2, 0, 0, 0, 0, 0, 0)), 48),
    }
}

/// The source of a SYN of this number: another address than those of as many before it as there are, and another port.
fn source(family: IpFamily, number: u64) -> SocketAddr {
    let host = 1 + number.wrapping_mul(STRIDE) % ADDRESSES;
    let address = match sources(family).0 {
        IpAddr::V4(first) => {
            let bits = u64::from(first.to_bits()) + host;
            Ipv4Addr::from_bits(u32::try_from(bits).unwrap_or_default()).into()
        }
        IpAddr::V6(first) => Ipv6Addr::from_bits(first.to_bits() + u128::from(host)).into(),
    };
    let port = FIRST_PORT + u16::try_from(number % PORTS).unwrap_or_default();
    SocketAddr::new(address, port)
}

/// A flood that goes on until it is stopped or dropped.
#[derive(Debug)]
pub struct SynFlood {
    sent: Arc<AtomicU64>,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl SynFlood {
    /// Has `host` send so many SYNs a second to `target`, evenly.
    pub fn start(host: &Host, target: SocketAddr, rate: u32) -> Result<Self> {
        // It stays in the namespace where it was made.
        let socket = host.namespace().run(|| raw_socket(IpFamily::of(target.ip())));
        let socket = socket.with_context(|| format!("a raw socket in {}", host.name()))?;
        let (sent, stopping) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let (counted, stopped) = (Arc::clone(&sent), Arc::clone(&stopping));
        let work = move || send(&socket, target, rate, &counted, &stopped);
        let thread = thread::Builder::new().name("flood".to_owned()).spawn(work)?;
        Ok(Self { sent, stopping, thread: Some(thread) })
    }

    /// How many it has sent by now.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Ends it, and says how many it has sent.
    pub fn stop(mut self) -> Result<u64> {
        self.stopping.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().ok().context("the flood has panicked")?.context("sending a SYN")?;
        }
        Ok(self.sent())
    }
}

impl Drop for SynFlood {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        // Whoever has panicked has said so.
        drop(self.thread.take().map(JoinHandle::join));
    }
}

/// A socket that is given packets with their IP headers.
fn raw_socket(family: IpFamily) -> Result<Socket> {
    let domain = match family {
        IpFamily::V4 => Domain::IPV4,
        IpFamily::V6 => Domain::IPV6,
    };
    Ok(Socket::new(domain, Type::RAW, Some(Protocol::from(libc::IPPROTO_RAW)))?)
}

fn send(
    socket: &Socket,
    target: SocketAddr,
    rate: u32,
    sent: &AtomicU64,
    stopping: &AtomicBool,
) -> io::Result<()> {
    let (family, start) = (IpFamily::of(target.ip()), Instant::now());
    // A port there would be a protocol.
    let to = SockAddr::from(SocketAddr::new(target.ip(), 0));
    let mut number = 0;
    while !stopping.load(Ordering::Relaxed) && start.elapsed() < LIMIT {
        let due = u128::from(rate) * start.elapsed().as_micros() / 1_000_000;
        while u128::from(number) < due && !stopping.load(Ordering::Relaxed) {
            let packet = Packet::tcp(source(family, number), target, TcpFlags::SYN);
            let bytes = packet.build_ip().map_err(io::Error::other)?;
            match socket.send_to(&bytes, &to) {
                Ok(_) => _ = sent.fetch_add(1, Ordering::Relaxed),
                // The device has no room: one that is not sent.
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            number += 1;
        }
        thread::sleep(PAUSE);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn sources_are_many_and_of_the_range() {
        for family in IpFamily::ALL {
            let all: HashSet<_> = (0..100_000).map(|number| source(family, number)).collect();
            assert_eq!(all.len(), 100_000);
            let addresses: HashSet<_> = all.iter().map(SocketAddr::ip).collect();
            assert_eq!(addresses.len(), 100_000);
            let Prefix(first, length) = sources(family);
            let range = ipnet::IpNet::new(first, length).unwrap();
            assert!(addresses.iter().all(|address| range.contains(address)));
        }
    }
}
