// SPDX-License-Identifier: Apache-2.0

//! What the model is told, and what it can be asked.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use super::flows::{BEGINNING, SECOND};
use super::{FlowKey, Frontend, Model, Strays};
use crate::protocol::Protocol;

/// Where a flow leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The client, as the backend sees it.
    pub source: SocketAddr,
    /// Who answers.
    pub backend: SocketAddr,
    /// Whether the backend is the client's own pod.
    pub is_hairpin: bool,
}

impl Model {
    /// A model without frontends.
    #[must_use]
    pub const fn new(strays: Strays) -> Self {
        Self {
            frontends: BTreeMap::new(),
            flows: BTreeMap::new(),
            firsts: BTreeMap::new(),
            strays,
            hairpin_sources: BTreeSet::new(),
            is_uplink: false,
            source_ports: 0..=u16::MAX,
            neighbours: BTreeMap::new(),
            device: None,
            service_cidrs: Vec::new(),
            now: BEGINNING,
            next_number: 0,
            counts: BTreeMap::new(),
        }
    }

    /// Sets or replaces the backends of a frontend.
    pub fn set_backends(
        &mut self,
        protocol: Protocol,
        frontend: SocketAddr,
        backends: impl IntoIterator<Item = SocketAddr>,
    ) {
        let backends: BTreeSet<_> = backends.into_iter().collect();
        self.set_frontend(protocol, frontend, backends.clone(), backends, false);
    }

    /// The same under a Local traffic policy: of the backends that serve, new flows get those on
    /// this node; if there are none, they are dropped.
    pub fn set_local_backends(
        &mut self,
        protocol: Protocol,
        frontend: SocketAddr,
        serving: impl IntoIterator<Item = SocketAddr>,
        local: impl IntoIterator<Item = SocketAddr>,
    ) {
        let (serving, local) = (serving.into_iter().collect(), local.into_iter().collect());
        self.set_frontend(protocol, frontend, serving, local, true);
    }

    fn set_frontend(
        &mut self,
        protocol: Protocol,
        frontend: SocketAddr,
        serving: BTreeSet<SocketAddr>,
        eligible: BTreeSet<SocketAddr>,
        is_local: bool,
    ) {
        let former = self.frontends.remove(&(protocol, frontend)).unwrap_or_default();
        let mut numbered = BTreeMap::new();
        for backend in serving {
            let number = former.serving.get(&backend).copied().unwrap_or_else(|| {
                self.next_number += 1;
                self.next_number
            });
            let _ = numbered.insert(backend, number);
        }
        let known =
            Frontend { is_local: is_local && !numbered.is_empty(), serving: numbered, eligible };
        let _ = self.frontends.insert((protocol, frontend), known);
    }

    /// Removes a frontend; its flows stay.
    pub fn remove_frontend(&mut self, protocol: Protocol, frontend: SocketAddr) {
        drop(self.frontends.remove(&(protocol, frontend)));
    }

    /// Adds an address that a pod sees as the client when the client is the
    /// pod itself.
    pub fn add_hairpin_source(&mut self, address: IpAddr) {
        let _ = self.hairpin_sources.insert(address);
    }

    /// Takes them all away: pods cannot be their own backends.
    pub fn clear_hairpin_sources(&mut self) {
        self.hairpin_sources.clear();
    }

    /// Makes the clients outside ones, at an uplink whose driver handles their packets, and all
    /// backends ones elsewhere: they see this address, as a pod that is its own backend sees the
    /// host's. Packets in both directions leave by another device, a hop older.
    pub fn set_uplink(&mut self, node: IpAddr) {
        self.is_uplink = true;
        self.add_hairpin_source(node);
    }

    /// Sets the ports that sources may get instead of their own; any without this.
    pub fn set_source_ports(&mut self, ports: RangeInclusive<u16>) {
        self.source_ports = ports;
    }

    /// Sets the hardware address of a backend on the client's own bridge:
    /// packets to it are addressed to it.
    pub fn add_bridge_neighbour(&mut self, backend: IpAddr, mac: [u8; 6]) {
        let _ = self.neighbours.insert(backend, mac);
    }

    /// Sets the hardware address of the client's device, and that of the bridge that it is a port
    /// of. Without this, every frame to an address that is no group's is for the node.
    pub const fn set_device(&mut self, mac: [u8; 6], bridge: Option<[u8; 6]>) {
        self.device = Some((mac, bridge));
    }

    /// Guards the addresses that share the first bits of this one.
    pub fn add_service_cidr(&mut self, address: IpAddr, length: u8) {
        self.service_cidrs.push((address, length));
    }

    /// Guards nothing any more.
    pub fn clear_service_cidrs(&mut self) {
        self.service_cidrs.clear();
    }

    /// Says what time it is, since a moment that stays the same.
    pub fn set_time(&mut self, now: Duration) {
        self.now = BEGINNING + now;
    }

    /// Makes a flow one that nothing has been heard of for so many seconds.
    pub fn fall_silent(
        &mut self,
        protocol: Protocol,
        client: SocketAddr,
        frontend: SocketAddr,
        seconds: u32,
    ) {
        let heard = self.long_ago(seconds);
        if let Some(flow) = self.flows.get_mut(&FlowKey { protocol, client, frontend }) {
            flow.heard = heard;
        }
    }

    /// Makes all first fragments ones that came so many seconds ago.
    pub fn age_fragments(&mut self, seconds: u32) {
        let heard = self.long_ago(seconds);
        let _: bool = self.forget_what_is_over(false);
        for first in self.firsts.values_mut() {
            first.heard = heard;
        }
    }

    fn long_ago(&self, seconds: u32) -> Duration {
        self.now.saturating_sub(SECOND * seconds)
    }

    /// Forgets a flow, as after its time-out.
    pub fn expire(&mut self, protocol: Protocol, client: SocketAddr, frontend: SocketAddr) {
        let _ = self.flows.remove(&FlowKey { protocol, client, frontend });
    }

    /// The backend that the flow of a client has.
    #[must_use]
    pub fn backend(
        &self,
        protocol: Protocol,
        client: SocketAddr,
        frontend: SocketAddr,
    ) -> Option<SocketAddr> {
        self.route(protocol, client, frontend).map(|route| route.backend)
    }

    /// Where the flow of a client leads.
    #[must_use]
    pub fn route(
        &self,
        protocol: Protocol,
        client: SocketAddr,
        frontend: SocketAddr,
    ) -> Option<Route> {
        self.flows.get(&FlowKey { protocol, client, frontend }).map(|flow| Route {
            source: flow.source,
            backend: flow.backend,
            is_hairpin: flow.is_hairpin,
        })
    }

    /// How often what has a counter has happened, by the counter's name.
    #[must_use]
    pub const fn counts(&self) -> &BTreeMap<&'static str, u64> {
        &self.counts
    }

    pub(super) fn count(&mut self, name: &'static str) {
        *self.counts.entry(name).or_default() += 1;
    }
}
