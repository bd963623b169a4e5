// SPDX-License-Identifier: Apache-2.0
//! `sixfour run`: puts the parts together and keeps them going until told to stop.

use std::{future::Future, path::Path, pin::pin, sync::Arc};

use anyhow::{Context as _, bail};
use rustix::system::uname;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
    task::JoinSet,
};
use tracing::{error, info, warn};

use crate::{
    bpf::{DeviceTables, HopsTable, KernelLog, LocalityTables, Object, Pins, RouteMtus, WaysTable},
    cleanup,
    cli::{RunArgs, SocketLb},
    config::KubeProxyConfiguration,
    devices::{Attacher, DeviceOptions, DeviceWatcher, Patterns, XdpModes},
    fast_path,
    local_clients::Detection,
    logging,
    plan::Options,
    preflight::{self, CgroupFacts, Facts},
    runner::Runner,
    status::{self, Servers},
};

mod configured;
mod measures;
mod memory;
mod mending;
mod node_addresses;
mod objects;
mod outside;
mod pin_root;
mod served_devices;
mod served_sockets;
mod serving;
mod succession;
mod unread;
mod verified;
mod ways;

use configured::{ConfigFile, Updated};
use measures::Measures;
use objects::Objects;
use served_devices::ServedDevices;
use serving::{Opened, Parts, keep_serving};
use succession::Succession;
use verified::{Verified, load};

/// Serves until SIGINT or SIGTERM, and leaves all as it is then: programs go on without an agent.
///
/// # Errors
///
/// If the node lacks something, or a part cannot start.
pub fn run(arguments: &RunArgs) -> anyhow::Result<()> {
    // Before it is read: what changes since then is seen.
    let file = arguments.kube_proxy.always.config.as_deref();
    let file = file.map(|path| {
        ConfigFile::watch(path).with_context(|| format!("cannot follow {}", path.display()))
    });
    let file = file.transpose()?;
    let configuration = arguments.kube_proxy.configuration()?;
    logging::init(&arguments.log_level(&configuration), arguments.log_format(&configuration));
    Object::check()?;
    let node = node_name(&configuration.hostname_override)?;
    configured::apply(&arguments.kube_proxy, &configuration);
    let options = arguments.options(&configuration);
    let detection = configuration.detection();
    let source = Objects::new(arguments, &configuration, &node)?;
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
    let wanted =
        Wanted { arguments, configuration, node: &node, options, detection, device_options, file };
    let served = runtime.block_on(serve(wanted, source, &facts));
    // A plugin that gives credentials may hang; nobody waits for it any more.
    runtime.shutdown_background();
    served
}

/// What the command line asks for.
struct Wanted<'a> {
    arguments: &'a RunArgs,
    configuration: KubeProxyConfiguration,
    node: &'a str,
    options: Options,
    detection: Detection,
    device_options: DeviceOptions,
    file: Option<ConfigFile>,
}

async fn serve(mut wanted: Wanted<'_>, source: Objects, facts: &Facts) -> anyhow::Result<()> {
    let mut stopped = pin!(stop_signal().context("cannot listen to signals")?);
    let file = wanted.file.take();
    let mut updated = pin!(updated(file));
    // Before anything is read there or touched.
    let pins = tokio::select! {
        biased;
        () = &mut stopped => {
            info!("stopped");
            return Ok(());
        }
        updated = &mut updated => return Err(updated.into()),
        pins = pin_root::claim(&wanted.arguments.pin_root.pin_root) => pins?,
    };
    let fast_path = match fast_path::decide(wanted.arguments.fast_path) {
        Ok(fast_path) => fast_path,
        Err(error) => {
            // An agent before may have been let.
            if pins.has_former()? {
                take_everything_off(pins.root()).await;
            }
            return Err(error.into());
        }
    };
    let mut rules =
        fast_path::Watch::begin(wanted.arguments.fast_path).context("cannot start a thread")?;
    let stop = async {
        tokio::select! {
            () = stopped => Ok(()),
            updated = updated => Err(updated.into()),
            error = rules.forbidden() => Err(error.into()),
        }
    };
    // It is large.
    Box::pin(serve_with(pins, wanted, fast_path, source, facts, stop)).await
}

