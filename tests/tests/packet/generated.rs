// SPDX-License-Identifier: Apache-2.0

//! Long conversations of random packets, while Services change: what becomes of each is judged by
//! [`Model`], which shares nothing with the programs.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use fastrand::Rng;
use proxy_agent::reconcile::Rows;
use proxy_agent::reconcile::allocator::REST;
use proxy_tests::both_families;
use proxy_tests::family::IpFamily;
use proxy_tests::model::{self, Model, Strays};
use proxy_tests::packet::{Content, Packet, TcpFlags};
use proxy_tests::protocol::Protocol;

use crate::cluster::Cluster;
use crate::frames::{client, opening, tcp, udp, vip};
use crate::programs::At;
use crate::rig::{Rig, Tabled};

both_families!(random_packets_become_what_the_model_says);

/// Packets of each conversation.
const PACKETS: usize = 1_500;
/// Which of the endpoints serve each Service: all, one, two of which one is that one, none.
const SERVICES: [&[usize]; 4] = [&[0, 1, 2, 3], &[2], &[2, 3], &[]];

/// What a conversation is about.
struct World<F: Tabled> {
    rig: Rig<F>,
    cluster: Cluster<F>,
    model: Model,
    random: Rng,
    /// Two pods on other nodes, and the two clients themselves.
    endpoints: [SocketAddr; 4],
    /// Client ports and endpoint ports that nothing has had yet.
    next_port: u16,
    /// What the programs have made of packets of clients: their replies.
    replies: Vec<Reply>,
}

/// Where a reply comes from and goes to.
#[derive(Clone, Copy)]
struct Reply {
    protocol: Protocol,
    at: At,
    from: SocketAddr,
    to: SocketAddr,
}

impl<F: Tabled> World<F> {
    fn new(seed: u64) -> Result<Self> {
        let host = F::pod(1, 1);
        let mut rig = Rig::new()?;
        rig.set_host_address(host)?;
        let mut model = Model::new(Strays::Refuse);
        model.add_hairpin_source(host);
        let addresses = [F::pod(2, 1), F::pod(2, 2), F::pod(1, 12), F::pod(1, 13)];
        let mut world = Self {
            rig,
            cluster: Cluster::new(Rows { services: 32, slots: 256, backends: 128 }),
            model,
            random: Rng::with_seed(seed),
            endpoints: addresses.map(|address| SocketAddr::new(address, 8_080)),
            next_port: 10_000,
            replies: Vec::new(),
        };
        for changed in 0..world.endpoints.len() {
            world.replace_endpoint(changed)?;
        }
        Ok(world)
    }

    fn fresh_port(&mut self) -> u16 {
        self.next_port += 1;
        self.next_port
    }

    /// An endpoint goes for ever, and another takes its place.
    fn replace_endpoint(&mut self, changed: usize) -> Result<()> {
        let port = self.fresh_port();
        self.endpoints[changed].set_port(port);
        for (host, members) in (1..).zip(SERVICES) {
            let endpoints: Vec<_> = members.iter().map(|member| self.endpoints[*member]).collect();
            for protocol in Protocol::ALL {
                self.cluster.put(vip::<F>(host), protocol, &endpoints);
                self.model.set_backends(protocol, vip::<F>(host), endpoints.iter().copied());
            }
        }
        // Long enough for rows to be used again.
        self.cluster.now += REST;
        self.cluster.write(&mut self.rig.tables)
    }

    /// A packet of any kind between two sockets.
    fn packet(&mut self, protocol: Protocol, from: SocketAddr, to: SocketAddr) -> Packet {
        let payload: Vec<u8> = (0..self.random.usize(..20)).map(|_| self.random.u8(..)).collect();
        let mut packet = match protocol {
            Protocol::Udp => udp(from, to, &payload),
            Protocol::Tcp => match self.random.u8(..4) {
                0 | 1 => opening(protocol, from, to),
                2 => tcp(from, to, TcpFlags::ACK).payload(&payload),
                _ => tcp(from, to, TcpFlags::ACK | TcpFlags::PSH).payload(&payload),
            },
        };
        if self.random.u8(..8) == 0 {
            packet = packet.with_options();
        }
        match &mut packet.content {
            Content::Udp(udp) if F::FAMILY == IpFamily::V4 => udp.checksum = self.random.bool(),
            _ => {}
        }
        match self.random.u8(..40) {
            0 => packet.link.vlan = Some(7),
            1 => packet.authentication = true,
            2 if F::FAMILY == IpFamily::V6 => packet.segments_left = Some(1),
            _ => {}
        }
        packet
    }

    /// A client sends something, to a Service or to an endpoint itself.
    fn request(&mut self) -> Result<()> {
        let protocol = self.random.choice(Protocol::ALL).context("a protocol")?;
        let port = match self.random.u16(..16) {
            0 => self.fresh_port(),
            few => 40_000 + few % 3,
        };
        let from = client::<F>(self.random.u8(12..=13), port);
        let mut to = vip::<F>(self.random.u8(1..=4));
        match self.random.u8(..10) {
            0 => to.set_port(81),
            1 | 2 => to = self.random.choice(self.endpoints).context("an endpoint")?,
            _ => {}
        }
        if to.ip() == from.ip() {
            // It would not leave the pod.
            return Ok(());
        }
        let sent = self.packet(protocol, from, to);
        let outcome = self.judge(At::Ingress, &sent)?;
        let reached = outcome.packet.destination_socket().zip(outcome.packet.source_socket());
        if let Some((from, to)) = reached
            && self.endpoints.contains(&from)
        {
            let at = if from.ip() == sent.source { At::Ingress } else { At::Egress };
            self.replies.push(Reply { protocol, at, from, to });
        }
        Ok(())
    }

    /// A backend says something to whom it has heard of.
    fn reply(&mut self) -> Result<()> {
        let latest = self.replies.len().saturating_sub(60);
        let Some(reply) = self.random.choice(&self.replies[latest..]).copied() else {
            return Ok(());
        };
        let sent = self.packet(reply.protocol, reply.from, reply.to);
        self.judge(reply.at, &sent).map(drop)
    }

    /// Runs a program and has the model judge it.
    fn judge(&mut self, at: At, sent: &Packet) -> Result<model::Outcome> {
        let outcome = self.rig.programs.run(at, &sent.build()?)?.for_model()?;
        match at {
            At::Ingress => self.model.from_client(sent, &outcome)?,
            At::Egress => self.model.to_client(sent, &outcome)?,
            At::Guard | At::Notice => anyhow::bail!("not a hook of a client's device"),
        }
        Ok(outcome)
    }
}

fn random_packets_become_what_the_model_says<F: Tabled>() -> Result<()> {
    for seed in 1..=2 {
        let mut world = World::<F>::new(seed)?;
        for number in 0..PACKETS {
            let step = match world.random.u8(..100) {
                0..=1 => {
                    let changed = world.random.usize(..world.endpoints.len());
                    world.replace_endpoint(changed)
                }
                2..=30 => world.reply(),
                _ => world.request(),
            };
            step.with_context(|| format!("seed {seed}, step {number}"))?;
        }
    }
    Ok(())
}
