// SPDX-License-Identifier: Apache-2.0

//! A connection of a client to a frontend, played packet by packet; each is
//! compared with what it must leave as.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use proxy_common::Port;
use proxy_common::flow::{FlowKey, Hook, Tuple};
use proxy_tests::packet::Packet;
use proxy_tests::protocol::Protocol;

use crate::frames::{answer, opening, proof};
use crate::programs::{Programs, Verdict};
use crate::rig::{Rig, Tabled, address, number};

/// A connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Connection {
    pub(crate) protocol: Protocol,
    /// The client, as it sees itself.
    pub(crate) client: SocketAddr,
    /// The client, as the backend sees it.
    pub(crate) source: SocketAddr,
    /// What the client dialled.
    pub(crate) frontend: SocketAddr,
    /// Who answers.
    pub(crate) backend: SocketAddr,
}

impl Connection {
    /// Sends the first packet and sees where it goes.
    pub(crate) fn open(
        programs: &Programs,
        protocol: Protocol,
        client: SocketAddr,
        frontend: SocketAddr,
    ) -> Result<Self> {
        let sent = opening(protocol, client, frontend);
        let outcome = programs.ingress(&sent)?;
        let packet = outcome.packet(Verdict::Pass)?;
        let source = packet.source_socket().context("ports")?;
        let backend = packet.destination_socket().context("ports")?;
        outcome.is(Verdict::Pass, &sent.from(source).to(backend))?;
        Ok(Self { protocol, client, source, frontend, backend })
    }

    /// The same up to and with the packet that confirms it.
    pub(crate) fn establish(
        programs: &Programs,
        protocol: Protocol,
        client: SocketAddr,
        frontend: SocketAddr,
    ) -> Result<Self> {
        let connection = Self::open(programs, protocol, client, frontend)?;
        connection.answer(programs)?;
        connection.prove(programs)?;
        Ok(connection)
    }

    /// The packet that opened it, once more.
    pub(crate) fn repeat(&self, programs: &Programs) -> Result<()> {
        self.request(programs, &opening(self.protocol, self.client, self.frontend))
    }

    /// The backend's first packet.
    pub(crate) fn answer(&self, programs: &Programs) -> Result<()> {
        self.reply(programs, &answer(self.protocol, self.backend, self.source))
    }

    /// The client's packet after that.
    pub(crate) fn prove(&self, programs: &Programs) -> Result<()> {
        self.request(programs, &proof(self.protocol, self.client, self.frontend))
    }

    /// A packet of the client's must reach the backend.
    pub(crate) fn request(&self, programs: &Programs, packet: &Packet) -> Result<()> {
        let expected = packet.clone().from(self.source).to(self.backend);
        programs.ingress(packet)?.is(Verdict::Pass, &expected)
    }

    /// A packet of the backend's must reach the client.
    pub(crate) fn reply(&self, programs: &Programs, packet: &Packet) -> Result<()> {
        let expected = packet.clone().from(self.frontend).to(self.client);
        programs.egress(packet)?.is(Verdict::Pass, &expected)
    }

    /// The key of its forward entry.
    pub(crate) fn key<F: Tabled>(&self) -> FlowKey<F::Abi> {
        let tuple = tuple::<F>(self.client, self.frontend);
        FlowKey::new(tuple, number(self.protocol), Hook::INGRESS)
    }

    /// The key of its reply entry.
    pub(crate) fn reply_key<F: Tabled>(&self) -> FlowKey<F::Abi> {
        let tuple = tuple::<F>(self.backend, self.source);
        FlowKey::new(tuple, number(self.protocol), Hook::EGRESS)
    }

    /// Whether both its entries are those of a confirmed flow; they must agree.
    #[track_caller]
    pub(crate) fn is_confirmed<F: Tabled>(&self, rig: &Rig<F>) -> Result<bool> {
        let is_confirmed = |key: &_| {
            let entry = rig.tables.flow(key)?;
            anyhow::Ok(entry.is_some_and(|entry| entry.is_confirmed()))
        };
        let forward = is_confirmed(&self.key::<F>())?;
        let reply = is_confirmed(&self.reply_key::<F>())?;
        assert_eq!(forward, reply, "one entry is confirmed, the other is not");
        Ok(forward)
    }
}

/// Addresses and ports as the programs have them.
pub(crate) fn tuple<F: Tabled>(source: SocketAddr, destination: SocketAddr) -> Tuple<F::Abi> {
    Tuple {
        source: address::<F>(source),
        destination: address::<F>(destination),
        source_port: Port::new(source.port()),
        destination_port: Port::new(destination.port()),
    }
}
