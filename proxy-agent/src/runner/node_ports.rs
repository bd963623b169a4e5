// SPDX-License-Identifier: Apache-2.0
//! Where node ports are served, and those among the ports that masqueraded flows take.

use std::{collections::BTreeSet, net::IpAddr, ops::RangeInclusive};

use tracing::warn;

use super::{
    Runner, tell,
    told::{Ports, Told},
};
use crate::{
    model::{Service, ServiceName},
    plan::{NodePortAddresses, health_check_addresses, node_port_addresses},
};

/// The ports of masqueraded flows, and the node ports among them that have been told of.
#[derive(Debug)]
pub(super) struct Shared {
    source_ports: RangeInclusive<u16>,
    told: Told<Ports>,
}

impl Runner {
    /// Tells of node ports that are among these, which masqueraded flows take.
    #[must_use]
    pub fn with_source_ports(mut self, source_ports: RangeInclusive<u16>) -> Self {
        self.shared_ports = Some(Shared { source_ports, told: Told::default() });
        self
    }

    /// At which addresses node ports are served, if that has changed since the last call.
    pub(super) fn take_node_port_addresses(&mut self) -> Option<BTreeSet<IpAddr>> {
        let local = self.local_addresses.as_mut();
        let local = local.map_or(Some(BTreeSet::new()), |local| local.borrow_and_update().clone());
        // Marks of addresses that an earlier agent has left stay until it is known which there should be.
        let are_known =
            local.is_some() || matches!(self.options.node_ports, NodePortAddresses::Primary(_));
        let local = local.unwrap_or_default();
        let served = node_port_addresses(&self.options.node_ports, self.store.node(), &local);
        let answered = health_check_addresses(&self.options.node_ports, &served);
        tell(&self.health_check_addresses, answered);
        (are_known && self.node_port_addresses.as_ref() != Some(&served)).then(|| {
            self.node_port_addresses = Some(served.clone());
            served
        })
    }

    /// Tells of such node ports of Services that may have changed.
    pub(super) fn tell_shared_ports(&mut self, changed: &BTreeSet<ServiceName>) {
        let Some(Shared { source_ports, told }) = &mut self.shared_ports else { return };
        for service in changed {
            let known = self.store.service(service);
            let found = known.and_then(|service| within(service, source_ports));
            if let Some(ports) = told.news(service, found) {
                let (first, last) = (source_ports.start(), source_ports.end());
                let range = format!("{first}-{last}");
                warn!(
                    %service,
                    %ports,
                    range,
                    "node ports of a Service are in --snat-port-range, whose ports masqueraded flows have: packets of the one may be taken for the other's; give another range, or the Service other node ports"
                );
            }
        }
    }
}

/// The node ports of a Service, that of its health checks included, which are among these.
fn within(service: &Service, source_ports: &RangeInclusive<u16>) -> Option<Ports> {
    let of_ports = service.ports.iter().filter_map(|port| port.node_port);
    let all = of_ports.chain(service.health_check_node_port);
    Ports::of(all.filter(|port| source_ports.contains(&port.number())))
}

#[cfg(test)]
mod tests {
    use proxy_common::{Port, Protocol};

    use super::*;
    use crate::model::ServicePort;

    #[test]
    fn node_ports_in_the_range_are_told_of() {
        let found = |node_ports: &[Option<u16>], health_check: Option<u16>| {
            let port = |node_port: &Option<u16>| ServicePort {
                name: "".into(),
                protocol: Protocol::UDP,
                // What others dial does not matter.
                port: Port::new(61_000),
                node_port: node_port.map(Port::new),
            };
            let service = Service {
                ports: node_ports.iter().map(port).collect(),
                health_check_node_port: health_check.map(Port::new),
                ..Service::default()
            };
            within(&service, &(61_000..=62_000)).map(|ports| ports.to_string())
        };
        assert_eq!(found(&[None, Some(60_999), Some(62_001)], Some(30_000)), None);
        let some = [Some(62_000), Some(61_000), None, Some(30_000)];
        assert_eq!(found(&some, None).as_deref(), Some("61000 62000"));
        assert_eq!(found(&[], Some(61_500)).as_deref(), Some("61500"));
    }
}
