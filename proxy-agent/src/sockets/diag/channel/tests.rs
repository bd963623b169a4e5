// SPDX-License-Identifier: Apache-2.0
//! Requests and answers, byte by byte.

use netlink_packet_core::{NLM_F_DUMP, NLMSG_DONE, NLMSG_ERROR, NLMSG_OVERRUN};
use netlink_packet_sock_diag::{
    SockDiagDestroy,
    constants::{AF_INET6, SOCK_DESTROY, SOCK_DIAG_BY_FAMILY},
    inet::{ExtensionFlags, InetRequest, SocketId, StateFlags},
};
use rustix::net::socketpair;

use super::*;

/// A channel, and the kernel's end of it, which says what it is told to.
fn channel() -> (Channel, OwnedFd) {
    let (kind, flags) = (SocketType::DGRAM, SocketFlags::CLOEXEC);
    let (socket, kernel) = socketpair(AddressFamily::UNIX, kind, flags, None).expect("two sockets");
    let patience = Some(Duration::from_millis(50));
    set_socket_timeout(&socket, Timeout::Recv, patience).expect("a time-out");
    (Channel { socket, buffer: vec![0; 4096], sequence: 6 }, kernel)
}

fn request() -> SockDiagMessage {
    SockDiagMessage::InetRequest(InetRequest {
        family: AF_INET6,
        protocol: 17,
        extensions: ExtensionFlags::empty(),
        states: StateFlags::ESTABLISHED,
        socket_id: SocketId { source_port: 0x1234, cookie: [7; 8], ..SocketId::new_v6() },
    })
}

