// SPDX-License-Identifier: Apache-2.0
//! `sixfour run`: puts the parts together and keeps them going until told to stop.

use std::{
    collections::BTreeSet, convert::Infallible, future::Future, net::IpAddr, path::Path, pin::pin,
};

use anyhow::{Context as _, bail};
use proxy_common::{Family, V4, V6};
use rustix::system::uname;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, watch},
    task::{JoinError, JoinSet},
    time::{Instant, sleep_until},
};
use tracing::{info, warn};

use crate::{
    bpf::{
        self, DeviceTables, HopsTable, KernelLog, LocalityTables, Object, RouteMtus, Tables,
        WaysTable,
    },
    cli::{RunArgs, SocketLb},
    collector,
    devices::{
        Attacher, DeviceEvent, DeviceOptions, DeviceWatcher, NetlinkError, Patterns, XdpModes,
    },
    fast_path,
    host_settings::HostSettings,
    local_clients::Detection,
    logging,
    plan::Options,
    preflight::{self, CgroupFacts, Facts},
    runner::Runner,
    watch::Source as _,
};

mod memory;
mod objects;
mod outside;
mod served_devices;
mod served_sockets;
mod verified;

use objects::Objects;
use served_devices::ServedDevices;
use verified::{Verified, load};

/// How many events of the source may wait.
const EVENTS: usize = 1024;

