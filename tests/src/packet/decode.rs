// SPDX-License-Identifier: Apache-2.0

//! From bytes to values.

use anyhow::{Context as _, Result, ensure};
use etherparse::{
    EtherType, Ethernet2Header, IpHeaders, IpNumber, Ipv4Header, Ipv6Extensions, Ipv6Header,
    SingleVlanHeader, TcpHeader, UdpHeader,
};

use super::icmp::{addresses, checksum_of, number};
use super::{Content, Fragment, Icmp, Link, Packet, Sctp, Tcp, TcpFlags, Udp, checksum};
use crate::family::IpFamily;

impl Packet {
    /// Reads a frame. Fails if a length or checksum in it is wrong.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let (ethernet, mut rest) = Ethernet2Header::from_slice(bytes)?;
        let mut link =
            Link { source: ethernet.source, destination: ethernet.destination, vlan: None };
        let mut ether_type = ethernet.ether_type;
        if ether_type == EtherType::VLAN_TAGGED_FRAME {
            let (tag, after) = SingleVlanHeader::from_slice(rest)?;
            link.vlan = Some(tag.vlan_id.value());
            (ether_type, rest) = (tag.ether_type, after);
        }
        let mut packet = Self::decode_ip(rest)?;
        let expected = if packet.source.is_ipv4() { EtherType::IPV4 } else { EtherType::IPV6 };
        ensure!(ether_type == expected, "the type of the frame is {ether_type:?}");
        packet.link = link;
        Ok(packet)
    }

    /// Reads a packet without Ethernet header; its link is the usual one.
    pub fn decode_ip(bytes: &[u8]) -> Result<Self> {
        let (headers, content) = IpHeaders::from_slice(bytes).context("the IP headers")?;
        let (source, destination) = addresses(&headers);
        let other =
            Content::Other { protocol: content.ip_number.0, payload: content.payload.to_vec() };
        let mut packet = Self::new(source, destination, other);
        match &headers {
            IpHeaders::Ipv4(header, extensions) => {
                packet.read_ipv4(header)?;
                packet.authentication = extensions.auth.is_some();
            }
            IpHeaders::Ipv6(header, extensions) => {
                packet.read_ipv6(header, extensions);
                packet.authentication = extensions.auth.is_some();
            }
        }
        if packet.fragment.is_none() {
            packet.read_content(content.ip_number, content.payload)?;
        }
        Ok(packet)
    }

    fn read_ipv4(&mut self, header: &Ipv4Header) -> Result<()> {
        let right = header.calc_header_checksum();
        let found = header.header_checksum;
        ensure!(found == right, "the IPv4 header checksum is {found:#x}, should be {right:#x}");
        self.hop_limit = header.time_to_live;
        self.traffic_class = header.dscp.value() << 2 | header.ecn.value();
        self.label = header.identification.into();
        self.dont_fragment = header.dont_fragment;
        self.options = header.options.to_vec();
        let offset = header.fragment_offset.value();
        let more = header.more_fragments;
        self.fragment = (more || offset > 0).then_some(Fragment { offset, more });
        Ok(())
    }

    fn read_ipv6(&mut self, header: &Ipv6Header, extensions: &Ipv6Extensions) {
        self.hop_limit = header.hop_limit;
        self.traffic_class = header.traffic_class;
        self.label = header.flow_label.value();
        if let Some(options) = &extensions.hop_by_hop_options {
            self.options = options.payload().to_vec();
        }
        self.segments_left = extensions
            .routing
            .as_ref()
            .and_then(|routing| routing.routing.payload().get(1).copied());
        self.fragment = extensions.fragment.as_ref().map(|fragment| Fragment {
            offset: fragment.fragment_offset.value(),
            more: fragment.more_fragments,
        });
    }

    fn read_content(&mut self, protocol: IpNumber, bytes: &[u8]) -> Result<()> {
        let sum = if protocol == number(IpFamily::of(self.source)) {
            checksum_of(self, bytes)?
        } else {
            checksum::with_pseudo_header(self, protocol, bytes)?
        };
        let check = |name: &str| {
            ensure!(sum == 0, "the {name} checksum is wrong, by {sum:#06x}");
            Ok(())
        };
        if protocol == IpNumber::TCP {
            self.content = Content::Tcp(read_tcp(bytes)?);
            check("TCP")
        } else if protocol == IpNumber::UDP {
            let udp = read_udp(bytes)?;
            ensure!(udp.checksum || self.source.is_ipv4(), "UDP over IPv6 without a checksum");
            let has_checksum = udp.checksum;
            self.content = Content::Udp(udp);
            if has_checksum { check("UDP") } else { Ok(()) }
        } else if protocol == IpNumber::SCTP {
            self.content = Content::Sctp(Sctp::read(bytes)?);
            Ok(())
        } else if protocol == number(IpFamily::of(self.source)) {
            self.content = Content::Icmp(read_icmp(bytes)?);
            check("ICMP")
        } else {
            Ok(())
        }
    }
}

fn read_tcp(bytes: &[u8]) -> Result<Tcp> {
    let (header, payload) = TcpHeader::from_slice(bytes).context("the TCP header")?;
    Ok(Tcp {
        source: header.source_port,
        destination: header.destination_port,
        flags: TcpFlags::read(&header),
        sequence: header.sequence_number,
        acknowledgment: header.acknowledgment_number,
        window: header.window_size,
        options: header.options.as_slice().to_vec(),
        payload: payload.to_vec(),
    })
}

fn read_udp(bytes: &[u8]) -> Result<Udp> {
    let (header, payload) = UdpHeader::from_slice(bytes).context("the UDP header")?;
    ensure!(usize::from(header.length) == bytes.len(), "the UDP length is {}", header.length);
    Ok(Udp {
        source: header.source_port,
        destination: header.destination_port,
        checksum: header.checksum != 0,
        payload: payload.to_vec(),
    })
}

fn read_icmp(bytes: &[u8]) -> Result<Icmp> {
    let (&[kind, code, _, _, a, b, c, d], payload) =
        bytes.split_first_chunk().context("the ICMP header")?;
    Ok(Icmp { kind, code, rest: [a, b, c, d], payload: payload.to_vec() })
}

/// Checks that all lengths and checksums of a frame are right.
///
/// # Panics
///
/// If one is not; says which.
pub fn assert_checksums(frame: &[u8]) {
    if let Err(error) = Packet::decode(frame) {
        panic!("{error:#}: {frame:02x?}");
    }
}
