// SPDX-License-Identifier: Apache-2.0
use std::net::IpAddr;

use netlink_packet_core::Emitable as _;

use super::*;
use crate::both_families::in_both_families;

in_both_families!(
    a_translated_connection_is_told_by_where_it_was_to_go,
    what_is_nothing_to_refuse_is_left_out,
    what_lacks_a_part_is_told,
);

/// What `getsockopt` and packets call TCP, UDP and SCTP.
const TCP: u8 = 6;
const UDP: u8 = 17;
const SCTP: u8 = 132;

/// An established connection of TCP.
const ESTABLISHED: u8 = 3;

fn address<F: Family>() -> IpAddr {
    let text = if F::INDEX == 0 { "10.96.0.10" } else { "fd00:10:96::a" };
    text.parse().unwrap()
}

fn nest(kind: u16, attributes: &[DefaultNla]) -> DefaultNla {
    let mut bytes = vec![0; attributes.buffer_len()];
    attributes.emit(&mut bytes);
    // `NLA_F_NESTED`.
    DefaultNla::new(kind | 1 << 15, bytes)
}

/// A connection as the kernel tells of it, with its client's source left out.
fn connection<F: Family>(protocol: u8, status: u32, state: u8) -> Message {
    let octets = match address::<F>() {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    let destination = DefaultNla::new(DESTINATIONS[F::INDEX as usize], octets);
    let ports = [
        DefaultNla::new(PROTOCOL, vec![protocol]),
        DefaultNla::new(DESTINATION_PORT, 80_u16.to_be_bytes().to_vec()),
    ];
    let state = nest(TCP_DETAILS, &[DefaultNla::new(TCP_STATE, vec![state])]);
    let attributes = [
        nest(ORIGINAL, &[nest(ADDRESSES, &[destination]), nest(PORTS, &ports)]),
        DefaultNla::new(STATUS, status.to_be_bytes().to_vec()),
        nest(DETAILS, &[state]),
    ];
    Message::request(GET, number::<F>(), &attributes)
}

fn a_translated_connection_is_told_by_where_it_was_to_go<F: Family>() {
    for protocol in [TCP, SCTP] {
        // `IPS_SEEN_REPLY`, `IPS_ASSURED` and `IPS_CONFIRMED` are set as well.
        let told = destination::<F>(&connection::<F>(protocol, TRANSLATED | 0xe, ESTABLISHED));
        let to = F::Addr::from_ip(address::<F>()).unwrap();
        assert_eq!(told.unwrap(), Some((to, Port::new(80), Protocol::new(protocol))));
    }
}

fn what_is_nothing_to_refuse_is_left_out<F: Family>() {
    let not_translated = connection::<F>(TCP, 0xe, ESTABLISHED);
    let ended = ENDED.map(|state| connection::<F>(TCP, TRANSLATED, state));
    let datagrams = connection::<F>(UDP, TRANSLATED, ESTABLISHED);
    for message in ended.into_iter().chain([not_translated, datagrams]) {
        assert_eq!(destination::<F>(&message).unwrap(), None);
    }
}

fn what_lacks_a_part_is_told<F: Family>() {
    let mut message = connection::<F>(TCP, TRANSLATED, ESTABLISHED);
    // The kind of the first attribute within the first one within the first one.
    message.attributes[8] = 77;
    assert!(destination::<F>(&message).is_err());
}
