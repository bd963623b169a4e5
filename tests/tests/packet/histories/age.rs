// SPDX-License-Identifier: Apache-2.0

//! Time that passes without anybody waiting: what the tables hold becomes older, and so does what
//! the model knows.

use std::net::SocketAddr;

use anyhow::Result;
use proxy_agent::bpf::clock;
use proxy_common::Port;
use proxy_common::clock::{Tick, seconds};
use proxy_common::flow::{FlowKey, Hook, Tuple};
use proxy_common::fragment::Fragmented;

use super::player::Player;
use super::step::Flow;
use crate::rig::{Tabled, address, number};

impl<F: Tabled> Player<'_, F> {
    pub(super) fn fall_silent(&mut self, flow: Flow, silence: u32) -> Result<()> {
        let (client, target) = (flow.client::<F>(), flow.target::<F>());
        let Some(route) = self.model.route(flow.protocol, client, target) else { return Ok(()) };
        self.model.fall_silent(flow.protocol, client, target, silence);
        let hook = if route.is_hairpin { Hook::INGRESS } else { Hook::EGRESS };
        let key = |from, to, hook| FlowKey::new(tuple::<F>(from, to), number(flow.protocol), hook);
        let keys = [key(client, target, Hook::INGRESS), key(route.backend, route.source, hook)];
        for key in keys {
            let Some(mut entry) = self.rig.tables.flow(&key)? else { continue };
            entry.last_seen = Tick(clock::now().0.wrapping_sub(seconds(silence)));
            self.rig.flows.insert(key, entry, 0)?;
        }
        Ok(())
    }

    pub(super) fn age_fragments(&mut self, silence: u32) -> Result<()> {
        self.model.age_fragments(silence);
        let known = self.rig.fragments.iter().collect::<Result<Vec<_>, _>>()?;
        let came = Tick(clock::now().0.wrapping_sub(seconds(silence)));
        for (key, first) in known {
            // What has been forgotten stays so.
            if !first.is_current(clock::now()) {
                continue;
            }
            let ports = (first.source_port(), first.destination_port());
            let aged = Fragmented::new(first.protocol(), ports.0, ports.1, came);
            self.rig.fragments.insert(key, aged, 0)?;
        }
        Ok(())
    }
}

fn tuple<F: Tabled>(source: SocketAddr, destination: SocketAddr) -> Tuple<F::Abi> {
    Tuple {
        source: address::<F>(source),
        destination: address::<F>(destination),
        source_port: Port::new(source.port()),
        destination_port: Port::new(destination.port()),
    }
}
