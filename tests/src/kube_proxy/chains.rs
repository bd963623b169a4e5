// SPDX-License-Identifier: Apache-2.0
//! The names of chains: kube-proxy makes them of hashes, so that they fit and stay the same.

use std::net::SocketAddr;

use data_encoding::BASE32;
use sha2::{Digest as _, Sha256};

use super::service::ServicePort;

/// How many letters of a hash are in the names of chains of iptables, which hold 28 in all.
const IPTABLES: usize = 16;
/// The same with nftables, where the rest of the name is for people.
const NFTABLES: usize = 8;

/// The first letters, of base 32 (RFC 4648, 6), of the SHA-256 of a text.
fn hash(text: &str, letters: usize) -> String {
    let mut encoded = BASE32.encode(&Sha256::digest(text));
    encoded.truncate(letters);
    encoded
}

/// The chain of nftables that chooses an endpoint.
pub(super) fn nftables(port: &ServicePort) -> String {
    let ServicePort { namespace, service, name, .. } = port;
    let readable = format!("{namespace}/{service}/{}/{name}", port.protocol());
    format!("service-{}-{readable}", hash(&readable, NFTABLES))
}

/// The chain of iptables that chooses an endpoint.
pub(super) fn iptables(port: &ServicePort) -> String {
    format!("KUBE-SVC-{}", hash(&format!("{port}{}", port.protocol()), IPTABLES))
}

/// The chain of iptables that leads to an endpoint.
pub(super) fn iptables_endpoint(port: &ServicePort, endpoint: SocketAddr) -> String {
    format!("KUBE-SEP-{}", hash(&format!("{port}{}{endpoint}", port.protocol()), IPTABLES))
}
