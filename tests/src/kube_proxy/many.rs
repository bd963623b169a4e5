// SPDX-License-Identifier: Apache-2.0
//! Services in any number: what a large cluster has besides the one that is measured.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::{family::IpFamily, protocol::Protocol};

use super::{Endpoint, ServicePort};

/// How many endpoints each of them has.
const ENDPOINTS: u32 = 10;

/// Services of one port, with endpoints on other nodes; the addresses are those of no namespace.
pub fn many(family: IpFamily, count: u32) -> impl Iterator<Item = ServicePort> + Clone + Sync {
    (0..count).map(move |number| ServicePort {
        namespace: "scale".to_owned(),
        service: format!("s-{number:06}"),
        name: "http".to_owned(),
        protocol: Protocol::Tcp,
        frontend: SocketAddr::new(cluster_ip(family, number), 80),
        endpoints: (0..ENDPOINTS)
            .map(|endpoint| {
                let address = SocketAddr::new(pod_ip(family, number, endpoint), 8080);
                Endpoint { address, is_local: false }
            })
            .collect(),
    })
}

/// From the second part of the Service CIDR on, the longest that Kubernetes takes.
fn cluster_ip(family: IpFamily, number: u32) -> IpAddr {
    let offset = 0x1_0000 + number;
    match family {
        IpFamily::V4 => Ipv4Addr::from_bits(Ipv4Addr::new(10, 96, 0, 0).to_bits() + offset).into(),
        IpFamily::V6 => {
            let base = Ipv6Addr::new(0xfd00, 0x10, 0x96, 0, 0, 0, 0, 0);
            Ipv6Addr::from_bits(base.to_bits() + u128::from(offset)).into()
        }
    }
}

fn pod_ip(family: IpFamily, number: u32, endpoint: u32) -> IpAddr {
    match family {
        IpFamily::V4 => {
            let base = Ipv4Addr::new(10, 128, 0, 0);
            Ipv4Addr::from_bits(base.to_bits() + number * 16 + endpoint).into()
        }
        IpFamily::V6 => {
            let base = Ipv6Addr::new(0xfd00, 0xe, 0, 0, 0, 0, 0, 1);
            let pod = u128::from(number) << 16 | u128::from(endpoint);
            Ipv6Addr::from_bits(base.to_bits() + pod).into()
        }
    }
}
