// SPDX-License-Identifier: Apache-2.0

//! A veth pair with a program at one end: the frames that come out at the other, with what the
//! kernel knows of their checksums and segments. `BPF_PROG_TEST_RUN` cannot tell a program that a
//! checksum is left to the device.

use std::io::{self, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd as _;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use aya::programs::tc::qdisc_add_clsact;
use aya::util::KernelVersion;
use nix::libc;
use nix::net::if_::if_nametoindex;
use proxy_tests::netns::{Namespace, Veth};
use proxy_tests::packet::{Content, Packet, crc32c};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::programs::At;
use crate::rig::{Rig, Tabled};

/// The end where frames are sent, and programs run.
const NEAR: &str = "near";
/// The end where they are seen.
const FAR: &str = "far";
const ETHERNET: usize = 14;
/// The most that a packet can be, in bytes.
const MTU: u32 = 65_535;
/// Where the checksum is in a header of SCTP, and in no other.
const SCTP_CHECKSUM: usize = 8;
/// An Ethernet type for experiments (IEEE 802).
const EXPERIMENTAL: u16 = 0x88b5;

/// `PACKET_VNET_HDR` of `linux/if_packet.h`: each frame has a header of its own before it.
const PACKET_VNET_HEADER: libc::c_int = 15;
/// The length of that header (`struct virtio_net_hdr`), in bytes.
const HEADER: usize = 10;
/// `VIRTIO_NET_HDR_F_NEEDS_CSUM`: the checksum is partial.
const NEEDS_CHECKSUM: u8 = 1;
/// `VIRTIO_NET_HDR_GSO_TCPV4`.
const GSO_TCP_V4: u8 = 1;
/// `VIRTIO_NET_HDR_GSO_TCPV6`.
const GSO_TCP_V6: u8 = 4;

/// The pair, in a network namespace of its own.
pub(crate) struct Wire {
    near: Socket,
    far: Socket,
}

/// A frame as it came out.
#[derive(Debug)]
pub(crate) struct Seen {
    header: [u8; HEADER],
    frame: Vec<u8>,
}

impl Wire {
    /// Does something with a new pair, on a thread in its network namespace.
    pub(crate) fn run<F: Tabled>(
        work: impl FnOnce(&mut Self, &mut Rig<F>) -> Result<()> + Send,
    ) -> Result<()> {
        let namespace = Namespace::new("wire")?;
        let end = |name| Veth { mtu: Some(MTU), ..Veth::named(name) };
        namespace.netlink()?.add_veth(end(NEAR), end(FAR), &namespace)?;
        namespace.run(|| {
            // Since 6.6 programs are attached without it.
            if KernelVersion::current()? < KernelVersion::new(6, 6, 0) {
                qdisc_add_clsact(NEAR)?;
            }
            let mut wire = Self { near: open(NEAR)?, far: open(FAR)? };
            wire.wait()?;
            let mut rig = Rig::<F>::in_this_network()?;
            work(&mut wire, &mut rig)
        })
    }

    /// Waits until frames come through. For a moment after both ends are up, the kernel loses them
    /// without a word.
    fn wait(&mut self) -> Result<()> {
        let mac = [2, 0, 0, 0, 0, 1];
        let mut probe = [0; HEADER + 60];
        probe[HEADER..HEADER + 6].fill(0xff);
        probe[HEADER + 6..HEADER + 12].copy_from_slice(&mac);
        probe[HEADER + 12..HEADER + 14].copy_from_slice(&EXPERIMENTAL.to_be_bytes());
        self.far.set_read_timeout(Some(Duration::from_millis(20)))?;
        let mut attempts = 0..500;
        let came = attempts.any(|_| self.near.write(&probe).is_ok() && self.receive(mac).is_ok());
        ensure!(came, "nothing comes through");
        Ok(self.far.set_read_timeout(Some(Duration::from_secs(10)))?)
    }

    /// Sends a frame through the program of a hook. Its checksum is whole or left to the device,
    /// and it may be a large segment that the device is to cut, into pieces of so many bytes.
    ///
    /// Both programs run where the frame leaves: that is where what comes out can be seen, and
    /// they do not ask which way it goes.
    pub(crate) fn send<F: Tabled>(
        &mut self,
        rig: &mut Rig<F>,
        at: At,
        packet: &Packet,
        is_partial: bool,
        segment: Option<u16>,
    ) -> Result<Seen> {
        let mut frame = packet.build()?;
        let mut header = [0; HEADER];
        if is_partial {
            let (start, offset) = checksum_place(packet, &frame)?;
            match packet.content {
                // The device computes it over zero.
                Content::Sctp(_) => frame[start + offset..start + offset + 4].fill(0),
                _ => make_partial(&mut frame, start, offset),
            }
            header[0] = NEEDS_CHECKSUM;
            header[6..8].copy_from_slice(&u16::try_from(start)?.to_ne_bytes());
            header[8..10].copy_from_slice(&u16::try_from(offset)?.to_ne_bytes());
            if let Some(segment) = segment {
                header[1] = if packet.source.is_ipv4() { GSO_TCP_V4 } else { GSO_TCP_V6 };
                header[2..4].copy_from_slice(&u16::try_from(start + 20)?.to_ne_bytes());
                header[4..6].copy_from_slice(&segment.to_ne_bytes());
            }
        }
        let link = rig.programs.attach(at, NEAR)?;
        let sent = self.near.write(&[header.as_slice(), &frame].concat());
        let seen = sent.context("sending").and_then(|_| self.receive(packet.link.source));
        rig.programs.detach(at, link)?;
        seen
    }

    /// The next frame from or to a MAC address; others are the kernel's own.
    fn receive(&mut self, mac: [u8; 6]) -> Result<Seen> {
        let mut buffer = vec![0; HEADER + (1 << 16)];
        loop {
            let length = self.far.read(&mut buffer).context("nothing came out")?;
            let (header, frame) =
                buffer[..length].split_first_chunk::<HEADER>().context("a header")?;
            if frame.get(..6) == Some(&mac) || frame.get(6..12) == Some(&mac) {
                return Ok(Seen { header: *header, frame: frame.to_vec() });
            }
        }
    }
}

impl Seen {
    /// Whether the checksum is still left to the device.
    pub(crate) const fn is_partial(&self) -> bool {
        self.header[0] & NEEDS_CHECKSUM != 0
    }

    /// Into pieces of what size, in bytes, the device is still to cut it.
    pub(crate) fn segment(&self) -> Option<u16> {
        let size = u16::from_ne_bytes([self.header[4], self.header[5]]);
        (self.header[1] != 0).then_some(size)
    }

    /// The frame as the device would send it, in one piece.
    pub(crate) fn completed(&self) -> Result<Vec<u8>> {
        let mut frame = self.frame.clone();
        if self.is_partial() {
            let number =
                |at: usize| usize::from(u16::from_ne_bytes([self.header[at], self.header[at + 1]]));
            let (start, offset) = (number(6), number(8));
            ensure!(start + offset + 2 <= frame.len(), "the checksum is outside the frame");
            if offset == SCTP_CHECKSUM {
                let checksum = crc32c(&frame[start..]);
                frame[start + offset..start + offset + 4].copy_from_slice(&checksum);
                return Ok(frame);
            }
            let sum = !sum(&frame[start..]);
            // Where the device sums, it writes zero as 0xffff: for TCP both mean the same.
            write_sum(&mut frame, start + offset, sum);
        }
        Ok(frame)
    }
}

/// A socket that sees and sends whole frames at a device.
fn open(device: &str) -> Result<Socket> {
    let all = libc::ETH_P_ALL.cast_unsigned().try_into().map(u16::to_be)?;
    let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(i32::from(all))))?;
    let on: libc::c_int = 1;
    // SAFETY: the option takes an integer, and its size is that.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            PACKET_VNET_HEADER,
            (&raw const on).cast(),
            u32::try_from(size_of_val(&on))?,
        )
    };
    ensure!(result == 0, io::Error::last_os_error());
    socket.bind(&link_address(device, all)?)?;
    Ok(socket)
}

