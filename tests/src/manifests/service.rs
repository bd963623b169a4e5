// SPDX-License-Identifier: Apache-2.0

//! A Service and its EndpointSlices, in both families from one definition.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde_json::{Value, json};

use super::NAMESPACE;
use crate::family::{DualAddress, IpFamily};
use crate::protocol::Protocol;
use crate::topology::Host;

/// An endpoint in all families that it has an address of.
#[derive(Clone, Debug)]
pub struct Endpoint {
    addresses: Vec<IpAddr>,
    node: Option<String>,
    fields: Value,
}

impl Endpoint {
    /// A ready endpoint with these addresses.
    #[must_use]
    pub fn at(addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        let conditions = json!({ "ready": true, "serving": true, "terminating": false });
        Self {
            addresses: addresses.into_iter().collect(),
            node: None,
            fields: json!({ "conditions": conditions }),
        }
    }

    /// The ready endpoint that is a pod.
    #[must_use]
    pub fn of(pod: &Host) -> Self {
        Self { node: pod.node().map(ToOwned::to_owned), ..Self::at(pod.addresses()) }
    }

    /// Sets its conditions.
    #[must_use]
    pub fn conditions(self, ready: bool, serving: bool, terminating: bool) -> Self {
        let conditions = json!({ "ready": ready, "serving": serving, "terminating": terminating });
        self.field("conditions", conditions)
    }

    /// Sets another field, such as `hints` or `zone`.
    #[must_use]
    pub fn field(mut self, name: &str, value: Value) -> Self {
        self.fields[name] = value;
        self
    }

    fn object(&self, family: IpFamily) -> Option<Value> {
        let address = self.addresses.iter().find(|ip| IpFamily::of(**ip) == family)?;
        let mut object = self.fields.clone();
        object["addresses"] = json!([address]);
        if let Some(node) = &self.node {
            object["nodeName"] = json!(node);
        }
        Some(object)
    }
}

#[derive(Clone, Debug)]
struct Port {
    name: String,
    protocol: Protocol,
    number: u16,
    target: u16,
    on_nodes: Option<u16>,
}

/// A Service, of type ClusterIP unless another is set, and its endpoints.
#[derive(Clone, Debug)]
pub struct Service {
    name: String,
    cluster_ips: Vec<IpAddr>,
    ports: Vec<Port>,
    endpoints: Vec<Endpoint>,
    labels: Value,
    fields: Value,
    ingress: Vec<IpAddr>,
    per_slice: usize,
}

impl Service {
    /// A Service without ports and endpoints; its families are those of its
    /// cluster IPs.
    #[must_use]
    pub fn new(name: &str, cluster_ips: impl IntoIterator<Item = IpAddr>) -> Self {
        Self {
            name: name.to_owned(),
            cluster_ips: cluster_ips.into_iter().collect(),
            ports: Vec::new(),
            endpoints: Vec::new(),
            labels: json!({}),
            ingress: Vec::new(),
            per_slice: usize::MAX,
            fields: json!({
                "type": "ClusterIP",
                "sessionAffinity": "None",
                "internalTrafficPolicy": "Cluster",
            }),
        }
    }

    /// A dual-stack Service.
    #[must_use]
    pub fn dual(name: &str, cluster_ip: DualAddress) -> Self {
        Self::new(name, IpFamily::ALL.map(|family| cluster_ip.of(family)))
    }

    /// Adds the port `number`, which is `target` on the endpoints.
    #[must_use]
    pub fn port(mut self, name: &str, protocol: Protocol, number: u16, target: u16) -> Self {
        let name = name.to_owned();
        self.ports.push(Port { name, protocol, number, target, on_nodes: None });
        self
    }

    /// Serves all its ports at this node port, too.
    ///
    /// # Panics
    ///
    /// If two of them are of one protocol.
    #[must_use]
    pub fn node_port(mut self, node_port: u16) -> Self {
        let protocols: BTreeSet<_> = self.ports.iter().map(|port| port.protocol).collect();
        assert_eq!(protocols.len(), self.ports.len(), "one port of each protocol");
        for port in &mut self.ports {
            port.on_nodes = Some(node_port);
        }
        self.field("type", json!("NodePort"))
    }

    /// Makes it one of type LoadBalancer that has these addresses.
    #[must_use]
    pub fn load_balancer(mut self, addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        self.ingress = addresses.into_iter().collect();
        self.field("type", json!("LoadBalancer"))
    }

    /// Replaces the endpoints.
    #[must_use]
    pub fn endpoints(mut self, endpoints: impl IntoIterator<Item = Endpoint>) -> Self {
        self.endpoints = endpoints.into_iter().collect();
        self
    }

