// SPDX-License-Identifier: Apache-2.0
//! What of a Service is not served at the sockets of processes.

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
};

use proxy_common::{Port, Protocol};
use tracing::warn;

use super::Runner;
use crate::model::{Service, ServiceName};

impl Runner {
    /// Tells of what is not served at the sockets of processes, while they are served there.
    #[must_use]
    pub fn with_sockets(mut self) -> Self {
        self.unserved = Some(Unserved::default());
        self
    }

    /// Tells of what is newly not served of Services that may have changed.
    pub(super) fn tell_unserved(&mut self, changed: &BTreeSet<ServiceName>) {
        let Some(unserved) = &mut self.unserved else { return };
        for service in changed {
            if let Some(ports) = unserved.news(service, self.store.service(service)) {
                warn!(
                    %service,
                    %ports,
                    "SCTP sockets of host processes are not served: they do not reach these ports of the Service at its cluster IP"
                );
            }
        }
    }
}

/// The Service ports that sockets are not served, as far as that has been told.
///
/// SCTP is not: to connect, its sockets run no program that could change the address (`sctp_connect`
/// and `sctp_sendmsg` in `net/sctp/socket.c` know no `BPF_CGROUP_RUN_PROG_*`).
#[derive(Debug, Default)]
pub(super) struct Unserved {
    told: HashMap<ServiceName, Ports>,
}

/// Numbers of ports; displayed with spaces between them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Ports(BTreeSet<u16>);

impl Ports {
    fn of(service: &Service) -> Self {
        let sctp = service.ports.iter().filter(|port| port.protocol == Protocol::SCTP);
        Self(sctp.map(|port| Port::number(port.port)).collect())
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers: Vec<_> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&numbers.join(" "))
    }
}

impl Unserved {
    /// The SCTP ports of a Service, which may have changed or gone, if they are to be told of: once,
    /// until they change.
    fn news(&mut self, name: &ServiceName, service: Option<&Service>) -> Option<Ports> {
        let ports = service.map(Ports::of).filter(|ports| !ports.0.is_empty());
        let told = match &ports {
            Some(ports) => self.told.insert(name.clone(), ports.clone()),
            None => self.told.remove(name),
        };
        ports.filter(|ports| told.as_ref() != Some(ports))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ServicePort;

    fn service(ports: &[(Protocol, u16)]) -> Service {
        let port = |(protocol, number): &(Protocol, u16)| ServicePort {
            name: format!("{protocol}-{number}").into(),
            protocol: *protocol,
            port: Port::new(*number),
            node_port: None,
        };
        Service {
            name: ServiceName::new("ns", "a"),
            cluster_ips: vec!["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()],
            ports: ports.iter().map(port).collect(),
            ..Service::default()
        }
    }

    /// What is told of a Service that has these ports, one after the other; nothing if it is gone.
    fn told(changes: &[Option<&[(Protocol, u16)]>]) -> Vec<Option<String>> {
        let mut unserved = Unserved::default();
        let name = ServiceName::new("ns", "a");
        let tell = |ports: Option<&[_]>| {
            unserved.news(&name, ports.map(service).as_ref()).map(|ports| ports.to_string())
        };
        changes.iter().copied().map(tell).collect()
    }

    #[test]
    fn sctp_ports_are_told_once_until_they_change() {
        let tcp: &[_] = &[(Protocol::TCP, 80), (Protocol::UDP, 53)];
        let one: &[_] = &[(Protocol::TCP, 80), (Protocol::SCTP, 80)];
        let two: &[_] = &[(Protocol::SCTP, 3868), (Protocol::SCTP, 80)];
        assert_eq!(told(&[Some(tcp), None, None]), [None, None, None]);
        let some = |ports: &str| Some(ports.to_owned());
        assert_eq!(
            told(&[Some(one), Some(one), Some(two), Some(two), Some(tcp), Some(one)]),
            [some("80"), None, some("80 3868"), None, None, some("80")]
        );
        // What has gone and comes back is another.
        assert_eq!(told(&[Some(one), None, Some(one)]), [some("80"), None, some("80")]);
    }

    #[test]
    fn each_service_is_told_of() {
        let mut unserved = Unserved::default();
        for name in ["a", "b"] {
            let name = ServiceName::new("ns", name);
            let service = service(&[(Protocol::SCTP, 80)]);
            assert!(unserved.news(&name, Some(&service)).is_some());
            assert!(unserved.news(&name, Some(&service)).is_none());
        }
    }
}
