// SPDX-License-Identifier: Apache-2.0

//! How the agent says who it is, and how it knows the API, in both families.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proxy_tests::api::pki::Authority;
use proxy_tests::api::replay::{Door, ReplayServer};
use proxy_tests::api::{kubeconfig, recorded};
use proxy_tests::both_families;
use proxy_tests::family::{IpFamily, TestFamily};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::follower::Follower;
use super::stage::{RUNTIME, TIMING};

both_families!(
    certificates_in_data_and_in_files,
    a_server_of_another_authority_is_not_trusted,
    a_server_may_have_another_name,
    a_token_file_is_read_again,
    an_exec_plugin_gives_tokens,
    an_exec_plugin_gives_certificates,
    an_api_without_tls,
);

pub(crate) struct Fixture {
    directory: TempDir,
    authority: Authority,
    server: ReplayServer,
}

pub(crate) fn loopback(family: IpFamily) -> IpAddr {
    match family {
        IpFamily::V4 => Ipv4Addr::LOCALHOST.into(),
        IpFamily::V6 => Ipv6Addr::LOCALHOST.into(),
    }
}

impl Fixture {
    /// A server with a certificate for its address, which asks clients for certificates or a token.
    pub(crate) fn new<F: TestFamily>(
        clients: bool,
        token: Option<&str>,
        names: &[&str],
    ) -> Result<Self> {
        let authority = Authority::new()?;
        let address = loopback(F::FAMILY);
        let addresses = if names.is_empty() { vec![address] } else { Vec::new() };
        let identity = authority.server(&addresses, names)?;
        let door = Door {
            address: Some(SocketAddr::new(address, 0)),
            tls: Some(authority.server_config(&identity, clients)?),
            token: token.map(ToOwned::to_owned),
            ..Door::default()
        };
        let server = ReplayServer::start(door, RUNTIME.handle())?;
        server.load(recorded::LISTS)?;
        Ok(Self { directory: tempfile::tempdir()?, authority, server })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.path(name);
        fs::write(&path, text)?;
        Ok(path)
    }

    /// What a kubeconfig says of this server.
    pub(crate) fn cluster(&self) -> Value {
        json!({ "certificate-authority-data": STANDARD.encode(self.authority.certificate()) })
    }

    pub(crate) fn follow(&self, cluster: &Value, user: &Value) -> Result<Follower> {
        let path = self.path("kubeconfig");
        kubeconfig::write(&path, "https", self.server.address(), cluster, user)?;
        Follower::of(&path, recorded::NODE, TIMING)
    }

    /// A program that prints these credentials.
    fn plugin(&self, status: &Value) -> Result<Value> {
        let credentials = json!({
            "apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential",
            "status": status,
        });
        let credentials = self.write("credentials", &credentials.to_string())?;
        let script = format!("#!/bin/sh\nexec cat {}\n", credentials.display());
        let path = self.write("plugin", &script)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        Ok(json!({ "exec": {
            "apiVersion": "client.authentication.k8s.io/v1", "command": path,
            "interactiveMode": "IfAvailable",
        } }))
    }
}

/// Whether it finds the recorded objects.
pub(crate) fn works(follower: &Follower) -> Result<()> {
    follower.wait_synced()?;
    ensure!(follower.said().objects.len() > 100);
    Ok(())
}

/// Whether it stays without objects for some tries.
fn fails(follower: &Follower) -> Result<()> {
    std::thread::sleep(Duration::from_millis(500));
    ensure!(follower.said().events.is_empty(), "it was let in");
    ensure!(follower.said().ended.is_none(), "it gave up");
    Ok(())
}

