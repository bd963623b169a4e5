// SPDX-License-Identifier: Apache-2.0
//! Services in few words.

use std::{collections::BTreeMap, net::IpAddr, num::NonZeroU32};

use ipnet::IpNet;
use proxy_common::{Family, Port, Protocol, family::Address as _};

use crate::{
    model::{
        Endpoint, EndpointPort, EndpointSlice, Service, ServiceName, ServicePort, TrafficPolicy,
        Trigger,
    },
    plan::EndpointAddress,
};

/// What becomes of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Ready,
    Draining,
    Gone,
}

/// A Service and its endpoints, in few words.
#[derive(Clone, Debug)]
pub(super) struct Spec {
    /// The last part of its cluster IP.
    pub(super) vip: u16,
    pub(super) created: Option<i64>,
    /// What comes before the name where Services are equally old.
    pub(super) uid: u16,
    pub(super) policy: TrafficPolicy,
    /// Name, protocol, number.
    pub(super) ports: Vec<(&'static str, Protocol, u16)>,
    /// The last part of the address, what it is, and whether it is on this node. All listen on
    /// port 8080.
    pub(super) endpoints: Vec<(u16, State, bool)>,
    pub(super) affinity: u32,
    pub(super) outside: Outside,
}

/// What the outside reaches of a Service.
#[derive(Clone, Debug, Default)]
pub(super) struct Outside {
    pub(super) policy: TrafficPolicy,
    /// The node port of its first port; the others have those that follow.
    pub(super) node_port: Option<u16>,
    /// Nets and last parts of addresses.
    pub(super) external_ips: Vec<(u16, u16)>,
    pub(super) load_balancer_ips: Vec<(u16, u16)>,
    /// Nets whose clients are served at the load balancer's addresses.
    pub(super) ranges: Vec<u16>,
}

/// The net of the node's own address.
pub(super) const NODE_NET: u16 = 50;

pub(super) fn web(endpoints: &[(u16, State, bool)]) -> Spec {
    Spec {
        vip: 1,
        created: Some(0),
        uid: 0,
        policy: TrafficPolicy::Cluster,
        ports: vec![("http", Protocol::TCP, 80)],
        endpoints: endpoints.to_vec(),
        affinity: 0,
        outside: Outside::default(),
    }
}

/// An address: cluster IPs are in net 96, pods in net 244.
pub(super) fn address<F: Family>(net: u16, host: u16) -> F::Addr {
    let ip: IpAddr = if F::INDEX == 0 {
        format!("10.{net}.{}.{}", host >> 8, host & 0xff).parse()
    } else {
        format!("fd00:{net}::{host:x}").parse()
    }
    .unwrap();
    F::Addr::from_ip(ip).unwrap()
}

pub(super) fn endpoint<F: Family>(host: u16) -> EndpointAddress<F> {
    EndpointAddress { address: address::<F>(244, host), port: Port::new(8080) }
}

/// All addresses of a net.
pub(super) fn net<F: Family>(net: u16) -> IpNet {
    let length = if F::INDEX == 0 { 16 } else { 32 };
    IpNet::new(address::<F>(net, 0).into(), length).unwrap()
}

impl Spec {
    /// The Service.
    pub(super) fn service<F: Family>(&self, name: &ServiceName) -> Service {
        let outside = &self.outside;
        let ips = |list: &[(u16, u16)]| {
            list.iter().map(|(net, host)| address::<F>(*net, *host).into()).collect()
        };
        let node_port = |at| Some(Port::new(outside.node_port? + at));
        let port = |(at, (name, protocol, number)): (u16, &(&str, Protocol, u16))| ServicePort {
            name: (*name).into(),
            protocol: *protocol,
            port: Port::new(*number),
            node_port: node_port(at),
        };
        Service {
            name: name.clone(),
            uid: format!("u{}", self.uid).into(),
            created: self.created,
            cluster_ips: ips(&[(96, self.vip)]),
            external_ips: ips(&outside.external_ips),
            load_balancer_ips: ips(&outside.load_balancer_ips),
            source_ranges: outside.ranges.iter().map(|range| net::<F>(*range)).collect(),
            internal_traffic_policy: self.policy,
            external_traffic_policy: outside.policy,
            affinity: NonZeroU32::new(self.affinity),
            health_check_node_port: None,
            ports: (0..).zip(&self.ports).map(port).collect(),
        }
    }

    /// Its endpoints.
    pub(super) fn slice<F: Family>(&self, name: &ServiceName) -> EndpointSlice {
        EndpointSlice {
            name: name.clone(),
            service: name.clone(),
            endpoints: self.endpoints.iter().copied().map(model_endpoint::<F>).collect(),
            ports: self.ports.iter().map(endpoint_port).collect(),
            unusable: BTreeMap::new(),
            trigger: Trigger::default(),
        }
    }
}

fn endpoint_port((name, protocol, _): &(&str, Protocol, u16)) -> EndpointPort {
    EndpointPort { name: (*name).into(), protocol: *protocol, port: Port::new(8080) }
}

fn model_endpoint<F: Family>((host, state, local): (u16, State, bool)) -> Endpoint {
    Endpoint {
        address: address::<F>(244, host).into(),
        ready: state == State::Ready,
        serving: state != State::Gone,
        terminating: state == State::Draining,
        node: Some(if local { "me" } else { "you" }.into()),
        hints: None,
    }
}
