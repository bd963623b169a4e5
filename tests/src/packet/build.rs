// SPDX-License-Identifier: Apache-2.0

//! From values to bytes.

use std::net::IpAddr;

use anyhow::{Context as _, Result, ensure};
use etherparse::{
    EtherType, Ethernet2Header, IpAuthHeader, IpDscp, IpEcn, IpFragOffset, IpHeaders, IpNumber,
    Ipv4Extensions, Ipv4Header, Ipv6Extensions, Ipv6FragmentHeader, Ipv6Header, Ipv6RawExtHeader,
    Ipv6RoutingExtensions, SingleVlanHeader, TcpHeader, UdpHeader, VlanId,
};

use super::{Content, Packet, Tcp, Udp, checksum};

/// The next header where the one that follows is set later.
const LATER: IpNumber = IpNumber(0);

impl Packet {
    /// The frame, with right lengths and checksums.
    pub fn build(&self) -> Result<Vec<u8>> {
        let mut bytes = self.link_header()?;
        bytes.extend(self.build_ip()?);
        Ok(bytes)
    }

    /// The packet without its Ethernet header.
    pub fn build_ip(&self) -> Result<Vec<u8>> {
        let (protocol, content) = self.content_bytes()?;
        let mut headers = match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                self.ipv4_headers(source.octets(), destination.octets())?
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                self.ipv6_headers(source.octets(), destination.octets())?
            }
            (source, destination) => {
                anyhow::bail!("{source} and {destination} are of different families")
            }
        };
        headers.set_payload_len(content.len())?;
        let _ = headers.set_next_headers(protocol);
        let mut bytes = Vec::new();
        headers.write(&mut bytes)?;
        bytes.extend(content);
        Ok(bytes)
    }

    fn link_header(&self) -> Result<Vec<u8>> {
        let ip = if self.source.is_ipv4() { EtherType::IPV4 } else { EtherType::IPV6 };
        let ethernet = Ethernet2Header {
            source: self.link.source,
            destination: self.link.destination,
            ether_type: self.link.vlan.map_or(ip, |_| EtherType::VLAN_TAGGED_FRAME),
        };
        let mut bytes = ethernet.to_bytes().to_vec();
        if let Some(vlan) = self.link.vlan {
            let vlan_id = VlanId::try_new(vlan)?;
            let tag = SingleVlanHeader { vlan_id, ether_type: ip, ..Default::default() };
            bytes.extend(tag.to_bytes());
        }
        Ok(bytes)
    }

    fn ipv4_headers(&self, source: [u8; 4], destination: [u8; 4]) -> Result<IpHeaders> {
        ensure!(self.segments_left.is_none(), "IPv4 has no routing header");
        let mut header = Ipv4Header::new(0, self.hop_limit, LATER, source, destination)?;
        header.dscp = IpDscp::try_new(self.traffic_class >> 2)?;
        header.ecn = IpEcn::try_new(self.traffic_class & 3)?;
        header.identification = self.label.try_into().context("the identification")?;
        header.dont_fragment = self.dont_fragment;
        header.options = self.options.as_slice().try_into()?;
        if let Some(fragment) = self.fragment {
            header.fragment_offset = IpFragOffset::try_new(fragment.offset)?;
            header.more_fragments = fragment.more;
        }
        Ok(IpHeaders::Ipv4(header, Ipv4Extensions { auth: self.authentication_header()? }))
    }

    fn ipv6_headers(&self, source: [u8; 16], destination: [u8; 16]) -> Result<IpHeaders> {
        let header = Ipv6Header {
            traffic_class: self.traffic_class,
            flow_label: self.label.try_into()?,
            hop_limit: self.hop_limit,
            source,
            destination,
            ..Default::default()
        };
        let options = (!self.options.is_empty()).then_some(&self.options);
        let options = options.map(|bytes| Ipv6RawExtHeader::new_raw(LATER, bytes)).transpose()?;
        let routing = self.segments_left.map(routing_header).transpose()?;
        let fragment = self.fragment.map(|fragment| {
            let offset = IpFragOffset::try_new(fragment.offset)?;
            anyhow::Ok(Ipv6FragmentHeader::new(LATER, offset, fragment.more, self.label))
        });
        let extensions = Ipv6Extensions {
            hop_by_hop_options: options,
            destination_options: None,
            routing,
            fragment: fragment.transpose()?,
            auth: self.authentication_header()?,
        };
        Ok(IpHeaders::Ipv6(header, extensions))
    }

    fn authentication_header(&self) -> Result<Option<IpAuthHeader>> {
        let header = self.authentication.then(|| IpAuthHeader::new(LATER, 1, 1, &[0; 12]));
        header.transpose().context("the authentication header")
    }

    pub(super) fn content_bytes(&self) -> Result<(IpNumber, Vec<u8>)> {
        match &self.content {
            Content::Tcp(tcp) => Ok((IpNumber::TCP, self.tcp_bytes(tcp)?)),
            Content::Udp(udp) => Ok((IpNumber::UDP, self.udp_bytes(udp)?)),
            Content::Sctp(sctp) => Ok((IpNumber::SCTP, sctp.bytes())),
            Content::Icmp(icmp) => icmp.bytes(self),
            Content::Other { protocol, payload } => Ok((IpNumber(*protocol), payload.clone())),
        }
    }

    fn tcp_bytes(&self, tcp: &Tcp) -> Result<Vec<u8>> {
        let mut header = TcpHeader::new(tcp.source, tcp.destination, tcp.sequence, tcp.window);
        header.acknowledgment_number = tcp.acknowledgment;
        tcp.flags.write(&mut header);
        header.set_options_raw(&tcp.options)?;
        let without = [header.to_bytes().as_slice(), &tcp.payload].concat();
        header.checksum = checksum::with_pseudo_header(self, IpNumber::TCP, &without)?;
        Ok([header.to_bytes().as_slice(), &tcp.payload].concat())
    }

    fn udp_bytes(&self, udp: &Udp) -> Result<Vec<u8>> {
        ensure!(udp.checksum || self.source.is_ipv4(), "UDP over IPv6 has a checksum");
        let mut header = UdpHeader {
            source_port: udp.source,
            destination_port: udp.destination,
            length: u16::try_from(UdpHeader::LEN + udp.payload.len())?,
            checksum: 0,
        };
        if udp.checksum {
            let without = [header.to_bytes().as_slice(), &udp.payload].concat();
            let sum = checksum::with_pseudo_header(self, IpNumber::UDP, &without)?;
            // Zero would mean that there is none.
            header.checksum = if sum == 0 { u16::MAX } else { sum };
        }
        Ok([header.to_bytes().as_slice(), &udp.payload].concat())
    }
}

/// A routing header of type 2 (RFC 6275), which has one address.
fn routing_header(segments_left: u8) -> Result<Ipv6RoutingExtensions> {
    let mut bytes = [0; 22];
    bytes[0] = 2;
    bytes[1] = segments_left;
    let routing = Ipv6RawExtHeader::new_raw(LATER, &bytes)?;
    Ok(Ipv6RoutingExtensions { routing, final_destination_options: None })
}