/// Serves with a pin root that is the own one.
async fn serve_with(
    pins: Pins,
    wanted: Wanted<'_>,
    fast_path: bool,
    source: Objects,
    facts: &Facts,
    stop: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<()> {
    let Wanted { arguments, configuration, node, options, detection, device_options, .. } = wanted;
    info!(version = env!("SIXFOUR_VERSION"), node, "starting");

    let source_ports = &arguments.snat_port_range;
    outside::check_source_ports(source_ports);
    let mut object = load(pins, arguments, &options.node_ports, fast_path)?;
    let _kernel_log = KernelLog::spawn(&mut object)?;
    let attacher = Attacher::new(arguments.attach.into(), object.links())?;
    let tables = DeviceTables::open(object.pins())?;
    let mut devices = ServedDevices::new(tables, WaysTable::open(object.pins())?, attacher);
    let (addresses, local_addresses) = watch::channel(None);
    let measures = Measures::new(&configuration, arguments.metrics_services, &object)
        .context("cannot measure anything")?;
    let source = source.measured_by(measures.updates.watches());
    let mut runner = Runner::new(node, options)
        .measured_by(measures.updates.clone())
        .with_local_addresses(local_addresses)
        .with_source_ports(source_ports.clone())
        .giving_back(memory::give_back);
    if arguments.socket_lb != SocketLb::Off {
        runner = runner.with_sockets();
    }
    // As long as an update may take, and is tried again.
    let patience = 2 * configuration.sync_period().positive().unwrap_or_default();
    runner = runner.with_patience(patience);
    let has_nodes = arguments.manifests.is_none();
    let health =
        status::Health::new(runner.progress(), patience, has_nodes, measures.health.clone());
    let info = status::Info::new(
        &arguments.report_proxy_mode,
        &configuration,
        Arc::clone(&measures.page),
    )?;
    let mut servers = Servers::begin(configuration.status_places(), health, info)
        .context("cannot start a thread")?;
    let stop = async {
        tokio::select! {
            stopped = stop => stopped,
            error = servers.failed() => Err(error.into()),
        }
    };
    let (events, publisher) = source.events(node);
    runner = runner.with_events(events.clone());
    let mut beside = JoinSet::new();
    if let Some(publisher) = publisher {
        let _ = beside.spawn(publisher.run());
    }
    outside::answer_health_checks(&runner, node, events, &mut beside);
    let (ways, mtus) = (WaysTable::open(object.pins())?, RouteMtus::open(object.pins())?);
    if fast_path || !device_options.xdp.are_off() {
        ways::tell(ways, mtus, &mut beside)?;
    }
    if !device_options.xdp.are_off() {
        outside::tell_of_hops(HopsTable::open(object.pins())?, &mut beside)?;
    }
    let locality = (LocalityTables::open(object.pins())?, detection, runner.pod_cidrs());
    let watching = |node_addresses| DeviceWatcher::spawn(device_options, node_addresses, addresses);
    let succession = Succession::begin(&object, facts);
    let tables = Opened::of(facts, object.pins())?;
    // While objects are being listed (ADR 14).
    let mut object = Verified::begin(object)?;
    let (devices, beside_them) = (&mut devices, &mut beside);
    let parts = Parts { tables, devices, beside: beside_them, locality, succession, measures };
    let served = keep_serving(source, facts, runner, watching, &mut object, parts, stop).await;
    drop(beside);
    // Rules that the fast path must not go past would not hold as long as programs are there (ADR 16).
    if served.as_ref().is_err_and(anyhow::Error::is::<fast_path::Error>) {
        take_everything_off(&arguments.pin_root.pin_root).await;
    }
    let served = object.finish(served).await;
    info!("stopped");
    served
}

/// Does what `sixfour cleanup` does, for an agent that has the pin root and must not leave anything.
async fn take_everything_off(pin_root: &Path) {
    match cleanup::remove_all(pin_root).await {
        Ok(removed) => info!("{removed}"),
        Err(error) => error!(error = format!("{error:#}"), "cannot take everything off"),
    }
}

/// Completes when the configuration file says something else, if there is one.
async fn updated(file: Option<ConfigFile>) -> Updated {
    match file {
        Some(mut file) => file.updated().await,
        None => std::future::pending().await,
    }
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

/// The name of the own Node: as kubelet and kube-proxy find it, in lower case. Without one it is the host's.
fn node_name(given: &str) -> anyhow::Result<String> {
    let host = uname();
    let name = if given.is_empty() { host.nodename().to_string_lossy() } else { given.into() };
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
        assert_eq!(node_name(" Node-A ").unwrap(), "node-a");
        assert!(!node_name("").unwrap().is_empty());
        let error = node_name(" ").unwrap_err();
        assert!(error.to_string().contains("--hostname-override"), "{error}");
    }
}
