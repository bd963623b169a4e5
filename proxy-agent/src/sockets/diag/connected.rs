// SPDX-License-Identifier: Apache-2.0
//! A connected socket, as the kernel tells of it.

use std::net::IpAddr;

use netlink_packet_sock_diag::inet::{InetResponseHeader, SocketId};
use proxy_common::{
    Port,
    backend::BackendId,
    family::V6Addr,
    socket::{SocketAddress, Translation},
};

/// A connected UDP socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connected {
    family: u8,
    id: SocketId,
}

impl Connected {
    /// What the kernel has named the socket, once for all times: what `SO_COOKIE` and
    /// `bpf_get_socket_cookie` say.
    #[must_use]
    pub fn cookie(&self) -> u64 {
        // Two words, the lower one first whatever the machine's order (`sock_diag_save_cookie`).
        let words = self.id.cookie.as_chunks::<4>().0;
        words
            .iter()
            .rev()
            .fold(0, |cookie, word| cookie << 32 | u64::from(u32::from_ne_bytes(*word)))
    }

    /// What the socket is connected to. Not what the process named, if that was translated.
    #[must_use]
    pub fn peer(&self) -> SocketAddress {
        let address = match self.id.destination_address {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        };
        SocketAddress::new(V6Addr::from(address), Port::new(self.id.destination_port))
    }

    /// Whether the socket is connected to the backend of a translation. If not, the translation is
    /// of a connection before this one, and the socket must not be touched on account of it.
    #[must_use]
    pub fn was_given(&self, translation: &Translation) -> bool {
        translation.backend != BackendId::NONE && translation.given == self.peer()
    }

    /// The socket's own family: an IPv6 socket may be connected to a mapped IPv4 address.
    pub(super) fn family(&self) -> u8 {
        self.family
    }

    /// All that the kernel wants to know to find the socket, the device that it is bound to
    /// included.
    pub(super) fn id(&self) -> &SocketId {
        &self.id
    }
}

impl From<InetResponseHeader> for Connected {
    fn from(header: InetResponseHeader) -> Self {
        Self { family: header.family, id: header.socket_id }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    fn connected(peer: IpAddr) -> Connected {
        let id = SocketId {
            destination_address: peer,
            destination_port: 53,
            cookie: if cfg!(target_endian = "big") {
                [0, 0, 0, 1, 0, 0, 0, 2]
            } else {
                [1, 0, 0, 0, 2, 0, 0, 0]
            },
            ..SocketId::new_v4()
        };
        Connected { family: 0, id }
    }

    fn given(address: Ipv6Addr, port: u16) -> Translation {
        let given = SocketAddress::new(address.into(), Port::new(port));
        Translation { given, backend: BackendId::FIRST, ..Translation::default() }
    }

    #[test]
    fn a_cookie_has_its_lower_word_first() {
        assert_eq!(connected(Ipv4Addr::LOCALHOST.into()).cookie(), 0x2_0000_0001);
    }

    #[test]
    fn an_ipv4_peer_is_the_same_to_sockets_of_both_families() {
        let mapped = Ipv4Addr::LOCALHOST.to_ipv6_mapped();
        for peer in [Ipv4Addr::LOCALHOST.into(), mapped.into()] {
            assert!(connected(peer).was_given(&given(mapped, 53)));
        }
        assert!(!connected(Ipv6Addr::LOCALHOST.into()).was_given(&given(mapped, 53)));
    }

    #[test]
    fn another_peer_was_not_given() {
        let socket = connected(Ipv6Addr::LOCALHOST.into());
        assert!(socket.was_given(&given(Ipv6Addr::LOCALHOST, 53)));
        assert!(!socket.was_given(&given(Ipv6Addr::LOCALHOST, 54)));
        let direct = Translation { backend: BackendId::NONE, ..given(Ipv6Addr::LOCALHOST, 53) };
        assert!(!socket.was_given(&direct));
    }
}
