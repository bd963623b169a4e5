// SPDX-License-Identifier: Apache-2.0

//! Starts that come to nothing: a program is refused, or the agent is told to stop at once.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use super::lifecycle::binary;
use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use object::read::elf::ElfFile64;
use object::{Object as _, ObjectSection as _, ObjectSymbol as _};
use proxy_tests::agent::cgroup_root;
use proxy_tests::cluster::{Cluster, eventually};
use proxy_tests::process::Process;
use proxy_tests::scratch::Scratch;
use proxy_tests::topology::NodeSpec;

/// How long an end may take, while programs are verified on a machine that is busy.
const END: Duration = Duration::from_mins(1);

/// The program that is spoilt: the agent has it verified first.
const SPOILT: &str = "sixfour_up_out";

/// The first bytes of an ELF file of 64 bits, in little-endian order.
const ELF: [u8; 6] = [0x7f, b'E', b'L', b'F', 2, 1];

/// `EM_BPF`, and where a file has its machine.
const BPF: [u8; 2] = [247, 0];
const MACHINE: usize = 18;

/// `BPF_EXIT`, before anything is returned: the kernel refuses it.
const EXIT: [u8; 8] = [0x95, 0, 0, 0, 0, 0, 0, 0];

/// A copy of an agent with a program that the kernel refuses.
pub(crate) fn with_a_spoilt_program(binary: &Path, scratch: &Scratch) -> Result<PathBuf> {
    let mut agent = fs::read(binary)?;
    let is_object = |bytes: &[u8]| bytes.starts_with(&ELF) && bytes[MACHINE..].starts_with(&BPF);
    let start = agent.windows(MACHINE + BPF.len()).position(is_object);
    let start = start.context("the agent has no BPF object")?;
    let elf = ElfFile64::<object::Endianness>::parse(&agent[start..])?;
    let program = elf.symbols().find(|symbol| symbol.name() == Ok(SPOILT));
    let program = program.with_context(|| format!("there is no program {SPOILT}"))?;
    let section = program.section_index().context("a program is in a section")?;
    let (offset, _) = elf.section_by_index(section)?.file_range().context("it has bytes")?;
    let first = start + usize::try_from(offset + program.address())?;
    agent[first..first + EXIT.len()].copy_from_slice(&EXIT);
    let path = scratch.path().join("sixfour");
    fs::write(&path, agent)?;
    fs::set_permissions(&path, fs::metadata(binary)?.permissions())?;
    Ok(path)
}

/// An agent on a node of its own, with its pins and what it says.
struct Start {
    cluster: Cluster,
    scratch: Scratch,
    pin_root: PathBuf,
}

impl Start {
    fn new() -> Result<Self> {
        let cluster = Cluster::of(NodeSpec::bridge("anc-node"))?;
        cluster.serve_web(&["web-1"])?;
        let scratch = Scratch::new("starts")?;
        let pin_root = scratch.mount_bpffs()?.join("sixfour");
        Ok(Self { cluster, scratch, pin_root })
    }

    fn spawn(&self, binary: &Path) -> Result<Process> {
        let node = self.cluster.topology.node("anc-node").host().namespace();
        let log = File::create(self.scratch.path().join("log"))?;
        let mut command = node.command(binary);
        let _ = command
            .args(["run", "--attach=clsact", "--hostname-override=anc-node", "--manifests"])
            .arg(self.cluster.manifests.directory())
            .arg("--pin-root")
            .arg(&self.pin_root)
            .args(cgroup_root(node)?)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        Process::spawn(node, command)
    }

    fn log(&self) -> Result<String> {
        Ok(fs::read_to_string(self.scratch.path().join("log"))?)
    }

    fn left_nothing(&self) -> Result<()> {
        ensure!(!self.pin_root.exists(), "there are pins");
        ensure!(!super::lifecycle::filters(&self.cluster)?.contains("bpf"), "there are filters");
        Ok(())
    }
}

#[test]
fn a_program_that_is_refused_ends_the_agent() -> Result<()> {
    let start = Start::new()?;
    let process = start.spawn(&with_a_spoilt_program(&binary()?, &start.scratch)?)?;
    let status = process.wait(END)?;
    let log = start.log()?;
    ensure!(status.code() == Some(1), "{status}: {log}");
    let said = format!("sixfour: the kernel refuses the program {SPOILT}: ");
    ensure!(log.contains(&said), "{log}");
    ensure!(!log.contains("ready"), "{log}");
    start.left_nothing()
}

#[test]
fn memory_is_given_back_before_the_agent_is_ready() -> Result<()> {
    let start = Start::new()?;
    let mut agent = start.cluster.agent("anc-node").start()?;
    let log = agent.log()?;
    let [given, ready] = ["is given back\"", "\"ready\""].map(|message| log.find(message));
    ensure!(given.is_some() && given < ready, "{log}");
    ensure!(agent.stop()?.success());
    Ok(())
}

#[test]
fn a_stop_while_programs_are_verified_leaves_nothing() -> Result<()> {
    let start = Start::new()?;
    let process = start.spawn(&binary()?)?;
    // It listens to signals from then on; the maps are there while the programs are verified.
    let pinned =
        || start.log().is_ok_and(|log| log.contains("starting")) && start.pin_root.exists();
    ensure!(eventually(pinned), "it does not start: {}", start.log()?);
    process.signal(Signal::SIGTERM)?;
    let told = Instant::now();
    let status = process.wait(END)?;
    let log = start.log()?;
    ensure!(status.code() == Some(0), "{status} after {:?}: {log}", told.elapsed());
    ensure!(log.contains("stopped") && !log.contains("ready"), "{log}");
    start.left_nothing()
}
