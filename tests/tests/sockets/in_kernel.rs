// SPDX-License-Identifier: Apache-2.0

//! Clients in the kernel keep the address that they were told: a mount of NFS connects anew to the
//! Service, not to the endpoint that it had.
//!
//! Such sockets are made by threads of the kernel, which are in the root control group. So this is
//! for guests.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use proxy_tests::family::{IpFamily, TestFamily, V4, V6};
use proxy_tests::process::Process;
use proxy_tests::scratch::Scratch;
use proxy_tests::topology::Host;

use super::rig::{OTHER_PORT, OTHER_TARGET, PODS, Rig, web};

/// How long a mount may take to connect, and to connect anew: NFS makes pauses, and a guest's
/// processor is slow.
const PATIENCE: Duration = Duration::from_mins(1);

/// How long a connection is waited for that must not come.
const SILENCE: Duration = Duration::from_secs(1);

/// The first port that is not reserved to the system: NFS takes those.
const RESERVED: u16 = 1024;

/// In both families, with one agent: its programs take long to be verified in a guest.
#[test]
fn a_mount_connects_to_its_service_again() -> Result<()> {
    let rig = Rig::new(&PODS)?;
    let mut agent = rig.agent().whole_machine().start()?;
    let _servers = rig.servers()?;
    connects_again::<V4>(&rig)?;
    connects_again::<V6>(&rig)?;
    let log = agent.log()?;
    ensure!(!log.contains("forget the cluster IP"), "the agent warns of a good kernel: {log}");
    ensure!(agent.stop()?.success());
    Ok(())
}

fn connects_again<F: TestFamily>(rig: &Rig) -> Result<()> {
    let [first, second] = PODS;
    rig.follows::<F>(first)?;
    let [at_first, at_second] = PODS.map(|pod| Listener::start::<F>(rig.topology.pod(pod)));
    let (at_first, at_second) = (at_first?, at_second?);

    let scratch = Scratch::new("nfs")?;
    let mount = mount::<F>(rig.node(), &scratch)?;
    let connection = at_first.accept(&mount, PATIENCE)?.context("the mount does not connect")?;
    let source = connection.peer_addr()?;
    ensure!(source.port() < RESERVED, "{source} has connected, which is no client of NFS");

    rig.follows::<F>(second)?;
    drop(connection);
    let again = at_second.accept(&mount, PATIENCE)?;
    let astray = at_first.accept(&mount, SILENCE)?;
    ensure!(astray.is_none(), "it has connected to the endpoint that it had");
    let _connection = again.context("the mount does not connect again")?;
    ensure!(mount.status()?.is_none(), "the mount has ended, and connected for another reason");
    Ok(())
}

/// A server of NFS that says nothing.
struct Listener(TcpListener);

impl Listener {
    fn start<F: TestFamily>(pod: &Host) -> Result<Self> {
        let listener = pod.namespace().run(|| {
            Ok(TcpListener::bind(SocketAddr::new(F::FAMILY.unspecified(), OTHER_TARGET))?)
        })?;
        listener.set_nonblocking(true)?;
        Ok(Self(listener))
    }

    /// The next connection, if one comes in time; an error if the mount that should connect has
    /// ended.
    fn accept(&self, mount: &Process, patience: Duration) -> Result<Option<TcpStream>> {
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            match self.0.accept() {
                Ok((stream, _)) => return Ok(Some(stream)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
            if let Some(status) = mount.status()? {
                bail!("the mount has ended: {status}");
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(None)
    }
}

/// Mounts the Service on the node, in a mount namespace that goes with the process. It takes as
/// long as the server says nothing.
fn mount<F: TestFamily>(node: &Host, scratch: &Scratch) -> Result<Process> {
    let (vip, own) = (web::<F>().ip(), node.address(F::FAMILY));
    let (source, protocol) = match F::FAMILY {
        IpFamily::V4 => (format!("{vip}:/"), "tcp"),
        IpFamily::V6 => (format!("[{vip}]:/"), "tcp6"),
    };
    let options =
        format!("addr={vip},clientaddr={own},vers=4.1,proto={protocol},port={OTHER_PORT}");
    let mut command = node.namespace().command("unshare");
    // Without the helper for NFS: it does what the options say here.
    let _ = command.args(["--mount", "mount", "-i", "-t", "nfs4", "-o", &options, &source]);
    let _ = command.arg(scratch.path());
    Process::spawn(node.namespace(), command)
}
