// SPDX-License-Identifier: Apache-2.0
//! `sixfour run`: puts the parts together and keeps them going until told to stop.

use std::{collections::BTreeSet, future::Future, path::Path, pin::pin, time::Duration};

use anyhow::{Context as _, bail};
use proxy_common::{Family, V4, V6};
use rustix::system::uname;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, watch},
    task::{JoinHandle, spawn_blocking},
    time::{MissedTickBehavior, interval},
};
use tracing::{debug, info, warn};

use crate::{
    bpf::{DeviceTables, KernelLog, Object, Tables},
    cli::RunArgs,
    collector,
    devices::{Attacher, DeviceEvent, DeviceWatcher, Patterns},
    logging,
    preflight::{self, Facts, Families},
    reconcile::runner::Runner,
    watch::{Source as _, manifests::Manifests},
};

mod client_devices;

use client_devices::ClientDevices;

/// How many events of the source may wait.
const EVENTS: usize = 1024;
/// How often silent flows are collected.
const COLLECTION: Duration = Duration::from_secs(30);

/// Serves until SIGINT or SIGTERM.
///
/// # Errors
///
/// If the node lacks something, or a part cannot start.
pub fn run(arguments: &RunArgs) -> anyhow::Result<()> {
    logging::init(&arguments.log_level, arguments.log_format).context("--log-level")?;
    Object::check()?;
    let facts = Facts::gather(&arguments.pin_root.pin_root)?;
    let lacks = preflight::check(&facts);
    if !lacks.is_empty() {
        bail!(lacks.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"));
    }
    for family in facts.families.missing() {
        info!(family, "the kernel does not have this family: the other one is served");
    }
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?
        .block_on(serve(arguments, facts.families))
}

async fn serve(arguments: &RunArgs, families: Families) -> anyhow::Result<()> {
    let stop = stop_signal().context("cannot listen to signals")?;
    let patterns = Patterns::parse(&arguments.exclude_device, &arguments.include_device)?;
    let node = node_name(arguments);
    info!(version = env!("SIXFOUR_VERSION"), node, "starting");

    let mut object = Object::load(&arguments.pin_root.pin_root, &arguments.snat_port_range)?;
    let attacher = Attacher::new(arguments.attach.into())?;
    let kernel_log = KernelLog::open(&mut object)?;
    let mut devices = ClientDevices::new(DeviceTables::open(object.pins())?, attacher);
    let served = tokio::select! {
        result = keep_serving(
            arguments, families, &node, patterns, &mut object, &mut devices
        ) => result,
        result = kernel_log.run() => match result {
            Ok(never) => match never {},
            Err(error) => Err(error.into()),
        },
        () = stop => Ok(()),
    };
    devices.detach_all().await;
    object.unpin().context("cannot remove the pinned maps")?;
    info!("stopped");
    served
}

/// Serves for as long as nobody stops it.
async fn keep_serving(
    arguments: &RunArgs,
    families: Families,
    node: &str,
    patterns: Patterns,
    object: &mut Object,
    devices: &mut ClientDevices,
) -> anyhow::Result<()> {
    let pins = object.pins().to_owned();
    let mut runner = Runner::new(node);
    if families.has::<V4>() {
        runner = runner.with_family::<V4, _>(Tables::open(&pins)?);
    }
    if families.has::<V6>() {
        runner = runner.with_family::<V6, _>(Tables::open(&pins)?);
    }
    let mut status = runner.status();
    let (sender, events) = mpsc::channel(EVENTS);
    let mut source = pin!(Manifests::new(&arguments.manifests).run(sender));
    let mut runner = pin!(runner.run(events));

    // Devices come after the tables: until then, packets go as they would without Sixfour.
    tokio::select! {
        result = &mut source => return Ok(result?),
        () = &mut runner => bail!("the source has ended"),
        synced = status.wait_for(|status| status.synced) => drop(synced?),
    }
    let (_node_addresses, node_addresses) = watch::channel(BTreeSet::new());
    let mut watcher = DeviceWatcher::spawn(patterns, node_addresses)?;
    let mut collections = interval(COLLECTION);
    collections.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            result = &mut source => return Ok(result?),
            () = &mut runner => bail!("the source has ended"),
            event = watcher.next() => {
                let event = event.context("the watch of devices has ended")?;
                devices.handle(object, &event).await;
                if event == DeviceEvent::Synced {
                    info!("ready");
                }
            }
            _ = collections.tick() => {
                collect::<V4>(&pins);
                collect::<V6>(&pins);
            }
        }
    }
}

/// Collects the silent flows of a family, beside everything else.
fn collect<F: Family>(pins: &Path) {
    let pins = pins.to_owned();
    drop::<JoinHandle<()>>(spawn_blocking(move || {
        let removed =
            Tables::<F>::open(&pins).and_then(|mut tables| collector::collect(&mut tables));
        match removed {
            Ok(removed) => debug!(family = F::NAME, removed, "collected silent flows"),
            Err(error) => warn!(
                family = F::NAME,
                error = %anyhow::Error::from(error),
                "cannot collect silent flows"
            ),
        }
    }));
}

/// Completes at the first SIGINT or SIGTERM.
fn stop_signal() -> std::io::Result<impl Future<Output = ()>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        let _: Option<()> = tokio::select! {
            signal = interrupt.recv() => signal,
            signal = terminate.recv() => signal,
        };
    })
}

/// The name of the own Node: as kubelet and kube-proxy find it, in lower case.
fn node_name(arguments: &RunArgs) -> String {
    let name = arguments.hostname_override.clone();
    let name = name.unwrap_or_else(|| uname().nodename().to_string_lossy().into_owned());
    name.trim().to_lowercase()
}
