// SPDX-License-Identifier: Apache-2.0
//! Where the agent's objects come from, as it was told.

use tokio::sync::{mpsc, watch};

use crate::{
    cli::RunArgs,
    config::KubeProxyConfiguration,
    events::{Events, Publisher},
    metrics::Watches,
    watch::{
        Event, Source,
        kubernetes::{Configuration, Kubernetes, KubernetesError, Timing},
        manifests::{Manifests, ManifestsError},
    },
};

/// Where objects come from.
pub(super) enum Objects {
    Manifests(Manifests),
    Kubernetes(Box<Kubernetes>),
}

/// Why no objects come any more.
#[derive(Debug, thiserror::Error)]
pub(super) enum ObjectsError {
    #[error(transparent)]
    Manifests(#[from] ManifestsError),
    #[error(transparent)]
    Kubernetes(#[from] KubernetesError),
}

impl Objects {
    /// What the arguments or the configuration name, for the node with this name.
    pub(super) fn new(
        arguments: &RunArgs,
        configuration: &KubeProxyConfiguration,
        node: &str,
    ) -> anyhow::Result<Self> {
        if let Some(directory) = &arguments.manifests {
            return Ok(Self::Manifests(Manifests::new(directory)?));
        }
        let master = arguments.kube_proxy.always.master.clone();
        let configuration = Configuration::new(configuration.kubeconfig(), master);
        let kubernetes = Kubernetes::new(configuration, node, Timing::default())?;
        Ok(Self::Kubernetes(Box::new(kubernetes)))
    }
}

impl Objects {
    /// Tells how it is with the API, if that is where they come from.
    pub(super) fn measured_by(self, watches: Watches) -> Self {
        match self {
            Self::Manifests(_) => self,
            Self::Kubernetes(kubernetes) => {
                Self::Kubernetes(Box::new(kubernetes.measured_by(watches)))
            }
        }
    }

    /// Where Events go: to the API that objects come from, if there is one.
    pub(super) fn events(&self, node: &str) -> (Events, Option<Publisher>) {
        match self {
            Self::Manifests(_) => (Events::logged(), None),
            Self::Kubernetes(kubernetes) => {
                let (events, publisher) = Events::published(kubernetes.client(), node);
                (events, Some(publisher))
            }
        }
    }

    /// Why they cannot be read, as long as that is so; what is wrong with manifests ends the agent.
    pub(super) fn trouble(&self) -> watch::Receiver<Option<String>> {
        match self {
            Self::Manifests(_) => watch::channel(None).1,
            Self::Kubernetes(kubernetes) => kubernetes.trouble(),
        }
    }
}

impl Source for Objects {
    type Error = ObjectsError;

    async fn run(self, events: mpsc::Sender<Event>) -> Result<(), ObjectsError> {
        match self {
            Self::Manifests(manifests) => Ok(manifests.run(events).await?),
            Self::Kubernetes(kubernetes) => Ok(kubernetes.run(events).await?),
        }
    }
}
