// SPDX-License-Identifier: Apache-2.0

//! Nothing is left behind, however a process ends.

use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;
use std::{env, fs, panic, thread};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use proxy_tests::process::Process;
use proxy_tests::scratch::Scratch;
use proxy_tests::topology::{BetweenNodes, Node, NodeSpec, Topology, TopologySpec};

/// Set in the processes that a test starts to be ended by it.
const HOLD: &str = "SIXFOUR_TEST_HOLD";

/// One of everything that could be left behind.
struct Everything {
    topology: Topology,
    processes: [Process; 2],
    scratch: Scratch,
}

impl Everything {
    fn make() -> Result<Self> {
        let topology = TopologySpec::new()
            .between_nodes(BetweenNodes::Vxlan)
            .node(NodeSpec::bridge("anc-node").pod("web-1", 12))
            .node(NodeSpec::routed("other-node").pod("web-2", 21))
            .build()?;
        let pod = topology.pod("web-1").namespace();
        let node = topology.node("anc-node").host().namespace();
        // The other one is known by its control group only.
        let sleeping = [(pod, pod.command("sleep")), (node, Command::new("sleep"))];
        let [first, second] = sleeping.map(|(namespace, mut sleep)| {
            let _ = sleep.arg("1000").stdout(Stdio::null()).stderr(Stdio::null());
            Process::spawn(namespace, sleep)
        });
        let processes = [first?, second?];
        let scratch = Scratch::new("anc-node")?;
        drop(scratch.mount_bpffs()?);
        Ok(Self { topology, processes, scratch })
    }

    /// Files and directories that are there as long as it is.
    fn paths(&self) -> Vec<PathBuf> {
        let nodes = self.topology.nodes().map(Node::host);
        let hosts = nodes.chain(self.topology.pods());
        let hosts = hosts.flat_map(|host| {
            let cgroup = host.cgroup().expect("nodes and pods have one");
            [host.namespace().path(), cgroup.to_owned()]
        });
        let processes = self.processes.iter().map(|it| format!("/proc/{}", it.id()).into());
        hosts.chain([self.scratch.path().to_owned()]).chain(processes).collect()
    }
}

/// Starts this very test in a process that makes everything and waits.
fn start_holder(test: &str) -> Result<(Child, Vec<PathBuf>)> {
    let mut child = Command::new(env::current_exe()?)
        .args(["--exact", test, "--nocapture"])
        .env(HOLD, "1")
        .stdout(Stdio::piped())
        .stdin(Stdio::piped())
        .spawn()?;
    let stdout = BufReader::new(child.stdout.take().context("no pipe")?);
    let lines = stdout.lines().map_while(Result::ok).skip_while(|line| line != "made");
    let paths = lines.skip(1).take_while(|line| line != "all").map(PathBuf::from).collect();
    Ok((child, paths))
}

/// What that process does. It also ends when its parent does.
fn hold() -> Result<()> {
    let everything = Everything::make()?;
    println!("\nmade");
    for path in everything.paths() {
        println!("{}", path.display());
    }
    println!("all");
    let _ = std::io::stdin().read(&mut [0])?;
    Ok(())
}

fn end(child: &mut Child, signal: Signal) -> Result<ExitStatus> {
    // To wait closes the pipe, and that would end it too.
    let _stdin = child.stdin.take();
    kill(Pid::from_raw(child.id().try_into()?), signal)?;
    Ok(child.wait()?)
}

fn present(paths: &[PathBuf]) -> Vec<&Path> {
    paths.iter().filter(|path| path.exists()).map(PathBuf::as_path).collect()
}

/// No path is mounted, nor anything below it.
fn no_mounts(paths: &[PathBuf]) -> Result<()> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    for path in paths {
        let mounted = mounts.split_whitespace().any(|field| Path::new(field).starts_with(path));
        ensure!(!mounted, "{} is still mounted", path.display());
    }
    Ok(())
}

fn no_devices_outside() -> Result<()> {
    let devices = fs::read_to_string("/proc/net/dev")?;
    let names = devices.lines().filter_map(|line| line.trim().split_once(':'));
    for (name, _) in names {
        let ours = ["cni0", "fabric", "flannel.1", "anc-node", "other-node"];
        ensure!(!ours.contains(&name) && !name.starts_with("veth-web-"), "{name} is outside");
    }
    Ok(())
}

#[test]
fn drop_takes_everything_down() -> Result<()> {
    let everything = Everything::make()?;
    let paths = everything.paths();
    assert_eq!(present(&paths), paths);
    no_devices_outside()?;
    drop(everything);
    assert_eq!(present(&paths), [] as [&Path; 0]);
    no_mounts(&paths)
}

#[test]
fn panic_takes_everything_down() -> Result<()> {
    let panicked = thread::spawn(|| {
        let everything = Everything::make().expect("making everything");
        panic::panic_any(everything.paths());
    });
    let payload = panicked.join().expect_err("it panics");
    let paths = payload.downcast::<Vec<PathBuf>>().ok().context("another panic")?;
    assert_eq!(present(&paths), [] as [&Path; 0]);
    no_mounts(&paths)
}

#[test]
fn signals_take_everything_down() -> Result<()> {
    if env::var_os(HOLD).is_some() {
        return hold();
    }
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let (mut child, paths) = start_holder("signals_take_everything_down")?;
        assert_eq!(present(&paths), paths);
        ensure!(!paths.is_empty(), "nothing was made");
        let status = end(&mut child, signal)?;
        assert_eq!(status.signal(), Some(signal as i32));
        assert_eq!(present(&paths), [] as [&Path; 0], "after {signal}");
        no_mounts(&paths)?;
    }
    no_devices_outside()
}

#[test]
fn next_run_sweeps_up_after_a_kill() -> Result<()> {
    if env::var_os(HOLD).is_some() {
        return hold();
    }
    let (mut killed, left) = start_holder("next_run_sweeps_up_after_a_kill")?;
    let status = end(&mut killed, Signal::SIGKILL)?;
    assert_eq!(status.signal(), Some(Signal::SIGKILL as i32));
    assert_eq!(present(&left), left);
    let (mut next, _) = start_holder("next_run_sweeps_up_after_a_kill")?;
    // The killed one's child is gone when its new parent has waited for it.
    for _ in 0..100 {
        if present(&left).is_empty() {
            break;
        }
        thread::sleep(Duration::from_millis(10));
    }
    let remaining: Vec<_> = present(&left).into_iter().filter(|path| !is_zombie(path)).collect();
    let _ = end(&mut next, Signal::SIGTERM)?;
    assert_eq!(remaining, [] as [&Path; 0]);
    no_mounts(&left)
}

/// Whether `path` is that of a process that nobody has waited for.
fn is_zombie(path: &Path) -> bool {
    fs::read_to_string(path.join("stat")).is_ok_and(|stat| stat.contains(") Z "))
}