fn message(kind: u16, flags: u16, sequence: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(16 + payload.len()).expect("short");
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend([kind, flags].iter().flat_map(|half| half.to_ne_bytes()));
    bytes.extend([sequence, 0].iter().flat_map(|word| word.to_ne_bytes()));
    bytes.extend(payload);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// A socket with this source port, as `inet_diag_msg` with an attribute (`INET_DIAG_SHUTDOWN`).
fn socket(port: u16) -> Vec<u8> {
    let mut payload = vec![AF_INET6, 1, 0, 0];
    payload.extend(port.to_be_bytes());
    payload.resize(72, 0);
    payload.extend(5_u16.to_ne_bytes());
    payload.extend(8_u16.to_ne_bytes());
    payload.push(0);
    payload
}

fn done(code: i32, sequence: u32) -> Vec<u8> {
    message(NLMSG_DONE, 0, sequence, &code.to_ne_bytes())
}

/// What comes of datagrams: the answer, and the sockets' ports.
fn answered(datagrams: &[Vec<u8>]) -> (Result<Answer, Error>, Vec<u16>) {
    let (mut channel, kernel) = channel();
    for datagram in datagrams {
        let _ = send(&kernel, datagram, SendFlags::empty()).expect("sent");
    }
    let mut ports = Vec::new();
    let each = |header: InetResponseHeader| ports.push(header.socket_id.source_port);
    let answer = channel.exchange(NetlinkMessage::from(request()), NLM_F_DUMP, each);
    (answer, ports)
}

fn asked<R: NetlinkSerializable>(request: NetlinkMessage<R>, flags: u16) -> Vec<u8> {
    let (mut channel, kernel) = channel();
    let answer = channel.exchange(request, flags, |_| {});
    assert!(matches!(answer, Err(Error::Silent)), "{answer:?}");
    let mut bytes = vec![0; 4096];
    let (length, _) = recv(&kernel, &mut bytes[..], RecvFlags::empty()).expect("a request");
    bytes.truncate(length);
    bytes
}

#[test]
fn requests_are_as_the_kernel_reads_them() {
    let mut payload = vec![AF_INET6, 17, 0, 0];
    payload.extend((1_u32 << 1).to_ne_bytes());
    payload.extend([0x12, 0x34]);
    payload.resize(48, 0);
    payload.extend([7; 8]);
    let flags = NLM_F_REQUEST | NLM_F_DUMP;
    let expected = message(SOCK_DIAG_BY_FAMILY, flags, 7, &payload);
    assert_eq!(asked(NetlinkMessage::from(request()), NLM_F_DUMP), expected);
    let expected = message(SOCK_DESTROY, NLM_F_REQUEST, 7, &payload);
    assert_eq!(asked(NetlinkMessage::from(SockDiagDestroy::new(request())), 0), expected);
}

#[test]
fn an_answer_may_come_in_several_datagrams() {
    let kind = SOCK_DIAG_BY_FAMILY;
    let first = [message(kind, 2, 7, &socket(1)), message(kind, 2, 7, &socket(2))].concat();
    let rest = [message(kind, 2, 7, &socket(3)), done(0, 7)].concat();
    let (answer, ports) = answered(&[first, rest]);
    assert_eq!(answer.expect("complete"), Answer::default());
    assert_eq!(ports, [1, 2, 3]);
}

#[test]
fn what_answers_another_request_is_passed_over() {
    let before = [message(SOCK_DIAG_BY_FAMILY, 2, 6, &socket(1)), done(-2, 6)].concat();
    let (answer, ports) = answered(&[before, done(0, 7)]);
    assert_eq!(answer.expect("complete"), Answer::default());
    assert!(ports.is_empty());
}

#[test]
fn a_torn_answer_is_said_to_be_torn() {
    let torn = message(SOCK_DIAG_BY_FAMILY, NLM_F_DUMP_INTR, 7, &socket(1));
    for torn in [torn, message(NLMSG_OVERRUN, 0, 7, &[])] {
        assert!(answered(&[torn, done(0, 7)]).0.expect("complete").torn);
    }
}

#[test]
fn errors_are_told_apart() {
    let refused = message(NLMSG_ERROR, 0, 7, &[(-2_i32).to_ne_bytes(), [0; 4]].concat());
    for refused in [refused, done(-2, 7)] {
        let (answer, _) = answered(&[refused]);
        assert!(matches!(answer, Err(Error::Refused(Errno::NOENT))), "{answer:?}");
    }
    let accepted = message(NLMSG_ERROR, 0, 7, &[0; 20]);
    assert_eq!(answered(&[accepted]).0.expect("accepted"), Answer::default());
    let (answer, _) = answered(&[vec![0; 4100]]);
    assert!(matches!(answer, Err(Error::Truncated(4100))), "{answer:?}");
    let (answer, _) = answered(&[]);
    assert!(matches!(answer, Err(Error::Silent)), "{answer:?}");
}

#[test]
fn whatever_is_cut_off_cannot_be_read() {
    let whole = message(SOCK_DIAG_BY_FAMILY, 2, 7, &socket(1));
    for length in 1..16 + socket(1).len() {
        let (answer, ports) = answered(&[whole[..length].to_vec()]);
        assert!(matches!(answer, Err(Error::Malformed(_))), "{length}: {answer:?}");
        assert!(ports.is_empty());
    }
    // The same, where the length of the message says so too, and within its attribute.
    for length in (0..72).chain(73..76) {
        let cut = message(SOCK_DIAG_BY_FAMILY, 2, 7, &socket(1)[..length]);
        let (answer, _) = answered(&[cut]);
        assert!(matches!(answer, Err(Error::Malformed(_))), "{length}: {answer:?}");
    }
}

#[test]
fn lengths_that_cannot_be_end_the_reading() {
    for length in [0_u32, 15, u32::MAX] {
        let mut bytes = message(SOCK_DIAG_BY_FAMILY, 2, 7, &socket(1));
        bytes[..4].copy_from_slice(&length.to_ne_bytes());
        assert_eq!(messages(&bytes).filter(Result::is_err).count(), 1);
        assert_eq!(messages(&bytes).count(), 1);
    }
}
