// SPDX-License-Identifier: Apache-2.0

//! The packet builder and decoder, judged by what the kernel sends.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use proxy_tests::both_families;
use proxy_tests::family::{IpFamily, TestFamily};
use proxy_tests::packet::{Content, Fragment, Packet, Quoted, TcpFlags, assert_checksums, crc32c};
use proxy_tests::protocol::Protocol;

/// What the kernel sends over a veth without offload, by family: a datagram,
/// the ICMP error about it, a SYN, the RST that answers it.
const KERNEL_V4: [&str; 4] = [
    "9a8394160d2e3e5ec150571c080045000029f4ce400040112df50af4010c0af4010dc91c14e90015f8856865\
     6c6c6f20736978666f7572",
    "3e5ec150571c9a8394160d2e080045c00045f45b000040016d9c0af4010d0af4010c03031524000000004500\
     0029f4ce400040112df50af4010c0af4010dc91c14e90015f88568656c6c6f20736978666f7572",
    "9a8394160d2e3e5ec150571c08004500003c594640004006c9750af4010c0af4010d8c0a0051f43dabff0000\
     0000a002faf06fc30000020405b40402080aee70aa3e000000000103030a",
    "3e5ec150571c9a8394160d2e08004500002800004000400622d00af4010d0af4010c00518c0a00000000f43d\
     ac00501400006b360000",
];

const KERNEL_V6: [&str; 4] = [
    "9a8394160d2e3e5ec150571c86dd600e285b00151140fd000010024400010000000000000012fd0000100244\
     000100000000000000139c5a14e900153e7868656c6c6f20736978666f7572",
    "3e5ec150571c9a8394160d2e86dd6003583300453a40fd000010024400010000000000000013fd0000100244\
     000100000000000000120104661300000000600e285b00151140fd000010024400010000000000000012fd00\
     00100244000100000000000000139c5a14e900153e7868656c6c6f20736978666f7572",
    "9a8394160d2e3e5ec150571c86dd6007514200280640fd000010024400010000000000000012fd0000100244\
     00010000000000000013a41a00514692c24a00000000a002fd2054d60000020405a00402080a6374e68c0000\
     00000103030a",
    "3e5ec150571c9a8394160d2e86dd600d96a700140640fd000010024400010000000000000013fd0000100244\
     000100000000000000120051a41a000000004692c24b5014000003b70000",
];

both_families!(
    frames_of_the_kernel_are_read_and_written,
    wrong_checksums_are_found,
    what_is_built_is_read_back,
    payload_that_sums_to_zero_has_a_checksum,
    addresses_and_ports_can_be_replaced,
    errors_quote_what_they_are_about,
);

fn kernel_frames<F: TestFamily>() -> Result<Vec<Vec<u8>>> {
    let frames = match F::FAMILY {
        IpFamily::V4 => KERNEL_V4,
        IpFamily::V6 => KERNEL_V6,
    };
    frames.iter().map(|hex| from_hex(hex)).collect()
}

fn from_hex(hex: &str) -> Result<Vec<u8>> {
    let digits: Option<Vec<u32>> = hex.chars().map(|digit| digit.to_digit(16)).collect();
    let digits = digits.context("not hexadecimal")?;
    let bytes = digits.chunks_exact(2).map(|pair| u8::try_from(pair[0] * 16 + pair[1]));
    Ok(bytes.collect::<Result<_, _>>()?)
}

fn client<F: TestFamily>() -> SocketAddr {
    (F::pod(1, 12), 40_000).into()
}

fn server<F: TestFamily>() -> SocketAddr {
    (F::pod(1, 13), 5353).into()
}

fn frames_of_the_kernel_are_read_and_written<F: TestFamily>() -> Result<()> {
    let frames = kernel_frames::<F>()?;
    let packets: Result<Vec<_>> = frames.iter().map(|frame| Packet::decode(frame)).collect();
    let packets = packets?;
    for (packet, frame) in packets.iter().zip(&frames) {
        assert_eq!(&packet.build()?, frame);
    }
    let [datagram, error, syn, reset] = packets.as_slice() else { panic!("{packets:?}") };
    assert_eq!(datagram.source, F::pod(1, 12));
    assert_eq!(datagram.destination_socket(), Some(server::<F>()));
    assert!(matches!(&datagram.content, Content::Udp(udp) if udp.payload == b"hello sixfour"));
    let Content::Icmp(message) = &error.content else { panic!("{error:?}") };
    assert!(message.is_port_unreachable(F::FAMILY));
    let quoted = message.quoted()?;
    assert_eq!(Some(quoted.source), datagram.source_socket());
    assert_eq!(Some(quoted.destination), datagram.destination_socket());
    assert_eq!(syn.protocol(), Some(Protocol::Tcp));
    assert!(matches!(&syn.content, Content::Tcp(tcp) if tcp.flags == TcpFlags::SYN));
    let answer = TcpFlags::RST | TcpFlags::ACK;
    assert!(matches!(&reset.content, Content::Tcp(tcp) if tcp.flags == answer));
    Ok(())
}

