// SPDX-License-Identifier: Apache-2.0

//! The agent ends whenever it is told to, and leaves nothing that cannot be removed.

use std::net::{SocketAddr, UdpSocket};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::lifecycle::binary;
use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use proxy_tests::agent::cgroup_root;
use proxy_tests::both_families;
use proxy_tests::cluster::{Cluster, PORT, WEB, web};
use proxy_tests::family::{DualAddress, TestFamily};
use proxy_tests::process::Process;
use proxy_tests::protocol::Protocol;
use proxy_tests::scratch::Scratch;
use proxy_tests::topology::NodeSpec;
use proxy_tests::traffic::Client;

both_families!(a_flood_of_refusals_holds_nothing_up);

/// How long an exit may take, while the programs are verified on a machine that is busy.
const EXIT: Duration = Duration::from_mins(1);
/// How long a change or a stop may take amid a flood, which would hold it up for as long as it lasts.
const SOON: Duration = Duration::from_secs(15);
/// A Service without endpoints.
const EMPTY: DualAddress = DualAddress::cluster_ip(13);

/// Whether any device of the node has a clsact queueing discipline.
pub(crate) fn has_clsact(cluster: &Cluster) -> Result<bool> {
    let node = cluster.topology.node("anc-node").host().namespace();
    let shown = node.run(|| Ok(Command::new("tc").args(["qdisc", "show"]).output()?))?;
    Ok(String::from_utf8_lossy(&shown.stdout).contains("clsact"))
}

#[test]
fn a_stop_at_any_time_leaves_all_or_nothing() -> Result<()> {
    let cluster = Cluster::of(NodeSpec::bridge("anc-node"))?;
    cluster.serve_web(&["web-1"])?;
    let scratch = Scratch::new("stops")?;
    let pin_root = scratch.mount_bpffs()?.join("sixfour");
    let node = cluster.topology.node("anc-node").host().namespace();
    // How long it takes until the devices have been seen to, to stop around that too.
    let started = Instant::now();
    let mut agent = cluster.agent("anc-node").argument("--attach=clsact").start()?;
    let ready = started.elapsed();
    ensure!(has_clsact(&cluster)? && agent.stop()?.success());
    let mut longest = Duration::ZERO;
    for attempt in 0..16 {
        let mut command = node.command(binary()?);
        let _ = command
            .args(["run", "--attach=clsact", "--hostname-override=anc-node", "--manifests"])
            .arg(cluster.manifests.directory())
            .arg("--pin-root")
            .arg(&pin_root)
            .args(cgroup_root(node)?)
            .stdin(Stdio::null())
            .stderr(Stdio::null());
        let process = Process::spawn(node, command)?;
        // Most of them where the devices are.
        let share = if attempt < 8 { attempt } else { 6 + attempt % 4 };
        thread::sleep(ready * share / 8 + Duration::from_millis(u64::from(attempt)));
        process.signal(Signal::SIGTERM)?;
        let told = Instant::now();
        let status = process.wait(EXIT)?;
        longest = longest.max(told.elapsed());
        // Before it listens to signals it has not done anything either.
        let unheard = status.signal() == Some(Signal::SIGTERM as i32);
        ensure!(status.success() || unheard, "attempt {attempt}: {status}");
        // Where programs were attached, they stay with all that they need; else nothing does.
        ensure!(pin_root.exists() || !has_clsact(&cluster)?, "attempt {attempt}: no pins");
        let mut cleanup = node.command(binary()?);
        let _ = cleanup.args(["cleanup", "--pin-root"]).arg(&pin_root);
        let cleaned = node.run(|| Ok(cleanup.output()?))?;
        ensure!(cleaned.status.success(), "{}", String::from_utf8_lossy(&cleaned.stderr));
        ensure!(!pin_root.exists(), "attempt {attempt}: there are pins");
        ensure!(!has_clsact(&cluster)?, "attempt {attempt}: there is a clsact");
    }
    eprintln!("ready after {ready:?}; ends at most {longest:?} after it is told to");
    Ok(())
}

fn a_flood_of_refusals_holds_nothing_up<F: TestFamily>() -> Result<()> {
    let cluster = Cluster::of(NodeSpec::bridge("anc-node"))?;
    cluster.manifests.apply(&web(EMPTY, "empty"))?;
    let _servers = cluster.servers(&["web-1"])?;
    let mut agent = cluster.agent("anc-node").start()?;
    let host = cluster.topology.pod("client");
    let empty = SocketAddr::new(EMPTY.of(F::FAMILY), PORT);
    let sockets: Vec<UdpSocket> = host.namespace().run(|| {
        let any = SocketAddr::new(F::FAMILY.unspecified(), 0);
        (0..2).map(|_| Ok(UdpSocket::bind(any)?)).collect()
    })?;
    let flooding = AtomicBool::new(true);
    thread::scope(|scope| {
        for socket in &sockets {
            let _ = scope.spawn(|| {
                while flooding.load(Ordering::Relaxed) {
                    // That it is refused is what it is for.
                    let _ = socket.send_to(b"?", empty);
                }
            });
        }
        let mut flooded = || -> Result<()> {
            thread::sleep(Duration::from_millis(500));
            let changed = Instant::now();
            cluster.serve_web(&["web-1"])?;
            let client = Client::new(host).patience(Duration::from_millis(500));
            let target = SocketAddr::new(WEB.of(F::FAMILY), PORT);
            while client.ask(Protocol::Tcp, target).is_err() {
                ensure!(changed.elapsed() < SOON, "a change is not applied amid a flood");
            }
            eprintln!("a change amid a flood: {:?}", changed.elapsed());
            let told = Instant::now();
            ensure!(agent.stop()?.success());
            eprintln!("a stop amid a flood: {:?}", told.elapsed());
            ensure!(told.elapsed() < SOON, "it stops after {:?}", told.elapsed());
            Ok(())
        };
        let result = flooded();
        flooding.store(false, Ordering::Relaxed);
        result
    })
}
