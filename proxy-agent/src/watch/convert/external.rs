// SPDX-License-Identifier: Apache-2.0
//! What of Services concerns clients from outside of the cluster, as kube-proxy reads it
//! (`newBaseServiceInfo` in `pkg/proxy/serviceport.go`, Kubernetes 1.36).
//!
//! What cannot be used is rejected by itself: the Service's other fields do not suffer.

use std::{fmt::Display, net::IpAddr};

use ipnet::IpNet;
use proxy_common::Port;

use super::{Reason, Rejected, Subject, address, not};
use crate::{
    model::TrafficPolicy,
    watch::api::{self, ServiceSpec},
};

/// A Service that is being read.
pub(super) struct Reader<'a> {
    service: &'a api::Service,
    spec: &'a ServiceSpec,
    subject: &'a Subject,
    /// What could not be used so far.
    pub(super) rejected: Vec<Rejected>,
}

impl<'a> Reader<'a> {
    pub(super) const fn new(
        service: &'a api::Service,
        spec: &'a ServiceSpec,
        subject: &'a Subject,
    ) -> Self {
        Self { service, spec, subject, rejected: Vec::new() }
    }

    pub(super) fn reject(&mut self, field: impl Display, reason: Reason) {
        self.rejected.push(self.subject.reject(field, reason));
    }

    /// Whether a Service of its type has node ports.
    pub(super) fn has_node_ports(&self) -> bool {
        matches!(self.spec.type_.as_deref(), Some("NodePort" | "LoadBalancer"))
    }

    /// `spec.externalIPs`, each once.
    pub(super) fn external_ips(&mut self) -> Vec<IpAddr> {
        let spec = self.spec;
        let written = spec.external_ips.iter().flatten().enumerate();
        let mut ips = Vec::new();
        for (at, text) in written {
            self.take_ip(&mut ips, text, format_args!("spec.externalIPs[{at}]"));
        }
        ips
    }

    /// The addresses of the load balancer, each once. One that passes connections on as a proxy
    /// sends these to a node port: at its address they must leave the node.
    pub(super) fn load_balancer_ips(&mut self) -> Vec<IpAddr> {
        let status = self.service.status.as_ref();
        let status = status.and_then(|status| status.load_balancer.as_ref());
        let ingress = status.and_then(|status| status.ingress.as_ref());
        let mut ips = Vec::new();
        for (at, ingress) in ingress.into_iter().flatten().enumerate() {
            let field = |name: &str| format!("status.loadBalancer.ingress[{at}].{name}");
            let Some(text) = ingress.ip.as_deref().filter(|text| !text.is_empty()) else {
                continue;
            };
            match ingress.ip_mode.as_deref() {
                None | Some("VIP") => self.take_ip(&mut ips, text, field("ip")),
                Some("Proxy") => {}
                Some(other) => self.reject(field("ipMode"), not(other, "VIP or Proxy")),
            }
        }
        ips
    }

    fn take_ip(&mut self, ips: &mut Vec<IpAddr>, text: &str, field: impl Display) {
        match address::unicast(text) {
            Ok(ip) if ips.contains(&ip) => {}
            Ok(ip) => ips.push(ip),
            Err(reason) => self.reject(field, reason),
        }
    }

    /// `spec.loadBalancerSourceRanges`, each once. The API lets blanks stand around them. One of all
    /// addresses of a family lifts the restriction there.
    pub(super) fn source_ranges(&mut self) -> Vec<IpNet> {
        let spec = self.spec;
        let written = spec.load_balancer_source_ranges.iter().flatten().enumerate();
        let mut ranges: Vec<IpNet> = Vec::new();
        for (at, text) in written {
            match address::cidr(text.trim()) {
                Ok(range) => ranges.push(range),
                Err(reason) => {
                    let field = format_args!("spec.loadBalancerSourceRanges[{at}]");
                    self.reject(field, reason);
                }
            }
        }
        ranges.sort_unstable();
        ranges.dedup();
        let is_v4 = |range: &IpNet| range.addr().is_ipv4();
        let lifted: Vec<_> = ranges.iter().filter(|range| range.prefix_len() == 0).collect();
        let lifted: Vec<_> = lifted.into_iter().map(is_v4).collect();
        ranges.retain(|range| !lifted.contains(&is_v4(range)));
        ranges
    }

    /// `spec.externalTrafficPolicy`, where the Service can be reached from outside.
    pub(super) fn traffic_policy(&mut self) -> TrafficPolicy {
        let has_external_ips = self.spec.external_ips.as_ref().is_some_and(|ips| !ips.is_empty());
        if !self.has_node_ports() && !has_external_ips {
            return TrafficPolicy::Cluster;
        }
        match self.spec.external_traffic_policy.as_deref() {
            // The API server leaves an empty text where the Service is of another type.
            None | Some("Cluster" | "") => TrafficPolicy::Cluster,
            Some("Local") => TrafficPolicy::Local,
            Some(other) => {
                let reason = not(other, "Cluster or Local");
                self.reject("spec.externalTrafficPolicy", reason);
                TrafficPolicy::Cluster
            }
        }
    }

    /// `spec.healthCheckNodePort` of a load balancer, which asks there if only nodes with endpoints
    /// are served.
    pub(super) fn health_check_node_port(&mut self, policy: TrafficPolicy) -> Option<Port> {
        let is_load_balancer = self.spec.type_.as_deref() == Some("LoadBalancer");
        if !is_load_balancer || policy != TrafficPolicy::Local {
            return None;
        }
        self.port(self.spec.health_check_node_port, "spec.healthCheckNodePort")
    }

    /// The node port of one of its ports.
    pub(super) fn node_port(&mut self, written: Option<i32>, at: usize) -> Option<Port> {
        if !self.has_node_ports() {
            return None;
        }
        self.port(written, format_args!("spec.ports[{at}].nodePort"))
    }

    /// A port that may be left out, or be zero.
    fn port(&mut self, written: Option<i32>, field: impl Display) -> Option<Port> {
        let number = written.filter(|number| *number != 0)?;
        match address::port(number) {
            Ok(port) => Some(port),
            Err(reason) => {
                self.reject(field, reason);
                None
            }
        }
    }
}

#[cfg(test)]
mod tests;