fn wrong_checksums_are_found<F: TestFamily>() -> Result<()> {
    for frame in kernel_frames::<F>()? {
        assert_checksums(&frame);
        // The last byte is covered by the inner checksum, the first address
        // by all.
        for position in [frame.len() - 1, 14 + 12] {
            let mut wrong = frame.clone();
            wrong[position] ^= 0x10;
            let error = Packet::decode(&wrong).expect_err("it is wrong").to_string();
            assert!(error.contains("checksum"), "{error}");
        }
    }
    Ok(())
}

fn what_is_built_is_read_back<F: TestFamily>() -> Result<()> {
    let (source, destination) = (client::<F>(), server::<F>());
    let plain = [
        Packet::opening(Protocol::Tcp, source, destination),
        Packet::opening(Protocol::Udp, source, destination).payload(b"odd"),
        Packet::opening(Protocol::Sctp, source, destination).payload(b"odd"),
        Packet::tcp(source, destination, TcpFlags::ACK | TcpFlags::PSH)
            .numbers(7, 8)
            .payload(&[0xa5; 1000]),
        Packet::new(
            source.ip(),
            destination.ip(),
            Content::Other { protocol: 254, payload: vec![1, 2, 3, 4, 5] },
        ),
    ];
    for plain in plain {
        let mut tagged = plain.clone();
        tagged.link.vlan = Some(7);
        let mut authenticated = plain.clone();
        authenticated.authentication = true;
        let mut marked = plain.clone();
        (marked.hop_limit, marked.traffic_class) = (1, 0xb9);
        let mut routed = plain.clone();
        routed.segments_left = (F::FAMILY == IpFamily::V6).then_some(1);
        let mut fragment = plain.clone();
        fragment.fragment = Some(Fragment { offset: 185, more: true });
        fragment.content = Content::Other { protocol: 17, payload: vec![9; 16] };
        let longer = plain.clone().with_options();
        for packet in [plain, tagged, authenticated, marked, routed, fragment, longer] {
            assert_eq!(Packet::decode(&packet.build()?)?, packet);
        }
    }
    Ok(())
}

fn payload_that_sums_to_zero_has_a_checksum<F: TestFamily>() -> Result<()> {
    let packet = Packet::udp(client::<F>(), server::<F>(), &[0, 0]);
    let frame = packet.build()?;
    let checksum_at = frame.len() - 4;
    // With its own checksum as payload the sum is zero, which is sent as
    // ones: zero means that there is none.
    let zero = packet.payload(&frame[checksum_at..checksum_at + 2]);
    let frame = zero.build()?;
    assert_eq!(frame[checksum_at..checksum_at + 2], [0xff, 0xff]);
    assert_eq!(Packet::decode(&frame)?, zero);
    let mut without = zero;
    let Content::Udp(udp) = &mut without.content else { panic!("{without:?}") };
    udp.checksum = false;
    assert_eq!(without.build().is_ok(), F::FAMILY == IpFamily::V4);
    Ok(())
}

fn addresses_and_ports_can_be_replaced<F: TestFamily>() -> Result<()> {
    let frontend = (F::cluster_ip(1), 80).into();
    for protocol in Protocol::ALL {
        let sent = Packet::opening(protocol, client::<F>(), frontend);
        let translated = sent.clone().to(server::<F>());
        assert_eq!(translated.destination_socket(), Some(server::<F>()));
        assert_eq!(translated.source_socket(), Some(client::<F>()));
        assert_eq!(translated.clone().to(frontend), sent);
        assert_eq!(translated.clone().from(frontend).source_socket(), Some(frontend));
        assert_eq!(Packet::decode(&translated.build()?)?, translated);
    }
    Ok(())
}

fn errors_quote_what_they_are_about<F: TestFamily>() -> Result<()> {
    let long = Packet::udp(client::<F>(), server::<F>(), &[7; 1400]);
    let error = Packet::port_unreachable(F::cluster_ip(1), &long)?;
    let read = Packet::decode(&error.build()?)?;
    assert_eq!(read, error);
    let Content::Icmp(message) = read.content else { panic!("{read:?}") };
    assert!(message.is_port_unreachable(F::FAMILY));
    let expected = Quoted { source: client::<F>(), destination: server::<F>(), protocol: 17 };
    assert_eq!(message.quoted()?, expected);
    Ok(())
}

/// The check value of the catalogue of CRCs, and an example of RFC 3720 appendix B.4.
#[test]
fn the_checksum_of_sctp_is_that_of_iscsi() {
    assert_eq!(crc32c(b"123456789"), 0xe306_9283_u32.to_le_bytes());
    assert_eq!(crc32c(&[0; 32]), [0xaa, 0x36, 0x91, 0x8a]);
}
