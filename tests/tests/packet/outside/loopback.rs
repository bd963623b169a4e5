// SPDX-License-Identifier: Apache-2.0

//! Nothing is from or to a loopback address that comes by a device (CVE-2020-8558), whatever it is
//! otherwise.

use std::net::{IpAddr, SocketAddr};

use anyhow::Result;
use proxy_common::counter::Reason;
use proxy_common::device::Device;
use proxy_common::service::Policy;
use proxy_tests::both_families;
use proxy_tests::family::IpFamily;
use proxy_tests::packet::{Content, Fragment, Packet};
use proxy_tests::protocol::Protocol;

use super::{NODE_PORT, node, outsider, rig};
use crate::frames::{backend, opening, udp};
use crate::rig::{Rig, Tabled};

both_families!(
    loopback_addresses_come_by_no_device,
    no_kind_of_packet_gets_round_that,
    no_kind_of_sender_gets_round_that,
);

fn loopback<F: Tabled>() -> Result<SocketAddr> {
    let address: IpAddr =
        if node::<F>().is_ipv4() { "127.0.0.1".parse()? } else { "::1".parse()? };
    Ok(SocketAddr::new(address, NODE_PORT))
}

/// None of them comes by the uplink, nor by a pod's device.
fn are_dropped<F: Tabled>(packets: &[Packet]) -> Result<()> {
    let mut rig: Rig<F> = rig::<F>(&[backend::<F>(1)], Policy::default())?;
    let mut count = 0;
    for packet in packets {
        rig.programs.arrives(packet)?.is_dropped();
        count += 1;
        assert_eq!(rig.count(Reason::DropLoopback)?, count, "{packet:?}");
    }
    rig.set_device(Device::routed().with_local_clients(true))?;
    for packet in packets {
        rig.programs.ingress(packet)?.is_dropped();
        count += 1;
        assert_eq!(rig.count(Reason::DropLoopback)?, count, "{packet:?}");
    }
    Ok(())
}

fn loopback_addresses_come_by_no_device<F: Tabled>() -> Result<()> {
    let (here, there) = (loopback::<F>()?, outsider::<F>(40_000));
    let ways = [(there, here), (here, there)];
    let packets = ways.map(|(from, to)| Protocol::ALL.map(|protocol| opening(protocol, from, to)));
    are_dropped::<F>(packets.as_flattened())
}

fn no_kind_of_packet_gets_round_that<F: Tabled>() -> Result<()> {
    let (here, there) = (loopback::<F>()?, outsider::<F>(40_000));
    let mut packets = Vec::new();
    for (from, to) in [(there, here), (here, there)] {
        let datagram = udp(from, to, &[7; 64]);
        packets.push(Packet {
            content: Content::Other { protocol: 50, payload: vec![7; 30] },
            ..datagram.clone()
        });
        packets.push(Packet { authentication: true, ..datagram.clone() });
        let later = Fragment { offset: 8, more: false };
        packets.push(Packet { fragment: Some(later), ..datagram.clone() });
        // Linux takes datagrams that came to a group of the link.
        for group in [[0xff; 6], [0x33, 0x33, 0, 0, 0, 1], [1, 0, 0x5e, 0, 0, 1]] {
            let mut to_group = datagram.clone();
            to_group.link.destination = group;
            packets.push(to_group);
        }
    }
    are_dropped::<F>(&packets)
}

fn no_kind_of_sender_gets_round_that<F: Tabled>() -> Result<()> {
    let here = loopback::<F>()?;
    let senders: &[&str] = match F::FAMILY {
        IpFamily::V4 => &["169.254.1.1", "240.0.0.1", "224.0.0.1", "255.255.255.255", "0.0.0.0"],
        IpFamily::V6 => &["fe80::1", "ff02::1", "::"],
    };
    let mut packets = Vec::new();
    for sender in senders {
        let sender = SocketAddr::new(sender.parse()?, 40_000);
        packets.extend(Protocol::ALL.map(|protocol| opening(protocol, sender, here)));
    }
    are_dropped::<F>(&packets)
}
