// SPDX-License-Identifier: Apache-2.0

//! A directory of Kubernetes objects for `sixfour run --manifests`.

mod service;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::family::DualAddress;
use crate::scratch::Scratch;
use crate::topology::{Node, pod_cidr};

pub use service::{Endpoint, Service};

/// The namespace of all objects, as in the recorded cluster.
pub const NAMESPACE: &str = "anc";

/// A directory of manifests; it goes when this is dropped.
#[derive(Debug)]
pub struct Manifests {
    scratch: Scratch,
    directory: PathBuf,
}

impl Manifests {
    /// An empty directory. Must be root.
    pub fn new() -> Result<Self> {
        let scratch = Scratch::new("manifests")?;
        let directory = scratch.path().join("manifests");
        fs::create_dir(&directory)?;
        Ok(Self { scratch, directory })
    }

    /// The directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Writes a Service and its EndpointSlices, or replaces them at once.
    pub fn apply(&self, service: &Service) -> Result<()> {
        self.write_list(service.name(), &service.objects())
    }

    /// Writes a Node, in `zone` if one is given.
    pub fn apply_node(&self, node: &Node, zone: Option<&str>) -> Result<()> {
        self.write_list(node.host().name(), &[node_object(node, zone)])
    }

    /// Writes the Service CIDR that cluster IPs of the tests are of, in both families.
    pub fn apply_service_cidr(&self) -> Result<()> {
        self.write_list("kubernetes", &[service_cidr_object()])
    }

    /// Writes `objects` as the file `NAME.json`, or replaces it at once.
    pub fn write_list(&self, name: &str, objects: &[Value]) -> Result<()> {
        let list = json!({ "apiVersion": "v1", "kind": "List", "items": objects });
        self.write(&format!("{name}.json"), &format!("{list:#}"))
    }

    /// Writes a file of any content, or replaces it at once: whoever watches
    /// the directory never sees half of it.
    pub fn write(&self, file: &str, content: &str) -> Result<()> {
        let next = self.scratch.path().join("next");
        fs::write(&next, content)
            .and_then(|()| fs::rename(next, self.directory.join(file)))
            .with_context(|| format!("writing the manifest {file}"))
    }

    /// Removes what [`Manifests::apply`] or [`Manifests::write_list`] has
    /// written under this name.
    pub fn remove(&self, name: &str) -> Result<()> {
        fs::remove_file(self.directory.join(format!("{name}.json")))
            .with_context(|| format!("removing the manifest of {name}"))
    }
}

/// The Service CIDR that cluster IPs of the tests are of, in both families, as the API has it.
#[must_use]
pub fn service_cidr_object() -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "ServiceCIDR",
        "metadata": { "name": "kubernetes" },
        "spec": { "cidrs": DualAddress::service_ranges().map(|range| range.to_string()) },
    })
}

/// A Node as the API has it, in `zone` if one is given.
#[must_use]
pub fn node_object(node: &Node, zone: Option<&str>) -> Value {
    let name = node.host().name();
    let families = node.families().list();
    let pod_cidrs = families.iter().map(|family| pod_cidr(node.number(), *family).to_string());
    let pod_cidrs: Vec<_> = pod_cidrs.collect();
    let addresses = node.host().addresses();
    let addresses = addresses.map(|ip| json!({ "type": "InternalIP", "address": ip }));
    let mut labels = json!({ "kubernetes.io/hostname": name });
    if let Some(zone) = zone {
        labels["topology.kubernetes.io/zone"] = zone.into();
    }
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": { "name": name, "labels": labels },
        "spec": { "podCIDR": pod_cidrs.first(), "podCIDRs": pod_cidrs },
        "status": { "addresses": addresses.collect::<Vec<_>>() },
    })
}
