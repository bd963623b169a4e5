// SPDX-License-Identifier: Apache-2.0

//! Which control groups processes are in, and see.

use std::fs::{self, File};
use std::net::{TcpStream, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{io, thread};

use anyhow::{Context as _, Result, bail, ensure};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use proxy_agent::sockets::CgroupRoot;
use proxy_tests::both_families;
use proxy_tests::cgroup::Cgroup;
use proxy_tests::cleanup::{self, Lease};
use proxy_tests::family::TestFamily;
use proxy_tests::scratch::Scratch;
use proxy_tests::topology::Host;

use super::rig::{PODS, Rig, web};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

both_families!(
    processes_in_a_cgroup_namespace_are_served,
    processes_in_a_group_of_cgroup_v1_are_served,
);

/// They are in the node's control group, whatever they see of it.
fn processes_in_a_cgroup_namespace_are_served<F: TestFamily>() -> Result<()> {
    is_served::<F, _>(|| {
        unshare(CloneFlags::CLONE_NEWCGROUP)?;
        let groups = fs::read_to_string("/proc/thread-self/cgroup")?;
        ensure!(groups.lines().any(|line| line == "0::/"), "they see {groups}");
        Ok(())
    })
}

/// A socket has a control group of cgroup2 beside what the controllers for networks of v1 say of
/// it. That was so in other kernels, where one took the other's place.
fn processes_in_a_group_of_cgroup_v1_are_served<F: TestFamily>() -> Result<()> {
    let scratch = Scratch::new("cgroup-v1")?;
    is_served::<F, _>(|| {
        let group = OldGroup::new(scratch.path())?;
        group.enter()?;
        let groups = fs::read_to_string("/proc/thread-self/cgroup")?;
        ensure!(groups.contains(group.name()), "they are in {groups}");
        Ok(group)
    })
}

/// What a thread of the node does after it has changed where it is reaches the Service.
fn is_served<F: TestFamily, T>(change: impl FnOnce() -> Result<T> + Send) -> Result<()> {
    let rig = Rig::new(&PODS)?;
    let mut agent = rig.agent().start()?;
    let _servers = rig.servers()?;
    rig.node().namespace().run(|| {
        let _changed = change()?;
        asks::<F>(rig.node())
    })?;
    ensure!(agent.stop()?.success());
    Ok(())
}

fn asks<F: TestFamily>(node: &Host) -> Result<()> {
    let target = web::<F>();
    let stream = TcpStream::connect_timeout(&target, PATIENCE).context("connecting by TCP")?;
    ensure!(stream.peer_addr()? == target, "connected to {}", stream.peer_addr()?);
    let socket = UdpSocket::bind((node.address(F::FAMILY), 0))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let _: usize = socket.send_to(b"question", target)?;
    let (_, from) = socket.recv_from(&mut [0; 512]).context("asking by UDP")?;
    ensure!(from == target, "answered by {from}");
    Ok(())
}

/// A group of the hierarchy of cgroup v1 that has the controllers for networks.
struct OldGroup {
    path: PathBuf,
    _lease: Lease,
}

impl OldGroup {
    /// Makes one. The hierarchy is mounted at `at`, for the calling thread only.
    fn new(at: &Path) -> Result<Self> {
        private_mounts()?;
        mount(Some("cgroup"), at, Some("cgroup"), MsFlags::empty(), Some("net_cls,net_prio"))
            .context("mounting the hierarchy of net_cls and net_prio")?;
        let (path, lease) = cleanup::acquire("a group of cgroup v1", || {
            // By its descriptor the hierarchy is found from other threads, too.
            let root = File::open(at)?;
            let of_process = PathBuf::from(format!("/proc/self/fd/{}", root.as_raw_fd()));
            let path = of_process.join(at.file_name().context("it has a name")?);
            fs::create_dir(&path)?;
            let group = path.clone();
            Ok((path, move || {
                let _open = root;
                remove(&group, &of_process)
            }))
        })?;
        Ok(Self { path, _lease: lease })
    }

    fn name(&self) -> &str {
        self.path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
    }

    /// Moves the calling thread into it.
    fn enter(&self) -> Result<()> {
        fs::write(self.path.join("tasks"), "0").context("entering a group of cgroup v1")
    }
}

/// Removes a group, whose threads go back to the root of its hierarchy.
fn remove(group: &Path, root: &Path) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        for thread in fs::read_to_string(group.join("tasks"))?.lines() {
            // It may have ended meanwhile.
            let _ = fs::write(root.join("tasks"), thread);
        }
        match fs::remove_dir(group) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                ensure!(Instant::now() < deadline, "{} stays busy", group.display());
                thread::sleep(Duration::from_millis(2));
            }
            result => return Ok(result?),
        }
    }
}

/// Lets the calling thread mount what nobody else sees, and what goes with it.
fn private_mounts() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNS).context("making a mount namespace (are you root?)")?;
    let private = MsFlags::MS_PRIVATE | MsFlags::MS_REC;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>).context("keeping mounts private")
}

/// As in a container: what it sees as the root is not the root.
#[test]
fn the_root_of_the_hierarchy_is_told_from_a_containers() -> Result<()> {
    let group = Cgroup::new("container")?;
    let scratch = Scratch::new("cgroup-roots")?;
    let found = thread::scope(|scope| {
        let look = || {
            group.enter()?;
            private_mounts()?;
            let [hosts, containers] = ["host", "container"].map(|name| scratch.path().join(name));
            let at = |path: &Path, kind: &'static str| {
                fs::create_dir_all(path)?;
                mount(Some(kind), path, Some(kind), MsFlags::empty(), None::<&str>)
                    .with_context(|| format!("mounting {kind}"))
            };
            at(&hosts, "cgroup2")?;
            unshare(CloneFlags::CLONE_NEWCGROUP)?;
            at(&containers, "cgroup2")?;
            let whole = CgroupRoot { path: hosts.clone(), is_whole: true };
            let part = CgroupRoot { path: containers.clone(), is_whole: false };
            ensure!(
                CgroupRoot::at(&hosts)?.as_ref() == Some(&whole),
                "this machine's root group is not to be seen here: is this a container?"
            );
            assert_eq!(CgroupRoot::at(&containers)?.as_ref(), Some(&part));
            assert_eq!(CgroupRoot::find([containers.clone()])?.as_ref(), Some(&part));
            let both = [[&hosts, &containers], [&containers, &hosts]];
            for paths in both {
                assert_eq!(CgroupRoot::find(paths.map(Clone::clone))?.as_ref(), Some(&whole));
            }
            // What lies below another mount is not there.
            at(&hosts, "tmpfs")?;
            assert_eq!(CgroupRoot::at(&hosts)?, None);
            assert_eq!(CgroupRoot::find([hosts, containers])?, Some(part));
            Ok(())
        };
        scope.spawn(look).join()
    });
    match found {
        Ok(result) => result,
        Err(_) => bail!("the thread panicked"),
    }
}
