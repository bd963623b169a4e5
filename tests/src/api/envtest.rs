// SPDX-License-Identifier: Apache-2.0

//! A real kube-apiserver with its etcd, by envtest's convention: a directory with both programs.

use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rcgen::KeyPair;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Handle;

use super::client::{ApiClient, Upstream};
use super::pki::{Authority, Identity};
use crate::cleanup::{self, Lease};
use crate::netns::Prefix;

/// Names the directory.
pub const ASSETS: &str = "KUBEBUILDER_ASSETS";

/// How long the two may take to be ready.
const PATIENCE: Duration = Duration::from_mins(2);

/// A kube-apiserver with its etcd, without controllers. Both end when this is dropped.
#[derive(Debug)]
pub struct ControlPlane {
    upstream: Upstream,
    authority: Authority,
    admin: Identity,
    /// In the order in which they end.
    _programs: [Program; 2],
    _directory: TempDir,
}

/// A program that runs.
#[derive(Debug)]
struct Program {
    child: Arc<Mutex<Child>>,
    log: PathBuf,
    _lease: Lease,
}

impl ControlPlane {
    /// Starts both, with these ranges of cluster IPs, and waits until they are ready.
    pub fn start(assets: &Path, ranges: [Prefix; 2], runtime: &Handle) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let [peers, clients, api] = free_ports()?;
        let etcd = Self::etcd(assets, directory.path(), peers, clients)?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, api));
        let authority = Authority::new()?;
        let ends = (clients, address);
        let server = Self::api_server(assets, directory.path(), ends, ranges, &authority)?;
        let admin = authority.client("admin", "system:masters")?;
        let upstream = Upstream { address, tls: Some(authority.client_config(&admin)?) };
        let programs = [server, etcd];
        let client = ApiClient::new(upstream.clone(), runtime.clone());
        let start = Instant::now();
        while !client.is_ready() {
            for program in &programs {
                program.check()?;
            }
            if start.elapsed() > PATIENCE {
                bail!("the API is not ready after {PATIENCE:?}: {}", programs[0].said());
            }
            thread::sleep(Duration::from_millis(100));
        }
        Ok(Self { upstream, authority, admin, _programs: programs, _directory: directory })
    }

    /// The API, as its administrator reaches it.
    #[must_use]
    pub fn upstream(&self) -> Upstream {
        self.upstream.clone()
    }

    /// What a kubeconfig says of the cluster, and of its administrator. Their files are in a directory
    /// that is there.
    pub fn kubeconfig(&self, directory: &Path) -> Result<(Value, Value)> {
        let file = |name: &str, text: &str| write_in(directory, name, text);
        let cluster = json!({
            "certificate-authority": file("authority.pem", &self.authority.certificate())?,
        });
        let user = json!({
            "client-certificate": file("admin.pem", &self.admin.certificate)?,
            "client-key": file("admin.key", &self.admin.key)?,
        });
        Ok((cluster, user))
    }

    fn etcd(assets: &Path, directory: &Path, peers: u16, clients: u16) -> Result<Program> {
        let url = |port: u16| format!("http://127.0.0.1:{port}");
        let mut command = Command::new(assets.join("etcd"));
        let _ = command
            .arg("--data-dir")
            .arg(directory.join("etcd"))
            .args(["--listen-peer-urls", &url(peers)])
            .args(["--initial-advertise-peer-urls", &url(peers)])
            .args(["--initial-cluster", &format!("default={}", url(peers))])
            .args(["--listen-client-urls", &url(clients)])
            .args(["--advertise-client-urls", &url(clients)])
            .arg("--unsafe-no-fsync");
        Program::start("etcd", command, directory)
    }

    fn api_server(
        assets: &Path,
        directory: &Path,
        (etcd, address): (u16, SocketAddr),
        [first, second]: [Prefix; 2],
        authority: &Authority,
    ) -> Result<Program> {
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let names = ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"];
        let server = authority.server(&[loopback], &names)?;
        let accounts = KeyPair::generate()?;
        let file = |name: &str, text: &str| write_in(directory, name, text);
        let mut command = Command::new(assets.join("kube-apiserver"));
        let _ = command
            .arg(format!("--etcd-servers=http://127.0.0.1:{etcd}"))
            .arg(format!("--bind-address={loopback}"))
            .arg(format!("--advertise-address={loopback}"))
            .arg(format!("--secure-port={}", address.port()))
            .arg(format!("--service-cluster-ip-range={first},{second}"))
            .args([
                "--authorization-mode=RBAC",
                "--allow-privileged=true",
                // Nobody makes the accounts, as there are no controllers.
                "--disable-admission-plugins=ServiceAccount",
                // A loopback address is none for an EndpointSlice.
                "--endpoint-reconciler-type=none",
                "--service-account-issuer=https://kubernetes.default.svc",
            ]);
        for (flag, path) in [
            ("--tls-cert-file", file("server.pem", &server.certificate)?),
            ("--tls-private-key-file", file("server.key", &server.key)?),
            ("--client-ca-file", file("ca.pem", &authority.certificate())?),
            ("--service-account-key-file", file("accounts.pub", &accounts.public_key_pem())?),
            (
                "--service-account-signing-key-file",
                file("accounts.key", &accounts.serialize_pem())?,
            ),
            ("--cert-dir", directory.join("certificates")),
        ] {
            let _ = command.arg(flag).arg(path);
        }
        Program::start("kube-apiserver", command, directory)
    }
}

impl Program {
    fn start(name: &str, mut command: Command, directory: &Path) -> Result<Self> {
        let log = directory.join(format!("{name}.log"));
        let output = File::create(&log)?;
        let _ = command.stdin(Stdio::null()).stderr(output.try_clone()?).stdout(output);
        let (child, lease) = cleanup::acquire(name, || {
            let child = command.spawn().with_context(|| format!("starting {command:?}"))?;
            let child = Arc::new(Mutex::new(child));
            let to_end = Arc::clone(&child);
            Ok((child, move || {
                let mut child = to_end.lock().unwrap_or_else(PoisonError::into_inner);
                child.kill()?;
                let _ = child.wait()?;
                Ok(())
            }))
        })?;
        Ok(Self { child, log, _lease: lease })
    }

    /// Whether it still runs.
    fn check(&self) -> Result<()> {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        match child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("it has ended ({status}): {}", self.said()),
        }
    }

    /// The end of what it has logged.
    fn said(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = log.lines().rev().take(20).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}

/// Writes a file of a directory, and says where it is.
fn write_in(directory: &Path, name: &str, text: &str) -> Result<PathBuf> {
    let path = directory.join(name);
    fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
    Ok(path)
}

/// Ports of `127.0.0.1` that nobody listens on.
fn free_ports<const N: usize>() -> Result<[u16; N]> {
    let listeners: Vec<_> =
        (0..N).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).collect::<Result<_, _>>()?;
    let mut ports = [0; N];
    for (port, listener) in ports.iter_mut().zip(&listeners) {
        *port = listener.local_addr()?.port();
    }
    Ok(ports)
}
