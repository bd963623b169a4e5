// SPDX-License-Identifier: Apache-2.0

//! Who speaks with whom: clients, frontends, and the endpoints of a Service.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, Result};
use proxy_common::backend::{Backend, BackendId};
use proxy_common::frontend::ServiceIndex;
use proxy_common::gauge::Recipe;
use proxy_common::{Address as _, Family, Port};

/// The address of the first client.
fn first_client<F: Family>() -> IpAddr {
    let first = if F::INDEX == 0 { "10.200.0.0" } else { "fd00:10:200::a:0" };
    first.parse().expect("an address")
}

/// A client, as the recipe counts them.
pub(crate) fn client<F: Family>(number: u32) -> SocketAddr {
    client_of::<F>(&Recipe::new(last_word(first_client::<F>())), number)
}

/// A client of a recipe.
pub(crate) fn client_of<F: Family>(recipe: &Recipe, number: u32) -> SocketAddr {
    let (word, port) = recipe.client(number);
    SocketAddr::new(with_last_word(first_client::<F>(), word), port)
}

/// The address with another last word.
fn with_last_word(address: IpAddr, word: u32) -> IpAddr {
    match address {
        IpAddr::V4(_) => IpAddr::from(word.to_be_bytes()),
        IpAddr::V6(address) => {
            let mut octets = address.octets();
            octets[12..].copy_from_slice(&word.to_be_bytes());
            IpAddr::from(octets)
        }
    }
}

/// One of many frontends.
pub(crate) fn one_of_many<F: Family>(number: u32) -> SocketAddr {
    let first = if F::INDEX == 0 { "10.112.0.0" } else { "fd00:10:96::70:0" };
    let first: IpAddr = first.parse().expect("an address");
    SocketAddr::new(with_last_word(first, last_word(first) + number), 80)
}

/// An endpoint of one of many Services.
pub(crate) fn endpoint_of<F: Family>(service: u32, number: u32) -> SocketAddr {
    let first = if F::INDEX == 0 { "10.128.0.1" } else { "fd00:10:244:9::1" };
    let first: IpAddr = first.parse().expect("an address");
    SocketAddr::new(with_last_word(first, last_word(first) + service * 16 + number), 8080)
}

/// Where a frame's packet goes. Its checksums are wrong: the driver leaves them as they are.
pub(crate) fn destination<F: Family>(frame: &[u8]) -> Result<SocketAddr> {
    let bytes = |range| frame.get(range).context("the frame is too short");
    let (ip, end): (IpAddr, _) = if F::INDEX == 0 {
        (<[u8; 4]>::try_from(bytes(30..34)?)?.into(), 34)
    } else {
        (<[u8; 16]>::try_from(bytes(38..54)?)?.into(), 54)
    };
    let port = <[u8; 2]>::try_from(bytes(end + 2..end + 4)?)?;
    Ok(SocketAddr::new(ip, u16::from_be_bytes(port)))
}

/// The last four bytes of an address, as a number.
pub(crate) fn last_word(address: IpAddr) -> u32 {
    match address {
        IpAddr::V4(address) => address.to_bits(),
        IpAddr::V6(address) => {
            let [.., high, low] = address.segments();
            u32::from(high) << 16 | u32::from(low)
        }
    }
}

/// A frontend.
pub(crate) fn vip<F: Family>(number: u8) -> SocketAddr {
    at::<F>("10.96.0.", "fd00:10:96::", number, 80)
}

/// An endpoint.
pub(crate) fn endpoint<F: Family>(number: u8) -> SocketAddr {
    at::<F>("10.244.1.", "fd00:10:244:1::", number, 8080)
}

fn at<F: Family>(v4: &str, v6: &str, number: u8, port: u16) -> SocketAddr {
    let start = if F::INDEX == 0 { v4 } else { v6 };
    SocketAddr::new(format!("{start}{number}").parse().expect("an address"), port)
}

/// An endpoint as a backend of a Service port.
pub(crate) fn backend<F: Family>(number: u8, service: ServiceIndex) -> (BackendId, Backend<F>) {
    let socket = endpoint::<F>(number);
    let id = BackendId(BackendId::FIRST.0 + u32::from(number));
    (id, Backend::new(address::<F>(socket), port(socket), 1, service))
}

/// An address of the tables.
pub(crate) fn address<F: Family>(socket: SocketAddr) -> F::Addr {
    F::Addr::from_ip(socket.ip()).expect("an address of the family")
}

/// A port of the tables.
pub(crate) const fn port(socket: SocketAddr) -> Port {
    Port::new(socket.port())
}
