// SPDX-License-Identifier: Apache-2.0
//! Serving: the course of things from tables to sockets and devices, and then whatever happens to these.

use std::{convert::Infallible, future::Future, path::Path, pin::pin};

use anyhow::{Context as _, bail};
use ipnet::IpNet;
use proxy_common::{Family, V4, V6};
use tokio::{
    sync::{mpsc, watch},
    task::{JoinError, JoinSet},
    time::{Instant, sleep_until},
};
use tracing::{info, warn};

use super::{
    measures::Measures,
    memory,
    mending::{self, Mended},
    node_addresses,
    objects::Objects,
    outside,
    served_devices::ServedDevices,
    served_sockets,
    succession::Succession,
    unread::Unread,
    verified::Verified,
};
use crate::{
    bpf::{self, FlowBatches, LocalityTables, Object, Tables},
    chain::chain,
    collector,
    devices::{DeviceEvent, DeviceWatcher, NetlinkError, NodeAddresses},
    foreign_nat,
    host_settings::HostSettings,
    local_clients::Detection,
    preflight::{CgroupFacts, Facts},
    reconcile::AdoptError,
    runner::{Found, Runner},
    sockets::SocketPrograms,
    watch::Source as _,
};

/// How many events of the source may wait.
const EVENTS: usize = 1024;

/// The tables of the families that the node has, for the runner and for the collector.
pub(super) struct Opened {
    v4: Option<OfFamily<V4>>,
    v6: Option<OfFamily<V6>>,
}

/// Those of one family.
struct OfFamily<F: Family> {
    served: Tables<F>,
    collected: (Tables<F>, FlowBatches<F>),
}

impl Opened {
    /// Opens the tables that are pinned in a directory.
    ///
    /// # Errors
    ///
    /// If one is not there or cannot be opened.
    pub(super) fn of(facts: &Facts, pins: &Path) -> Result<Self, bpf::Error> {
        Ok(Self { v4: open(facts, pins)?, v6: open(facts, pins)? })
    }
}

fn open<F: Family>(facts: &Facts, pins: &Path) -> Result<Option<OfFamily<F>>, bpf::Error> {
    let open = || {
        let collected = (Tables::open(pins)?, FlowBatches::open(pins)?);
        Ok(OfFamily { served: Tables::open(pins)?, collected })
    };
    facts.families.has::<F>().then(open).transpose()
}

/// What is kept going, beside the source.
pub(super) struct Parts<'a> {
    pub(super) tables: Opened,
    pub(super) devices: &'a mut ServedDevices,
    pub(super) beside: &'a mut JoinSet<()>,
    pub(super) locality: (LocalityTables, Detection, watch::Receiver<Option<Vec<IpNet>>>),
    pub(super) succession: Succession,
    pub(super) measures: Measures,
}