/// Serves until SIGINT or SIGTERM.
///
/// # Errors
///
/// If the node lacks something, or a part cannot start.
pub fn run(arguments: &RunArgs) -> anyhow::Result<()> {
    logging::init(&arguments.log_level, arguments.log_format);
    Object::check()?;
    let node = node_name(arguments.hostname_override.as_deref())?;
    let options = arguments.options()?;
    let detection = arguments.local_clients.detection()?;
    let source = Objects::new(arguments, &node)?;
    let patterns = Patterns::new(&arguments.exclude_device, &arguments.include_device)
        .context("the patterns of devices are too much together")?;
    let device_options = DeviceOptions {
        patterns,
        local_clients: detection.local.clone(),
        xdp: XdpModes::new(&arguments.xdp),
    };
    let serves_sockets = arguments.socket_lb != SocketLb::Off;
    let cgroup_root = arguments.cgroup_root.as_deref();
    let facts = Facts::gather(&arguments.pin_root.pin_root, serves_sockets, cgroup_root)?;
    let lacks = preflight::check(&facts);
    if !lacks.is_empty() {
        bail!(lacks.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"));
    }
    let fast_path = fast_path::decide(arguments.fast_path)?;
    for family in facts.families.missing() {
        info!(family, "the kernel does not have this family: the other one is served");
    }
    if let CgroupFacts::Root(root) = &facts.cgroup
        && !root.is_whole
        && cgroup_root.is_none()
    {
        let cgroup = root.path.display();
        warn!(
            %cgroup,
            "no cgroup2 hierarchy is mounted from its root, as in a container: only processes below this control group are served at their sockets; mount the host's /sys/fs/cgroup, or name the control group with --cgroup-root"
        );
    }
    if !device_options.xdp.are_off() {
        fast_path::tell_of_drivers();
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let wanted = Wanted { arguments, node: &node, options, fast_path, detection, device_options };
    let served = runtime.block_on(serve(wanted, source, &facts));
    // A plugin that gives credentials may hang; nobody waits for it any more.
    runtime.shutdown_background();
    served
}

/// What the command line asks for.
struct Wanted<'a> {
    arguments: &'a RunArgs,
    node: &'a str,
    options: Options,
    fast_path: bool,
    detection: Detection,
    device_options: DeviceOptions,
}

async fn serve(wanted: Wanted<'_>, source: Objects, facts: &Facts) -> anyhow::Result<()> {
    let Wanted { arguments, node, options, fast_path, detection, device_options } = wanted;
    let stopped = stop_signal().context("cannot listen to signals")?;
    let mut rules =
        fast_path::Watch::begin(arguments.fast_path).context("cannot start a thread")?;
    let stop = async {
        tokio::select! {
            () = stopped => Ok(()),
            error = rules.forbidden() => Err(error.into()),
        }
    };
    info!(version = env!("SIXFOUR_VERSION"), node, "starting");

    let source_ports = &arguments.snat_port_range;
    outside::check_source_ports(source_ports);
    let mut object = load(arguments, &options.node_ports, fast_path)?;
    let _kernel_log = KernelLog::spawn(&mut object)?;
    let attacher = Attacher::new(arguments.attach.into())?;
    let tables = DeviceTables::open(object.pins())?;
    let mut devices = ServedDevices::new(tables, WaysTable::open(object.pins())?, attacher);
    let (addresses, local_addresses) = watch::channel(BTreeSet::new());
    let mut runner = Runner::new(node, options)
        .with_local_addresses(local_addresses)
        .with_source_ports(source_ports.clone())
        .giving_back(memory::give_back);
    if arguments.socket_lb != SocketLb::Off {
        runner = runner.with_sockets();
    }
    let (events, publisher) = source.events(node);
    runner = runner.with_events(events.clone());
    let mut beside = JoinSet::new();
    if let Some(publisher) = publisher {
        let _ = beside.spawn(publisher.run());
    }
    outside::answer_health_checks(&runner, node, events, &mut beside);
    let ways = (WaysTable::open(object.pins())?, RouteMtus::open(object.pins())?);
    if fast_path || !device_options.xdp.are_off() {
        outside::tell_of_ways(ways, &mut beside)?;
    }
    if !device_options.xdp.are_off() {
        outside::tell_of_hops(HopsTable::open(object.pins())?, &mut beside)?;
    }
    let locality = LocalityTables::open(object.pins())?;
    outside::tell_local_clients(locality, detection, runner.pod_cidrs(), &mut beside)?;
    let watching = |node_addresses| DeviceWatcher::spawn(device_options, node_addresses, addresses);
    // While objects are being listed (ADR 14).
    let mut object = Verified::begin(object)?;
    let served =
        keep_serving(source, facts, runner, watching, &mut object, &mut devices, stop).await;
    drop(beside);
    devices.detach_all().await;
    let served = object.finish(served).await;
    info!("stopped");
    served
}

/// Serves until told to stop, or it must not go on. What is done to a device is done before that is looked at.
async fn keep_serving(
    source: Objects,
    facts: &Facts,
    mut runner: Runner,
    watching: impl FnOnce(watch::Receiver<BTreeSet<IpAddr>>) -> Result<DeviceWatcher, NetlinkError>,
    object: &mut Verified,
    devices: &mut ServedDevices,
    stop: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<()> {
    let mut stop = pin!(stop);
    let mut tasks = JoinSet::new();
    if facts.families.has::<V4>() {
        runner = serve_family::<V4>(runner, &mut tasks, object.pins())?;
    }
    if facts.families.has::<V6>() {
        runner = serve_family::<V6>(runner, &mut tasks, object.pins())?;
    }
    let left_sockets = runner.left_sockets();
    let mut status = runner.status();
    let node_addresses = runner.node_addresses();
    let (sender, events) = mpsc::channel(EVENTS);
    let mut source = pin!(source.run(sender));
    let mut runner = pin!(runner.run(events));

    // Devices come after the tables: until then, packets go as they would without Sixfour.
    tokio::select! {
        biased;
        ended = &mut stop => return ended,
        result = &mut source => return Ok(result?),
        () = &mut runner => bail!("the source has ended"),
        ready = async {
            // What is refused is said at once, whether or not the API can be reached.
            let _: &mut Object = object.get().await?;
            drop(status.wait_for(|status| status.synced).await?);
            anyhow::Ok(())
        } => ready?,
    }
    let object = object.get().await?;
    let _programs = match &facts.cgroup {
        CgroupFacts::Root(root) => {
            Some(served_sockets::serve(object, root, &mut tasks, left_sockets)?)
        }
        _ => None,
    };
    let mut watcher = watching(node_addresses)?;
    let mut settings = HostSettings::new(watcher.forwarders());
    loop {
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
                if synced {
                    // Before: whoever waits for it may ask something at once.
                    memory::give_back();
                    info!(failed_devices = devices.failed(), "ready");
                }
            }
            () = sleep_until(retry.unwrap_or_else(Instant::now)), if retry.is_some() => {
                devices.retry(object).await;
            }
            () = settings.changed() => settings.look(),
            () = devices.driver_news() => devices.look_again(object).await,
        }
    }
}

/// Adds a family to those that are served.
fn serve_family<F>(
    runner: Runner,
    tasks: &mut JoinSet<Result<Infallible, JoinError>>,
    pins: &Path,
) -> Result<Runner, bpf::Error>
where
    F: Family<Addr: Send> + Send,
{
    let _ = tasks.spawn(collector::run(Tables::<F>::open(pins)?));
    Ok(runner.with_family::<F, _>(Tables::open(pins)?))
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
fn node_name(given: Option<&str>) -> anyhow::Result<String> {
    let host = uname();
    let name = given.map_or_else(|| host.nodename().to_string_lossy(), Into::into);
    let name = name.trim().to_lowercase();
    if name.is_empty() {
        bail!("the node has no name: give it one with --hostname-override");
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::node_name;

    #[test]
    fn a_node_has_a_name_in_lower_case() {
        assert_eq!(node_name(Some(" Node-A ")).unwrap(), "node-a");
        assert!(!node_name(None).unwrap().is_empty());
        let error = node_name(Some(" ")).unwrap_err();
        assert!(error.to_string().contains("--hostname-override"), "{error}");
    }
}
