// SPDX-License-Identifier: Apache-2.0

//! An API behind a proxy that the kubeconfig names.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, Result, bail, ensure};
use proxy_tests::both_families;
use proxy_tests::family::{IpFamily, TestFamily};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::credentials::{Fixture, works};
use super::stage::RUNTIME;

both_families!(an_http_proxy_is_used, a_socks_proxy_is_used);

/// A proxy that counts what it connects. It ends when dropped.
struct Proxy {
    address: SocketAddr,
    connected: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Proxy {
    fn start(address: IpAddr) -> Result<Self> {
        let listener = RUNTIME.block_on(TcpListener::bind((address, 0)))?;
        let address = listener.local_addr()?;
        let connected = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connected);
        let task = RUNTIME.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let count = Arc::clone(&count);
                // Either side may be gone, or leave at any time.
                drop(tokio::spawn(async move {
                    let _ = relay(stream, &count).await;
                }));
            }
        });
        Ok(Self { address, connected, task })
    }
}

/// Connects a client to where it wants, and passes everything on.
async fn relay(mut client: TcpStream, count: &AtomicUsize) -> Result<()> {
    let mut first = [0; 1];
    let _ = client.peek(&mut first).await?;
    let mut server =
        if first[0] == 5 { socks(&mut client).await? } else { http(&mut client).await? };
    let _ = count.fetch_add(1, Ordering::Relaxed);
    let _ = copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}

/// `CONNECT` of HTTP (RFC 9110, section 9.3.6).
async fn http(client: &mut TcpStream) -> Result<TcpStream> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        request.push(client.read_u8().await?);
    }
    let request = String::from_utf8(request)?;
    let target = request.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next());
    let server = TcpStream::connect(target.context("a CONNECT")?).await?;
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
    Ok(server)
}

/// `CONNECT` of SOCKS 5 without authentication (RFC 1928).
async fn socks(client: &mut TcpStream) -> Result<TcpStream> {
    let [_, methods] = read(client).await?;
    for _ in 0..methods {
        let _ = client.read_u8().await?;
    }
    client.write_all(&[5, 0]).await?;
    let [5, 1, _, kind] = read(client).await? else { bail!("not a CONNECT") };
    let address: IpAddr = match kind {
        1 => read::<4>(client).await?.into(),
        4 => read::<16>(client).await?.into(),
        _ => bail!("not an address"),
    };
    let port = client.read_u16().await?;
    let server = TcpStream::connect((address, port)).await?;
    client.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await?;
    Ok(server)
}

async fn read<const N: usize>(client: &mut TcpStream) -> Result<[u8; N]> {
    let mut bytes = [0; N];
    let _ = client.read_exact(&mut bytes).await?;
    Ok(bytes)
}

fn is_used<F: TestFamily>(scheme: &str) -> Result<()> {
    let fixture = Fixture::new::<F>(false, None, &[])?;
    let proxy = Proxy::start(match F::FAMILY {
        IpFamily::V4 => std::net::Ipv4Addr::LOCALHOST.into(),
        IpFamily::V6 => std::net::Ipv6Addr::LOCALHOST.into(),
    })?;
    let mut cluster = fixture.cluster();
    cluster["proxy-url"] = format!("{scheme}://{}", proxy.address).into();
    works(&fixture.follow(&cluster, &json!({}))?)?;
    let connected = proxy.connected.load(Ordering::Relaxed);
    ensure!(connected >= 4, "{connected} connections through the proxy");
    Ok(())
}

fn an_http_proxy_is_used<F: TestFamily>() -> Result<()> {
    is_used::<F>("http")
}

fn a_socks_proxy_is_used<F: TestFamily>() -> Result<()> {
    is_used::<F>("socks5")
}