    /// Replaces the endpoints by ready ones.
    #[must_use]
    pub fn pods<'a>(self, pods: impl IntoIterator<Item = &'a Host>) -> Self {
        self.endpoints(pods.into_iter().map(Endpoint::of))
    }

    /// Has so many endpoints in a slice, and as many slices as that takes.
    #[must_use]
    pub const fn slices_of(mut self, endpoints: usize) -> Self {
        self.per_slice = endpoints;
        self
    }

    /// Adds a label to the Service.
    #[must_use]
    pub fn label(mut self, key: &str, value: &str) -> Self {
        self.labels[key] = value.into();
        self
    }

    /// Sets another field of the `spec`.
    #[must_use]
    pub fn field(mut self, name: &str, value: Value) -> Self {
        self.fields[name] = value;
        self
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The Service, then the EndpointSlices of each family, one at least, as the API has them.
    #[must_use]
    pub fn objects(&self) -> Vec<Value> {
        let families: Vec<_> = self.cluster_ips.iter().copied().map(IpFamily::of).collect();
        let slices = families.iter().flat_map(|family| self.slices(*family));
        [self.service(&families)].into_iter().chain(slices).collect()
    }

    fn service(&self, families: &[IpFamily]) -> Value {
        let ports = self.ports.iter().map(|port| {
            let mut object = json!({
                "name": port.name,
                "protocol": port.protocol.name(),
                "port": port.number,
                "targetPort": port.target,
            });
            if let Some(node_port) = port.on_nodes {
                object["nodePort"] = json!(node_port);
            }
            object
        });
        let ingress: Vec<_> = self.ingress.iter().map(|ip| json!({ "ip": ip })).collect();
        let mut spec = self.fields.clone();
        spec["clusterIP"] = json!(self.cluster_ips.first());
        spec["clusterIPs"] = json!(self.cluster_ips);
        spec["ipFamilies"] = families.iter().map(|family| family.name()).collect();
        spec["ipFamilyPolicy"] =
            if families.len() > 1 { "RequireDualStack" } else { "SingleStack" }.into();
        spec["ports"] = ports.collect();
        json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": { "name": self.name, "namespace": NAMESPACE, "labels": self.labels },
            "spec": spec,
            "status": { "loadBalancer": { "ingress": ingress } },
        })
    }

    fn slices(&self, family: IpFamily) -> Vec<Value> {
        let endpoints = self.endpoints.iter().filter_map(|endpoint| endpoint.object(family));
        let endpoints: Vec<_> = endpoints.collect();
        let first = self.slice(family, 0, endpoints.get(..self.per_slice).unwrap_or(&endpoints));
        let others = (1..).zip(endpoints.chunks(self.per_slice).skip(1));
        let others = others.map(|(number, endpoints)| self.slice(family, number, endpoints));
        std::iter::once(first).chain(others).collect()
    }

    fn slice(&self, family: IpFamily, number: usize, endpoints: &[Value]) -> Value {
        let ports = self.ports.iter().map(|port| {
            json!({
                "name": port.name,
                "protocol": port.protocol.name(),
                "port": port.target,
            })
        });
        let name = format!("{}-{}", self.name, family.name().to_lowercase());
        let name = if number == 0 { name } else { format!("{name}-{number}") };
        json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": name,
                "namespace": NAMESPACE,
                "labels": { "kubernetes.io/service-name": self.name },
            },
            "addressType": family.name(),
            "endpoints": endpoints,
            "ports": ports.collect::<Vec<_>>(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_definition_makes_a_slice_per_family() {
        let pod = DualAddress::pod(1, 12);
        let service = Service::dual("web", DualAddress::cluster_ip(10))
            .port("http", Protocol::Tcp, 80, 8080)
            .endpoints([Endpoint::at([pod.v4.into(), pod.v6.into()]).field("zone", json!("a"))]);
        let objects = service.objects();
        assert_eq!(objects.len(), 3);
        assert_eq!(objects[0]["spec"]["clusterIPs"], json!(["10.96.0.10", "fd00:10:96::10"]));
        assert_eq!(objects[1]["endpoints"][0]["addresses"], json!(["10.244.1.12"]));
        assert_eq!(objects[2]["addressType"], "IPv6");
        assert_eq!(objects[2]["endpoints"][0]["addresses"], json!(["fd00:10:244:1::12"]));
        assert_eq!(objects[2]["endpoints"][0]["zone"], "a");
        assert_eq!(objects[2]["ports"][0]["port"], 8080);
    }
}
