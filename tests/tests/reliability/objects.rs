// SPDX-License-Identifier: Apache-2.0

//! Where the agent's objects are.

use anyhow::Result;
use proxy_tests::api::replay::ReplayServer;
use proxy_tests::manifests::{Manifests, Service};

/// Where objects are written that the agent reads.
#[derive(Clone, Copy)]
pub(crate) enum Objects<'a> {
    /// A directory.
    Files(&'a Manifests),
    /// An API.
    Api(&'a ReplayServer),
}

impl Objects<'_> {
    /// Makes or replaces a Service and its EndpointSlices.
    pub(crate) fn apply(self, service: &Service) -> Result<()> {
        match self {
            Self::Files(manifests) => manifests.apply(service),
            Self::Api(server) => {
                service.objects().iter().try_for_each(|object| server.apply(object))
            }
        }
    }

    /// Removes them.
    pub(crate) fn remove(self, service: &Service) -> Result<()> {
        match self {
            Self::Files(manifests) => manifests.remove(service.name()),
            Self::Api(server) => {
                service.objects().iter().try_for_each(|object| server.remove(object))
            }
        }
    }
}
