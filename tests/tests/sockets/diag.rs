// SPDX-License-Identifier: Apache-2.0

//! Connected UDP sockets are listed, told apart by what they were given, and ended one by one.

use std::collections::{BTreeMap, HashMap};
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use proxy_agent::sockets::diag::{Connected, Destroyed, Diag};
use proxy_common::Port;
use proxy_common::backend::BackendId;
use proxy_common::socket::{SocketAddress, Translation};
use proxy_tests::netns::Namespace;
use socket2::{Domain, SockRef, Socket, Type};

/// How the sockets of this test are: their own address, and that of their server.
const KINDS: [(&str, &str); 3] =
    [("127.0.0.1", "127.0.0.1"), ("::1", "::1"), ("::", "::ffff:127.0.0.1")];

/// More than a few datagrams of the kernel's list.
const MANY: u32 = 2000;

/// A namespace with a server for each kind of sockets, and what sockets were given, by cookie.
struct Scene {
    namespace: Namespace,
    servers: Vec<UdpSocket>,
    given: HashMap<u64, Translation>,
    diag: Diag,
}

impl Scene {
    fn new() -> Result<Self> {
        let namespace = Namespace::new("node")?;
        let bind = |(_, address): &(&str, &str)| Ok(UdpSocket::bind((*address, 0))?);
        let servers = namespace.run(|| KINDS.iter().map(bind).collect::<Result<_>>())?;
        let diag = namespace.run(|| Ok(Diag::open()?))?;
        Ok(Self { namespace, servers, given: HashMap::new(), diag })
    }

    /// A socket that is connected to the server of its kind.
    fn connected(&self, kind: usize) -> Result<UdpSocket> {
        let socket = self.unconnected(kind)?;
        socket.connect(self.servers[kind].local_addr()?)?;
        Ok(socket)
    }

    fn unconnected(&self, kind: usize) -> Result<UdpSocket> {
        let socket = self.namespace.run(|| Ok(UdpSocket::bind((KINDS[kind].0, 0))?))?;
        socket.set_read_timeout(Some(Duration::from_secs(5)))?;
        Ok(socket)
    }

    /// Remembers that a socket was given `peer`, as the backend `number`.
    fn give(&mut self, socket: &UdpSocket, peer: SocketAddr, number: u32) -> Result<()> {
        let translation = Translation {
            given: address(peer),
            backend: BackendId(number),
            ..Translation::default()
        };
        let _ = self.given.insert(SockRef::from(socket).cookie()?, translation);
        Ok(())
    }

    /// A socket that is connected to the server of its kind, which it was given.
    fn given(&mut self, kind: usize, number: u32) -> Result<UdpSocket> {
        let socket = self.connected(kind)?;
        self.give(&socket, socket.peer_addr()?, number)?;
        Ok(socket)
    }

    /// The sockets that are connected to what they were given, by the number of the backend.
    fn listed(&mut self) -> Result<BTreeMap<u32, Connected>> {
        let mut given = BTreeMap::new();
        for socket in self.diag.udp_sockets()? {
            let translation = self.given.get(&socket.cookie());
            if let Some(translation) = translation.filter(|one| socket.was_given(one)) {
                let _ = given.insert(translation.backend.0, socket);
            }
        }
        Ok(given)
    }

    /// Ends the sockets that were given one of some backends.
    fn destroy_stale(&mut self, stale: impl Fn(u32) -> bool) -> Result<usize> {
        let Self { diag, given, .. } = self;
        Ok(diag.destroy_stale(|socket| {
            given
                .get(&socket.cookie())
                .is_some_and(|one| socket.was_given(one) && stale(one.backend.0))
        })?)
    }

    /// Whether a datagram goes from the socket to the server of its kind, and another back.
    fn answers(&self, socket: &UdpSocket, kind: usize) -> Result<()> {
        let mut buffer = [0; 8];
        let _ = socket.send(b"to")?;
        let (length, client) = self.servers[kind].recv_from(&mut buffer)?;
        let _ = self.servers[kind].send_to(&buffer[..length], client)?;
        ensure!(socket.recv(&mut buffer)? == length);
        Ok(())
    }
}

