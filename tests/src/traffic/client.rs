// SPDX-License-Identifier: Apache-2.0

//! Clients.

use std::io::{self, BufRead as _, BufReader};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use socket2::Socket;

use super::{
    Answer, Association, CountedStream, DatagramSocket, Failure, Shares, answer, http, server,
    socket, transfer,
};
use crate::family::{AddressForm, IpFamily};
use crate::protocol::Protocol;
use crate::topology::Host;

/// How a host asks servers.
#[derive(Clone, Copy, Debug)]
pub struct Client<'a> {
    host: &'a Host,
    patience: Duration,
    source: Option<IpAddr>,
    source_port: Option<u16>,
    form: AddressForm,
}

impl<'a> Client<'a> {
    /// A client in `host` that waits for five seconds.
    #[must_use]
    pub const fn new(host: &'a Host) -> Self {
        let form = AddressForm::Plain;
        Self { host, patience: Duration::from_secs(5), source: None, source_port: None, form }
    }

    /// How long to wait for each step: the connection, the answer.
    #[must_use]
    pub const fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// The source port of all requests, instead of the kernel's choice.
    ///
    /// TCP connections from it are ended by a RST, so that the next one need
    /// not wait for the end of `TIME_WAIT`.
    #[must_use]
    pub const fn source_port(mut self, port: u16) -> Self {
        self.source_port = Some(port);
        self
    }

    /// The source address of all requests by TCP and UDP, one of the host's,
    /// instead of the kernel's choice.
    #[must_use]
    pub const fn source(mut self, address: IpAddr) -> Self {
        self.source = Some(address);
        self
    }

    /// How it writes the addresses of servers; as they are by default.
    #[must_use]
    pub const fn form(mut self, form: AddressForm) -> Self {
        self.form = form;
        self
    }

    /// Asks a [`TcpServer`](super::TcpServer), a [`UdpServer`](super::UdpServer)
    /// or an [`SctpServer`](super::SctpServer) once.
    pub fn ask(&self, protocol: Protocol, target: SocketAddr) -> Result<Answer, Failure> {
        timed(|| match protocol {
            Protocol::Tcp | Protocol::Sctp => {
                let stream = self.connect_by(protocol, target)?;
                Ok((read_line(&stream)?, stream.peer_addr()?))
            }
            Protocol::Udp => self.datagrams(target)?.exchange(None),
        })
    }

    /// Asks an [`HttpServer`](super::HttpServer) once.
    pub fn get(&self, target: SocketAddr) -> Result<Answer, Failure> {
        timed(|| {
            let stream = self.connect(target)?;
            let peer = stream.peer_addr()?;
            Ok((self.request(stream, target)?, peer))
        })
    }

    /// Asks `count` times, each time anew, and counts who answers; collect
    /// into [`Shares`] for more than that.
    #[must_use]
    pub fn ask_often(&self, protocol: Protocol, target: SocketAddr, count: usize) -> Shares {
        (0..count).map(|_| self.ask(protocol, target)).collect()
    }

    /// Opens a connection that stays.
    pub fn stay(&self, target: SocketAddr) -> Result<CountedStream, Failure> {
        let start = Instant::now();
        self.connect(target)
            .and_then(CountedStream::new)
            .map_err(|error| Failure { error, elapsed: start.elapsed() })
    }

    /// Opens an SCTP association, of one address at each end.
    pub fn associate(&self, target: SocketAddr) -> Result<Association, Failure> {
        let start = Instant::now();
        self.connect_by(Protocol::Sctp, target)
            .and_then(Association::new)
            .map_err(|error| Failure { error, elapsed: start.elapsed() })
    }

    /// Sends `length` bytes to a [`TcpServer`](super::TcpServer) and reads them back meanwhile; none
    /// may be missing or wrong.
    pub fn transfer(&self, target: SocketAddr, length: usize) -> Result<(), Failure> {
        let start = Instant::now();
        self.connect(target)
            .and_then(|stream| transfer::there_and_back(&stream, length))
            .map_err(|error| Failure { error, elapsed: start.elapsed() })
    }

    /// Opens a connection.
    pub fn connect(&self, target: SocketAddr) -> io::Result<TcpStream> {
        self.connect_by(Protocol::Tcp, target)
    }

    fn connect_by(&self, protocol: Protocol, target: SocketAddr) -> io::Result<TcpStream> {
        let target = self.form.of(target);
        let socket = self.socket(target, protocol)?;
        socket::once_released(io::ErrorKind::AddrNotAvailable, || {
            socket.connect_timeout(&target.into(), self.patience)
        })?;
        if self.source_port.is_some() && protocol == Protocol::Tcp {
            socket.set_linger(Some(Duration::ZERO))?;
        }
        Ok(socket.into())
    }

    /// A UDP socket that only hears `target`, and the ICMP errors about it.
    pub fn udp_socket(&self, target: SocketAddr) -> io::Result<UdpSocket> {
        let target = self.form.of(target);
        let socket = self.socket(target, Protocol::Udp)?;
        socket.connect(&target.into())?;
        Ok(socket.into())
    }

    /// A UDP socket that only asks `target`, again and again.
    pub fn datagrams(&self, target: SocketAddr) -> io::Result<DatagramSocket> {
        Ok(DatagramSocket::new(self.udp_socket(target)?, self.form))
    }

    /// A UDP socket that is connected to nobody, for servers of a family.
    pub fn unconnected(&self, family: IpFamily) -> io::Result<DatagramSocket> {
        let any = self.form.of(SocketAddr::new(family.unspecified(), 0));
        Ok(DatagramSocket::new(self.socket(any, Protocol::Udp)?.into(), self.form))
    }

    fn socket(&self, target: SocketAddr, protocol: Protocol) -> io::Result<Socket> {
        let socket = socket::open(self.host, target, protocol).map_err(socket::io_error)?;
        socket.set_read_timeout(Some(self.patience))?;
        socket.set_write_timeout(Some(self.patience))?;
        let family = IpFamily::of(target.ip());
        if protocol == Protocol::Sctp {
            // It would tell the server of the host's other addresses.
            let own = SocketAddr::new(self.host.address(family), self.source_port.unwrap_or(0));
            socket::name(&socket, own)?;
        } else if self.source.is_some() || self.source_port.is_some() {
            let address = self.source.unwrap_or(family.unspecified());
            socket::name(&socket, SocketAddr::new(address, self.source_port.unwrap_or(0)))?;
        }
        Ok(socket)
    }

    fn request(&self, stream: TcpStream, target: SocketAddr) -> io::Result<String> {
        stream.set_nonblocking(true)?;
        server::runtime().block_on(async {
            let stream = tokio::net::TcpStream::from_std(stream)?;
            tokio::time::timeout(self.patience, http::get(stream, target)).await?
        })
    }
}

/// Reads the answer that `ask` gets, from whom it says, and measures how long
/// it takes.
pub(super) fn timed(
    ask: impl FnOnce() -> io::Result<(String, SocketAddr)>,
) -> Result<Answer, Failure> {
    let start = Instant::now();
    let got = ask();
    let elapsed = start.elapsed();
    match got.and_then(|(line, peer)| Ok((answer::parse(&line)?, peer))) {
        Ok(((server, source), peer)) => Ok(Answer { server, source, peer, elapsed }),
        Err(error) => Err(Failure { error, elapsed }),
    }
}

pub(super) fn read_line(stream: &TcpStream) -> io::Result<String> {
    let mut line = String::new();
    match BufReader::with_capacity(1, stream).read_line(&mut line)? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(line),
    }
}
