// SPDX-License-Identifier: Apache-2.0
//! What of a Service is not served at the sockets of processes.

use std::collections::BTreeSet;

use proxy_common::Protocol;
use tracing::warn;

use super::{
    Runner,
    told::{Ports, Told},
};
use crate::model::{Service, ServiceName};

impl Runner {
    /// Tells of what is not served at the sockets of processes, while they are served there.
    #[must_use]
    pub fn with_sockets(mut self) -> Self {
        self.unserved = Some(Told::default());
        self
    }

    /// Tells of what is newly not served of Services that may have changed.
    pub(super) fn tell_unserved(&mut self, changed: &BTreeSet<ServiceName>) {
        let Some(told) = &mut self.unserved else { return };
        for service in changed {
            let found = self.store.service(service).and_then(sctp_ports);
            if let Some(ports) = told.news(service, found) {
                warn!(
                    %service,
                    %ports,
                    "SCTP sockets of host processes are not served: they do not reach these ports of the Service, be it at its cluster IP, a node port, a load balancer's address or an external IP"
                );
            }
        }
    }
}

/// The Service ports that sockets are not served.
///
/// SCTP is not: to connect, its sockets run no program that could change the address (`sctp_connect`
/// and `sctp_sendmsg` in `net/sctp/socket.c` know no `BPF_CGROUP_RUN_PROG_*`).
fn sctp_ports(service: &Service) -> Option<Ports> {
    let sctp = service.ports.iter().filter(|port| port.protocol == Protocol::SCTP);
    Ports::of(sctp.map(|port| port.port))
}

#[cfg(test)]
mod tests {
    use proxy_common::Port;

    use super::*;
    use crate::model::ServicePort;

    #[test]
    fn only_sctp_ports_are_told_of() {
        let found = |ports: &[(Protocol, u16)]| {
            let port = |(protocol, number): &(Protocol, u16)| ServicePort {
                name: format!("{protocol}-{number}").into(),
                protocol: *protocol,
                port: Port::new(*number),
                node_port: None,
            };
            let ports = ports.iter().map(port).collect();
            sctp_ports(&Service { ports, ..Service::default() }).map(|ports| ports.to_string())
        };
        assert_eq!(found(&[(Protocol::TCP, 80), (Protocol::UDP, 53)]), None);
        let three = [(Protocol::SCTP, 3868), (Protocol::TCP, 80), (Protocol::SCTP, 80)];
        assert_eq!(found(&three).as_deref(), Some("80 3868"));
    }
}
