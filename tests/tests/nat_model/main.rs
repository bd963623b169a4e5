// SPDX-License-Identifier: Apache-2.0

//! The model of the NAT accepts what is right and finds what is wrong.

mod connections;
mod damage;
mod errors;
mod fragments;
mod frames;
mod times;

use std::net::SocketAddr;

use proxy_tests::family::TestFamily;
use proxy_tests::model::{Model, Outcome, Strays, Verdict};
use proxy_tests::packet::Packet;
use proxy_tests::protocol::Protocol;

fn client<F: TestFamily>(port: u16) -> SocketAddr {
    (F::pod(1, 11), port).into()
}

fn backend<F: TestFamily>(host: u8) -> SocketAddr {
    (F::pod(1, host), 8080).into()
}

fn frontend<F: TestFamily>(host: u8) -> SocketAddr {
    (F::cluster_ip(host), 80).into()
}

fn model<F: TestFamily>() -> Model {
    let mut model = Model::new(Strays::Refuse);
    for protocol in Protocol::ALL {
        model.set_backends(protocol, frontend::<F>(1), [backend::<F>(12), backend::<F>(13)]);
    }
    model
}

fn passed(packet: Packet) -> Outcome {
    Outcome { verdict: Verdict::Pass, packet }
}

fn sent_back(mut packet: Packet) -> Outcome {
    let link = packet.link;
    (packet.link.source, packet.link.destination) = (link.destination, link.source);
    Outcome { verdict: Verdict::SendBack, packet }
}

/// What was dropped.
fn dropped(packet: &Packet) -> Outcome {
    Outcome { verdict: Verdict::Drop, packet: packet.clone() }
}