/// Serves until told to stop, or it must not go on. What is done to a device is done before that is looked at.
pub(super) async fn keep_serving(
    source: Objects,
    facts: &Facts,
    mut runner: Runner,
    watching: impl FnOnce(NodeAddresses) -> Result<DeviceWatcher, NetlinkError>,
    object: &mut Verified,
    parts: Parts<'_>,
    stop: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<()> {
    let mut stop = pin!(stop);
    let mut tasks = JoinSet::new();
    let Parts { tables, devices, beside, locality, mut succession, measures } = parts;
    let (locality, detection, pod_cidrs) = locality;
    runner = serve_family(runner, &mut tasks, tables.v4, &measures)?;
    runner = serve_family(runner, &mut tasks, tables.v6, &measures)?;
    runner = runner.with_all_flows_since(succession.whole_since());
    let left_sockets = runner.left_sockets();
    // Where another version serves, its tables are whole, and the own ones may not be.
    let found = if succession.is_pending() { Found::default() } else { runner.found() };
    let mut unread = Unread::new(found, runner.status(), source.trouble());
    let node_addresses = runner.node_addresses();
    let (sender, events) = mpsc::channel(EVENTS);
    measures.look_up_queue(&sender)?;
    let mut source = pin!(source.run(sender));
    let mut runner = pin!(runner.run(events));

    // Own programs may be there already, after an upgrade that was interrupted: before they get frontends.
    succession.prepare().await?;
    // Devices come after the tables: until then, packets go as they would without Sixfour, or as an agent before has left
    // it. Tables of before do where objects cannot be read (ADR 29).
    tokio::select! {
        biased;
        ended = &mut stop => return ended,
        result = &mut source => return Ok(result?),
        () = &mut runner => bail!("the source has ended"),
        ready = async {
            // What is refused is said at once, whether or not the API can be reached.
            let _: &mut Object = object.get().await?;
            anyhow::Ok(unread.give_way().await?)
        } => ready?,
    }
    let object = object.get().await?;
    outside::tell_local_clients(locality, detection, pod_cidrs, beside)?;
    succession.prepare().await?;
    // Else, once that is over.
    if !succession.is_pending() {
        foreign_nat::begin(object.pins(), facts.families, &mut tasks)?;
    }
    let mut programs = match &facts.cgroup {
        CgroupFacts::Root(root) => {
            let programs = served_sockets::serve(object, root, &mut tasks, left_sockets)?;
            object.keep()?;
            Some(programs)
        }
        _ => None,
    };
    let (mut looks, mut mended, mut is_synced) =
        (mending::looks(), Mended::new(measures.devices.clone()), false);
    let mut watcher = watching(node_addresses::follow(object.pins(), node_addresses, beside)?)?;
    let mut settings = HostSettings::new(watcher.forwarders());
    loop {
        // Before, devices come one after the other.
        if is_synced {
            devices.tell(&measures.devices);
        }
        let retry = devices.next_retry();
        tokio::select! {
            biased;
            ended = &mut stop => return ended,
            result = &mut source => return Ok(result?),
            () = &mut runner => bail!("the source has ended"),
            Some(ended) = tasks.join_next() => {
                let Err::<Infallible, _>(error) = ended.flatten();
                return Err(error).context("a task has crashed");
            }
            event = watcher.next() => {
                let event = event.context("the watch of devices has ended")?;
                let synced = event == DeviceEvent::Synced;
                devices.handle(object, event).await;
                // From now on, something of it may serve.
                object.keep()?;
                // Not before all objects are known, and what they say is in the tables.
                if synced {
                    is_synced = true;
                    devices.take_off_others(object).await;
                    take_off_sockets(object, programs.is_some());
                    if devices.failed() == 0 || !succession.is_pending() {
                        succession.end(object, facts, &mut tasks).await?;
                    }
                    mending::pin_programs(object, &mut mended);
                    // Before: whoever waits for it may ask something at once.
                    memory::give_back();
                    info!(failed_devices = devices.failed(), "ready");
                }
            }
            () = sleep_until(retry.unwrap_or_else(Instant::now)), if retry.is_some() => {
                devices.retry(object).await;
            }
            _ = looks.tick() => {
                mending::look(object, devices, programs.as_mut(), &mut mended).await;
                // A device that cannot be served for so long has nobody's flows to lose.
                if is_synced && succession.is_pending() {
                    succession.end(object, facts, &mut tasks).await?;
                    // The former programs may have been in the way.
                    devices.hurry();
                }
            }
            () = settings.changed() => settings.look(),
            () = unread.tell() => {}
            () = devices.driver_news() => devices.look_again(object).await,
        }
    }
}

/// Takes off what agents before have left at sockets, if these are not served.
fn take_off_sockets(object: &Object, serves_sockets: bool) {
    if !serves_sockets && let Err(error) = SocketPrograms::take_off(&object.links()) {
        warn!(error = chain(&error), "cannot take the programs off the control group");
    }
}

/// Adds a family to those that are served, if the node has it. What its tables hold is taken over.
fn serve_family<F>(
    runner: Runner,
    tasks: &mut JoinSet<Result<Infallible, JoinError>>,
    tables: Option<OfFamily<F>>,
    measures: &Measures,
) -> Result<Runner, AdoptError>
where
    F: Family<Addr: Send> + Send,
{
    let Some(OfFamily { served, collected: (tables, batches) }) = tables else {
        return Ok(runner);
    };
    let (runner, walker) = runner.with_walked_family::<F, _>(served)?;
    let _ = tasks.spawn(collector::run(tables, batches, walker, measures.updates.entries()));
    Ok(runner)
}