fn address(peer: SocketAddr) -> SocketAddress {
    let address = match peer.ip() {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    SocketAddress::new(address.into(), Port::new(peer.port()))
}

fn has_ended(socket: &UdpSocket) {
    let error = socket.recv(&mut [0; 8]).expect_err("it has ended");
    assert_eq!(error.kind(), ErrorKind::ConnectionAborted);
}

#[test]
fn this_kernel_lists_and_ends_sockets() -> Result<()> {
    let namespace = Namespace::new("node")?;
    ensure!(namespace.run(|| Ok(Diag::probe()?))?.is_none());
    Ok(())
}

#[test]
fn connected_sockets_are_listed_with_their_cookies_and_peers() -> Result<()> {
    let mut scene = Scene::new()?;
    let mut expected = BTreeMap::new();
    let mut sockets = Vec::new();
    for kind in 0..KINDS.len() {
        for _ in 0..5 {
            let socket = scene.connected(kind)?;
            let peer = address(scene.servers[kind].local_addr()?);
            let _ = expected.insert(SockRef::from(&socket).cookie()?, peer);
            sockets.push(socket);
        }
        sockets.push(scene.unconnected(kind)?);
    }
    let listed = scene.diag.udp_sockets()?;
    assert_eq!(listed.len(), expected.len());
    let listed: BTreeMap<_, _> = listed.iter().map(|one| (one.cookie(), one.peer())).collect();
    assert_eq!(listed, expected);
    Ok(())
}

#[test]
fn only_what_is_connected_to_what_it_was_given_counts() -> Result<()> {
    let mut scene = Scene::new()?;
    let mut sockets = Vec::new();
    let mut own = Vec::new();
    for (kind, number) in (0..KINDS.len()).zip([1, 11, 21]) {
        sockets.push(scene.given(kind, number)?);
        let peer = scene.servers[kind].local_addr()?;
        let unconnected = scene.unconnected(kind)?;
        scene.give(&unconnected, peer, number + 1)?;
        sockets.push(unconnected);
        // Connected by itself; given something once, but connected by itself since; remembered as
        // not translated.
        own.push((scene.connected(kind)?, kind));
        let since = scene.connected(kind)?;
        scene.give(&since, SocketAddr::new(peer.ip(), 9), number + 2)?;
        own.push((since, kind));
        own.push((scene.given(kind, BackendId::NONE.0)?, kind));
    }
    assert!(scene.listed()?.into_keys().eq([1, 11, 21]));
    assert_eq!(scene.destroy_stale(|_| true)?, 3);
    own.iter().try_for_each(|(socket, kind)| scene.answers(socket, *kind))
}

#[test]
fn another_namespace_has_other_sockets() -> Result<()> {
    let scene = Scene::new()?;
    let _sockets = [scene.connected(0)?, scene.connected(1)?, scene.connected(2)?];
    let other = Namespace::new("other")?;
    assert_eq!(other.run(|| Ok(Diag::open()?.udp_sockets()?))?, []);
    Ok(())
}

#[test]
fn exactly_one_ends_and_learns_of_it() -> Result<()> {
    for kind in 0..KINDS.len() {
        let mut scene = Scene::new()?;
        let (socket, other) = (scene.given(kind, 1)?, scene.given(kind, 2)?);
        let own = scene.connected(kind)?;
        let one = scene.listed()?.remove(&1).context("the first")?;
        assert_eq!(scene.diag.destroy(&one)?, Destroyed::Now);
        assert_eq!(scene.diag.destroy(&one)?, Destroyed::NotFound);

        let error = socket.send(b"to").expect_err("it is connected to nothing");
        assert_eq!(error.raw_os_error(), Some(Errno::EDESTADDRREQ as i32));
        has_ended(&socket);
        scene.answers(&other, kind)?;
        scene.answers(&own, kind)?;
        assert!(scene.listed()?.into_keys().eq([2]));

        // It can be used again: connected anew to what serves.
        socket.connect(scene.servers[kind].local_addr()?)?;
        scene.answers(&socket, kind)?;
    }
    Ok(())
}

#[test]
fn who_waits_for_an_answer_is_woken() -> Result<()> {
    for kind in 0..KINDS.len() {
        let mut scene = Scene::new()?;
        let socket = scene.given(kind, 1)?;
        let one = scene.listed()?.remove(&1).context("the socket")?;
        let waiter = thread::spawn(move || has_ended(&socket));
        // So that it does wait. If it does not yet, it will find the error all the same.
        thread::sleep(Duration::from_millis(100));
        assert_eq!(scene.diag.destroy(&one)?, Destroyed::Now);
        ensure!(waiter.join().is_ok());
    }
    Ok(())
}

#[test]
fn a_closed_socket_is_not_found() -> Result<()> {
    for kind in 0..KINDS.len() {
        let mut scene = Scene::new()?;
        let socket = scene.given(kind, 1)?;
        let one = scene.listed()?.remove(&1).context("the socket")?;
        drop(socket);
        assert_eq!(scene.diag.destroy(&one)?, Destroyed::NotFound);
    }
    Ok(())
}

#[test]
fn many_are_all_listed_and_the_stale_ones_end() -> Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let needed = u64::from(MANY) + 1000;
    setrlimit(Resource::RLIMIT_NOFILE, soft.max(needed), hard.max(needed))?;
    let mut scene = Scene::new()?;
    let mut sockets = Vec::new();
    for number in 1..=MANY {
        let kind = number as usize % KINDS.len();
        sockets.push((scene.given(kind, number)?, kind, number));
    }
    assert!(scene.listed()?.into_keys().eq(1..=MANY));

    let stale = |number: u32| number.is_multiple_of(2);
    assert_eq!(scene.destroy_stale(stale)?, MANY as usize / 2);
    assert!(scene.listed()?.into_keys().eq((1..=MANY).filter(|number| !stale(*number))));
    for (socket, kind, number) in &sockets {
        if stale(*number) {
            has_ended(socket);
        } else {
            scene.answers(socket, *kind)?;
        }
    }
    Ok(())
}

#[test]
fn those_with_the_same_addresses_and_ports_all_end() -> Result<()> {
    for (kind, &(own, _)) in KINDS.iter().enumerate() {
        let mut scene = Scene::new()?;
        let peer = scene.servers[kind].local_addr()?;
        let mut own = SocketAddr::new(own.parse()?, 0);
        let mut sockets = Vec::new();
        for number in 1..=3 {
            let socket = scene.namespace.run(|| {
                let socket = Socket::new(Domain::for_address(own), Type::DGRAM, None)?;
                socket.set_reuse_port(true)?;
                socket.bind(&own.into())?;
                Ok(UdpSocket::from(socket))
            })?;
            own.set_port(socket.local_addr()?.port());
            sockets.push((socket, number));
        }
        // Bound before any is connected: who is connected to the same is not asked then.
        for (socket, number) in &sockets {
            socket.connect(peer)?;
            scene.give(socket, peer, *number)?;
        }
        assert!(scene.listed()?.into_keys().eq(1..=3));
        assert_eq!(scene.destroy_stale(|_| true)?, 3);
        for (socket, _) in &sockets {
            has_ended(socket);
        }
    }
    Ok(())
}
