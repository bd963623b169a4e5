// SPDX-License-Identifier: Apache-2.0
//! What the agent measures, put on one page.

use std::sync::Arc;

use anyhow::Context as _;
use proxy_common::{V4, V6};
use tokio::sync::mpsc;

use crate::{
    bpf::{Counters, Object, ProgramRuns, map_sizes},
    config::KubeProxyConfiguration,
    metrics::{
        Build, Decisions, DeviceCounts, HealthAnswers, Page, Process, Programs, Room, Traffic,
        Updates,
    },
};

/// The page, and what those need whose work is measured.
pub(super) struct Measures {
    pub(super) page: Arc<Page>,
    pub(super) updates: Updates,
    pub(super) health: HealthAnswers,
    pub(super) devices: DeviceCounts,
}

impl Measures {
    /// Of an agent with this configuration, these maps and programs, and of so many Services each at the most.
    pub(super) fn new(
        configuration: &KubeProxyConfiguration,
        services: usize,
        object: &Object,
    ) -> anyhow::Result<Self> {
        let page = Page::default();
        page.add(Build::new(configuration)?)?;
        page.add(Process::new()?)?;
        page.add(Decisions::new(Counters::open(object.pins())?)?)?;
        page.add(Room::new(map_sizes(object.pins())?)?)?;
        page.add(Programs::new(ProgramRuns::of(object.version()))?)?;
        let families = vec![
            Traffic::of_family::<V4>(object.pins())?,
            Traffic::of_family::<V6>(object.pins())?,
        ];
        page.add(Traffic::new(services, families)?)?;
        Ok(Self {
            updates: Updates::new(&page)?,
            health: HealthAnswers::new(&page)?,
            devices: DeviceCounts::new(&page)?,
            page: Arc::new(page),
        })
    }

    /// Looks up how many events wait that are sent here, as long as anybody sends any.
    pub(super) fn look_up_queue<T: Send + 'static>(
        &self,
        sender: &mpsc::Sender<T>,
    ) -> anyhow::Result<()> {
        let sender = sender.downgrade();
        let waiting =
            move || sender.upgrade().map_or(0, |sender| sender.max_capacity() - sender.capacity());
        let help = "Changes of objects that wait to be looked at";
        self.page.look_up("sixfour_events_queued", help, waiting).context("cannot measure events")
    }
}
