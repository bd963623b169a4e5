// SPDX-License-Identifier: Apache-2.0
//! The objects that a real kube-apiserver sent, as the demo feeds them to the agents, and what
//! they say about who must answer.

mod expected;
mod frontend;
mod objects;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::IpAddr,
    path::PathBuf,
};

use anyhow::{Context as _, Result};
use proxy_tests::manifests;
use serde::{Deserialize as _, de::DeserializeOwned};

use crate::workspace;
pub(super) use expected::{Cause, Expected};
pub(super) use frontend::{Frontend, Way};
use objects::{Endpoint, EndpointSlice, List, Node};
pub(super) use objects::{SERVICE_NAME, Service, ServicePort};

/// The files with the lists, below [`folder`].
pub(super) const FILES: [&str; 4] = [SERVICES, SLICES, NODES, "servicecidrs.list.json"];
const SERVICES: &str = "services.list.json";
pub(super) const SLICES: &str = "endpointslices.list.json";
const NODES: &str = "nodes.list.json";

/// Where the recorded objects are.
pub(super) fn folder() -> PathBuf {
    workspace::root().join("tests/fixtures/api")
}

/// What the demo needs to know of the recorded objects, and of its own that are judged like these.
pub(super) struct Recorded {
    pub(super) services: Vec<Service>,
    slices: Vec<EndpointSlice>,
    zones: BTreeMap<String, String>,
}

/// A port that a pod must serve.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Listening {
    pub(super) address: IpAddr,
    pub(super) port: u16,
    /// As Kubernetes writes it.
    pub(super) protocol: String,
}

impl Recorded {
    /// Reads the lists.
    ///
    /// # Errors
    ///
    /// If they are not in the workspace.
    pub(super) fn read() -> Result<Self> {
        Ok(Self {
            services: list(SERVICES)?,
            slices: list(SLICES)?,
            zones: list(NODES)?.into_iter().filter_map(Node::into_zone).collect(),
        })
    }

    /// Adds a Service that was not recorded, with its endpoints.
    ///
    /// # Errors
    ///
    /// If it lacks what recorded ones have.
    pub(super) fn add(&mut self, service: &manifests::Service) -> Result<()> {
        for object in &service.objects() {
            if object["kind"] == "Service" {
                self.services.push(Service::deserialize(object)?);
            } else {
                self.slices.push(EndpointSlice::deserialize(object)?);
            }
        }
        Ok(())
    }

    /// All addresses and ports of all endpoints, whatever their state.
    pub(super) fn listening(&self) -> BTreeSet<Listening> {
        let of_slice = |slice: &EndpointSlice| {
            let all = slice.endpoints().iter().filter_map(Endpoint::address).flat_map(|address| {
                slice.ports().iter().filter_map(move |port| {
                    let protocol = port.protocol.clone();
                    Some(Listening { address, port: port.port?, protocol })
                })
            });
            all.collect::<Vec<_>>()
        };
        self.slices.iter().flat_map(of_slice).collect()
    }
}

fn list<T: DeserializeOwned>(file: &str) -> Result<Vec<T>> {
    let path = folder().join(file);
    let text = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let list: List<T> =
        serde_json::from_slice(&text).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(list.items)
}
