// SPDX-License-Identifier: Apache-2.0
//! Connections to the API.

use std::time::Duration;

use http::Uri;
use hyper_util::{
    client::legacy::{
        self,
        connect::{
            Connection, HttpConnector,
            proxy::{SocksV5, Tunnel},
        },
    },
    rt::TokioExecutor,
};
use kube::{
    Client, Config,
    client::{Body, ConfigExt as _},
};
use tower::{BoxError, Service, ServiceBuilder};

use super::Timing;

/// A connection without traffic is asked after this time whether its other end is there, and
/// again after each interval.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEP_ALIVE_RETRIES: u32 = 4;

/// A client with connections of its own.
///
/// kube's own stack of layers is not used: it logs each failure at the level of errors, repeats
/// requests without being told how often, and asks no silent connection whether it is alive.
pub(super) fn client(config: &Config, timing: &Timing) -> Result<Client, kube::Error> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(timing.connect));
    tcp.set_keepalive(Some(KEEP_ALIVE));
    tcp.set_keepalive_interval(Some(KEEP_ALIVE_INTERVAL));
    tcp.set_keepalive_retries(Some(KEEP_ALIVE_RETRIES));
    // What was sent must be acknowledged as quickly as a silent connection must answer.
    tcp.set_tcp_user_timeout(Some(KEEP_ALIVE + KEEP_ALIVE_INTERVAL * KEEP_ALIVE_RETRIES));
    match &config.proxy_url {
        None => stack(config, tcp),
        Some(proxy) => match proxy.scheme_str() {
            Some("socks5") => stack(config, SocksV5::new(proxy.clone(), tcp)),
            Some("https") => {
                let tls = config.rustls_https_connector_with_connector(tcp)?;
                stack(config, Tunnel::new(proxy.clone(), tls))
            }
            _ => stack(config, Tunnel::new(proxy.clone(), tcp)),
        },
    }
}

fn stack<C>(config: &Config, connector: C) -> Result<Client, kube::Error>
where
    C: Service<Uri, Error: Into<BoxError>, Future: Send> + Clone + Send + Sync + 'static,
    C::Response: Connection + hyper::rt::Read + hyper::rt::Write + Send + Unpin + 'static,
{
    let connector = config.rustls_https_connector_with_connector(connector)?;
    let http: legacy::Client<_, Body> = legacy::Builder::new(TokioExecutor::new()).build(connector);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(http);
    Ok(Client::new(service, config.default_namespace.clone()))
}