fn link_address(device: &str, protocol: u16) -> Result<SockAddr> {
    let index = if_nametoindex(device)?;
    let family = u16::try_from(libc::AF_PACKET)?;
    let size = u32::try_from(size_of::<libc::sockaddr_ll>())?;
    // SAFETY: all bytes zero is a valid address of any kind, which is then filled in, and whose
    // length is told.
    let ((), address) = unsafe {
        SockAddr::try_init(|storage, length| {
            let mut address: libc::sockaddr_ll = MaybeUninit::zeroed().assume_init();
            address.sll_family = family;
            address.sll_protocol = protocol;
            address.sll_ifindex = index.cast_signed();
            storage.cast::<libc::sockaddr_ll>().write(address);
            *length = size;
            Ok(())
        })?
    };
    Ok(address)
}

/// Where the transport header begins, and where in it the checksum is.
fn checksum_place(packet: &Packet, frame: &[u8]) -> Result<(usize, usize)> {
    let (header, offset) = match &packet.content {
        Content::Tcp(tcp) => (20 + tcp.options.len() + tcp.payload.len(), 16),
        Content::Udp(udp) => (8 + udp.payload.len(), 6),
        Content::Sctp(sctp) => (12 + sctp.chunks.len(), SCTP_CHECKSUM),
        other => anyhow::bail!("{other:?} has no such checksum"),
    };
    let start = frame.len() - header;
    ensure!(start > ETHERNET, "the headers are too long");
    Ok((start, offset))
}

/// Replaces a whole checksum by the part that the device is to complete: the sum of the pseudo
/// header, which is what the sum of all the rest lacks.
fn make_partial(frame: &mut [u8], start: usize, offset: usize) {
    let whole = u16::from_be_bytes([frame[start + offset], frame[start + offset + 1]]);
    write_sum(frame, start + offset, 0);
    let rest = sum(&frame[start..]);
    write_sum(frame, start + offset, fold(u32::from(!whole) + u32::from(!rest)));
}

fn write_sum(frame: &mut [u8], at: usize, sum: u16) {
    frame[at..at + 2].copy_from_slice(&sum.to_be_bytes());
}

/// The one's complement sum (RFC 1071).
fn sum(bytes: &[u8]) -> u16 {
    let words = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or_default()));
    fold(words.sum())
}

fn fold(sum: u32) -> u16 {
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    u16::try_from(folded).unwrap_or(u16::MAX)
}
