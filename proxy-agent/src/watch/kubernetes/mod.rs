// SPDX-License-Identifier: Apache-2.0
//! Objects from the Kubernetes API.
//!
//! The same objects are asked for as kube-proxy asks for, by selectors, with `get`, `list` and
//! `watch` only. Each kind is followed by itself: a list (as a stream, or in pages where the API
//! does not stream lists), then a watch from the list's version on. What users may rely on:
//! - A list is compared with what was delivered before. Nothing is ever cleared first, so an API
//!   that is away, or a version that is gone, takes no Service away.
//! - Late and repeated events change nothing, and neither does a list from an API server that is
//!   behind, unless all lists are as old.
//! - An object that cannot be used is reported, and stays what it was.
//! - The API is not reached through a Service of its own cluster: see [`KubernetesError`].
//!
//! ADR 0008 says why it is not kube's own watcher.

mod configuration;
mod connection;
mod course;
mod decode;
mod failure;
mod known;
mod lines;
mod own_service;
mod pause;
mod reflector;
mod selection;
mod shadow;
mod timing;
mod transport;
mod trouble;
mod version;

use std::{net::IpAddr, sync::Arc};

use kube::Client;
use tokio::{
    sync::{mpsc, watch},
    task::{JoinError, JoinSet},
};
use tracing::info;

pub use self::{
    configuration::{Configuration, ConfigurationError},
    timing::Timing,
};
use self::{connection::Connection, reflector::Reflector, trouble::Troubles};
use super::{
    Event, Source,
    api::{EndpointSlice, Node, Service, ServiceCidr},
};
use crate::{metrics::Watches, model::ObjectName};

/// How many events of Services may wait to be looked at.
const SERVICES: usize = 64;

/// The API of a cluster.
#[derive(Debug)]
pub struct Kubernetes {
    connection: Arc<Connection>,
    node: String,
    timing: Timing,
    /// What connections are made to.
    host: String,
    troubles: Troubles,
}

/// Why the API cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum KubernetesError {
    /// It would be reached through a Service that this node programs.
    #[error(
        "the API would be reached at {address}, a cluster IP of the Service {service}, which this \
         agent programs itself: give --master https://ADDRESS with the address of an API server, \
         or a --kubeconfig that has one, or set KUBERNETES_SERVICE_HOST to it"
    )]
    OwnService {
        /// The Service.
        service: ObjectName,
        /// The address.
        address: IpAddr,
    },
    /// A part has crashed.
    #[error("following the API has crashed")]
    Crashed(#[source] JoinError),
}

impl Kubernetes {
    /// The API that a configuration names, for the node with this name.
    ///
    /// # Errors
    ///
    /// What is wrong with the configuration, as far as files tell; whether the API can be reached
    /// turns out later, and is not an error.
    pub fn new(
        configuration: Configuration,
        node: &str,
        timing: Timing,
    ) -> Result<Self, ConfigurationError> {
        let config = configuration.load()?.config;
        let server = config.cluster_url.to_string();
        info!(server, "objects come from the Kubernetes API");
        let reached = config.proxy_url.as_ref().unwrap_or(&config.cluster_url);
        let host = reached.host().unwrap_or_default().to_owned();
        let connection = Arc::new(Connection::new(configuration, timing));
        let troubles = Troubles::default();
        Ok(Self { connection, node: node.to_owned(), timing, host, troubles })
    }

    /// A client for what else is asked of the API, with the same connections and credentials, which
    /// are renewed as needed.
    ///
    /// # Panics
    ///
    /// Outside of a runtime.
    #[must_use]
    pub fn client(&self) -> Client {
        self.connection.client()
    }

    /// Tells how it is with each kind of objects.
    #[must_use]
    pub fn measured_by(mut self, watches: Watches) -> Self {
        self.troubles.tell(watches);
        self
    }

    /// Why the API cannot be followed, as long as that is so of some kind of objects.
    #[must_use]
    pub fn trouble(&self) -> watch::Receiver<Option<String>> {
        self.troubles.last()
    }
}

impl Source for Kubernetes {
    type Error = KubernetesError;

    async fn run(self, events: mpsc::Sender<Event>) -> Result<(), KubernetesError> {
        let Self { connection, node, timing, host, troubles } = self;
        let (services, looked_at) = mpsc::channel(SERVICES);
        let mut tasks = JoinSet::new();
        let _ = tasks.spawn(own_service::forward(looked_at, events.clone(), host));
        let api = || Arc::clone(&connection);
        let service = Reflector::<Service>::new(api(), &node, timing, services, &troubles);
        let slice =
            Reflector::<EndpointSlice>::new(api(), &node, timing, events.clone(), &troubles);
        let own = Reflector::<Node>::new(api(), &node, timing, events.clone(), &troubles);
        let cidr = Reflector::<ServiceCidr>::new(api(), &node, timing, events, &troubles);
        let _ = tasks.spawn(service.run());
        let _ = tasks.spawn(slice.run());
        let _ = tasks.spawn(own.run());
        let _ = tasks.spawn(cidr.run());
        while let Some(ended) = tasks.join_next().await {
            ended.map_err(KubernetesError::Crashed)??;
        }
        Ok(())
    }
}
