// SPDX-License-Identifier: Apache-2.0

//! Flows that there are from the beginning.

use std::net::SocketAddr;

use proxy_agent::bpf::clock;
use proxy_common::backend::BackendId;
use proxy_common::clock::Tick;
use proxy_common::flow::{Flow, FlowKey, Hook, Kind, Seen, Tuple};
use proxy_common::{Family, Protocol};

use crate::peers::{address, client, endpoint, port, vip};
use crate::scenario::SERVICE;

/// The entries of so many flows from clients to the first endpoint of the Service.
pub(crate) fn entries<F: Family>(flows: u32) -> impl Iterator<Item = (FlowKey<F>, Flow<F>)> {
    let now = clock::now();
    (0..flows).flat_map(move |number| {
        let own = tuple::<F>(client::<F>(number), vip::<F>(10));
        let translated = tuple::<F>(client::<F>(number), endpoint::<F>(0));
        let request = FlowKey::new(own, Protocol::TCP, Hook::INGRESS);
        let reply = FlowKey::new(translated.reversed(), Protocol::TCP, Hook::EGRESS);
        [
            confirmed(request, translated, Kind(0), now),
            confirmed(reply, own.reversed(), Kind(Kind::REPLY), now),
        ]
    })
}

/// Addresses and ports of packets.
pub(crate) fn tuple<F: Family>(source: SocketAddr, destination: SocketAddr) -> Tuple<F> {
    Tuple {
        source: address::<F>(source),
        destination: address::<F>(destination),
        source_port: port(source),
        destination_port: port(destination),
    }
}

/// An entry of a flow that has just been used.
pub(crate) fn confirmed<F: Family>(
    key: FlowKey<F>,
    to: Tuple<F>,
    kind: Kind,
    now: Tick,
) -> (FlowKey<F>, Flow<F>) {
    let mut flow = Flow {
        tag: 0,
        to,
        service: SERVICE,
        backend: BackendId::FIRST,
        generation: 1,
        last_seen: now,
        proof: 0,
        device: 0,
        client_device: 0,
        mac: [0; 6],
        client_mac: [0; 6],
        kind,
        client_seen: Seen(Seen::ANY | Seen::PROVEN),
        backend_seen: Seen(Seen::ANY),
        way_asked: 0,
        seal: 0,
    };
    flow.label(&key);
    (key, flow)
}
