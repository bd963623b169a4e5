// SPDX-License-Identifier: Apache-2.0
//! What the agent measures, put on one page.

use std::sync::Arc;

use anyhow::Context as _;

use crate::{
    config::KubeProxyConfiguration,
    metrics::{Build, HealthAnswers, Page, Process, Syncs},
};

/// The page, and what those need whose work is measured.
pub(super) struct Measures {
    pub(super) page: Arc<Page>,
    pub(super) syncs: Syncs,
    pub(super) health: HealthAnswers,
}

impl Measures {
    /// Of an agent with this configuration.
    pub(super) fn new(configuration: &KubeProxyConfiguration) -> anyhow::Result<Self> {
        Self::on(Page::default(), configuration).context("cannot measure anything")
    }

    fn on(page: Page, configuration: &KubeProxyConfiguration) -> Result<Self, prometheus::Error> {
        page.add(Build::new(configuration)?)?;
        page.add(Process::new()?)?;
        let (syncs, health) = (Syncs::new(&page)?, HealthAnswers::new(&page)?);
        Ok(Self { page: Arc::new(page), syncs, health })
    }
}