fn certificates_in_data_and_in_files<F: TestFamily>() -> Result<()> {
    let fixture = Fixture::new::<F>(true, None, &[])?;
    let client = fixture.authority.client("agent", "system:nodes")?;
    let data = json!({
        "client-certificate-data": STANDARD.encode(&client.certificate),
        "client-key-data": STANDARD.encode(&client.key),
    });
    works(&fixture.follow(&fixture.cluster(), &data)?)?;
    // Files are named from where the kubeconfig is.
    let _ = fixture.write("ca.pem", &fixture.authority.certificate())?;
    let _ = fixture.write("client.pem", &client.certificate)?;
    let _ = fixture.write("client.key", &client.key)?;
    let cluster = json!({ "certificate-authority": "ca.pem" });
    let files = json!({ "client-certificate": "client.pem", "client-key": "client.key" });
    works(&fixture.follow(&cluster, &files)?)?;
    // A certificate that is renewed in its file is taken when the old one does not do any more.
    let other = Authority::new()?.client("agent", "system:nodes")?;
    let _ = fixture.write("client.pem", &other.certificate)?;
    let _ = fixture.write("client.key", &other.key)?;
    let follower = fixture.follow(&cluster, &files)?;
    fails(&follower)?;
    let _ = fixture.write("client.pem", &client.certificate)?;
    let _ = fixture.write("client.key", &client.key)?;
    works(&follower)
}

fn a_server_of_another_authority_is_not_trusted<F: TestFamily>() -> Result<()> {
    let fixture = Fixture::new::<F>(false, None, &[])?;
    let other = Authority::new()?.certificate();
    let cluster = json!({ "certificate-authority-data": STANDARD.encode(other) });
    fails(&fixture.follow(&cluster, &json!({}))?)?;
    works(&fixture.follow(&json!({ "insecure-skip-tls-verify": true }), &json!({}))?)
}

fn a_server_may_have_another_name<F: TestFamily>() -> Result<()> {
    let fixture = Fixture::new::<F>(false, None, &["kubernetes.default.svc"])?;
    fails(&fixture.follow(&fixture.cluster(), &json!({}))?)?;
    let mut cluster = fixture.cluster();
    cluster["tls-server-name"] = "kubernetes.default.svc".into();
    works(&fixture.follow(&cluster, &json!({}))?)
}

fn a_token_file_is_read_again<F: TestFamily>() -> Result<()> {
    let fixture = Fixture::new::<F>(false, Some("first"), &[])?;
    let path = fixture.write("token", "first\n")?;
    let follower = fixture.follow(&fixture.cluster(), &json!({ "tokenFile": path }))?;
    works(&follower)?;
    fixture.server.set_token("second");
    fixture.server.down();
    fixture.server.up()?;
    std::thread::sleep(Duration::from_millis(300));
    let _ = fixture.write("token", "second\n")?;
    follows(&fixture, &follower)
}

fn an_exec_plugin_gives_tokens<F: TestFamily>() -> Result<()> {
    let fixture = Fixture::new::<F>(false, Some("first"), &[])?;
    let user = fixture.plugin(&json!({ "token": "first" }))?;
    let follower = fixture.follow(&fixture.cluster(), &user)?;
    works(&follower)?;
    fixture.server.set_token("second");
    fixture.server.down();
    fixture.server.up()?;
    std::thread::sleep(Duration::from_millis(300));
    let _ = fixture.plugin(&json!({ "token": "second" }))?;
    follows(&fixture, &follower)
}

fn an_exec_plugin_gives_certificates<F: TestFamily>() -> Result<()> {
    let fixture = Fixture::new::<F>(true, None, &[])?;
    let client = fixture.authority.client("agent", "system:nodes")?;
    let user = fixture.plugin(&json!({
        "clientCertificateData": client.certificate, "clientKeyData": client.key,
    }))?;
    works(&fixture.follow(&fixture.cluster(), &user)?)
}

/// Whether changes are still seen.
fn follows(fixture: &Fixture, follower: &Follower) -> Result<()> {
    let before = follower.said().events.len();
    for event in recorded::events()? {
        fixture.server.replay(&event)?;
    }
    follower.wait("changes", |said| said.events.len() > before)
}

fn an_api_without_tls<F: TestFamily>() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let door = Door { address: Some(SocketAddr::new(loopback(F::FAMILY), 0)), ..Door::default() };
    let server = ReplayServer::start(door, RUNTIME.handle())?;
    server.load(recorded::LISTS)?;
    works(&plain(directory.path(), &server)?)
}

fn plain(directory: &Path, server: &ReplayServer) -> Result<Follower> {
    let path = directory.join("kubeconfig");
    kubeconfig::write(&path, "http", server.address(), &json!({}), &json!({}))?;
    Follower::of(&path, recorded::NODE, TIMING)
}
