// SPDX-License-Identifier: Apache-2.0

//! How many hops packets have left: as many as without the proxy.

use std::io::{ErrorKind, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::cmsg_space;
use nix::sys::socket::sockopt::{Ipv4RecvTtl, Ipv4Ttl, Ipv6RecvHopLimit, Ipv6Ttl};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt};
use proxy_tests::family::{IpFamily, TestFamily};
use proxy_tests::topology::Host;
use proxy_tests::traffic::once_released;

use crate::rig::{HOPS_PORT, HOPS_TARGET, Place, Rig, vip_at};

/// What the client gives its packets, unlike any default.
const CLIENT: u8 = 37;
/// What the backend gives its answers.
const BACKEND: u8 = 91;

/// The hops that a datagram and its answer have left when they arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Hops {
    request: u8,
    answer: u8,
}

/// Through each Service, packets have as many hops left as directly. Call it when the backends
/// have been reached before: the first packet to a neighbour that the node does not know yet is
/// routed, with a hop less.
pub(crate) fn are_as_directly<F: TestFamily>(rig: &Rig, places: &[Place]) -> Result<()> {
    for place in places.iter().copied() {
        let host = rig.host(place);
        let direct = measure::<F>(rig, host, host.socket::<F>(HOPS_TARGET))
            .with_context(|| format!("directly, {place:?}"))?;
        let through = measure::<F>(rig, host, vip_at::<F>(place, HOPS_PORT))
            .with_context(|| format!("through the Service, {place:?}"))?;
        ensure!(direct == through, "{place:?}: {direct:?} directly, but {through:?}");
        let decrements = match place {
            Place::Itself | Place::Node => 0,
            Place::OtherNode | Place::Machine => 1,
            Place::Far => 2,
            Place::Near => continue,
        };
        let expected = Hops { request: CLIENT - decrements, answer: BACKEND - decrements };
        ensure!(direct == expected, "{place:?}: {direct:?}");
    }
    Ok(())
}

/// Sends a datagram to `target`, where `backend` answers.
fn measure<F: TestFamily>(rig: &Rig, backend: &Host, target: SocketAddr) -> Result<Hops> {
    let server = open::<F>(backend, backend.socket::<F>(HOPS_TARGET), BACKEND)?;
    let any = SocketAddr::new(F::FAMILY.unspecified(), 0);
    let client = open::<F>(rig.client(), any, CLIENT)?;
    thread::scope(|scope| {
        let serving = scope.spawn(move || {
            let (request, source) = receive(&server).context("no request")?;
            let _ = server.send_to(b"!", source)?;
            anyhow::Ok(request)
        });
        client.connect(target)?;
        let _ = client.send(b"?")?;
        let answer = receive(&client).context("no answer");
        let request = serving.join().map_err(|_| anyhow::anyhow!("the server died"))??;
        Ok(Hops { request, answer: answer?.0 })
    })
}

/// A socket whose packets have `hops`, and that learns how many those have that it receives.
fn open<F: TestFamily>(host: &Host, address: SocketAddr, hops: u8) -> Result<UdpSocket> {
    let socket = host.namespace().run(|| {
        once_released(ErrorKind::AddrInUse, || UdpSocket::bind(address))
            .with_context(|| format!("binding {address}"))
    })?;
    socket.set_read_timeout(Some(Duration::from_secs(2)))?;
    match F::FAMILY {
        IpFamily::V4 => {
            setsockopt(&socket, Ipv4RecvTtl, &true)?;
            setsockopt(&socket, Ipv4Ttl, &hops.into())?;
        }
        IpFamily::V6 => {
            setsockopt(&socket, Ipv6RecvHopLimit, &true)?;
            setsockopt(&socket, Ipv6Ttl, &hops.into())?;
        }
    }
    Ok(socket)
}

/// Waits for a datagram, and returns its hops and where it came from.
fn receive(socket: &UdpSocket) -> Result<(u8, SocketAddr)> {
    let (mut datagram, mut control) = ([0; 8], cmsg_space!(i32));
    let mut parts = [IoSliceMut::new(&mut datagram)];
    let descriptor = socket.as_raw_fd();
    let flags = MsgFlags::empty();
    let message = recvmsg::<SockaddrStorage>(descriptor, &mut parts, Some(&mut control), flags)?;
    let hops = message.cmsgs()?.find_map(|control| match control {
        ControlMessageOwned::Ipv4Ttl(hops) | ControlMessageOwned::Ipv6HopLimit(hops) => Some(hops),
        _ => None,
    });
    let source = message.address.context("who has sent it?")?;
    let v4 = source.as_sockaddr_in().map(|address| SocketAddr::V4((*address).into()));
    let v6 = source.as_sockaddr_in6().map(|address| SocketAddr::V6((*address).into()));
    Ok((hops.context("no hops are said")?.try_into()?, v4.or(v6).context("another family")?))
}
