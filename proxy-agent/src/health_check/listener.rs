// SPDX-License-Identifier: Apache-2.0
//! One port at one address.

use std::{io, net::SocketAddr, sync::Arc};

use tokio::{net::TcpListener, sync::watch};

use super::{HealthChecks, answer::answer, failing::Place};
use crate::http_server::{self, Connections, Limits, Unspecified};

/// What answers are made of, and by whom.
#[derive(Clone, Debug)]
pub(super) struct Serving {
    pub(super) checks: watch::Receiver<HealthChecks>,
    pub(super) healthy: watch::Receiver<bool>,
    pub(super) connections: Connections,
    pub(super) limits: Limits,
}

/// Listens as Go's `tcp4` and `tcp6` do: at IPv6 addresses for IPv6 alone.
///
/// # Errors
///
/// Those of the kernel: above all, somebody else listens there, or the node has no such address.
pub(super) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    http_server::listen(address, Unspecified::Own)
}

/// Serves everybody who connects at this place. With it end all its connections.
pub(super) async fn serve(listener: TcpListener, place: Place, serving: Serving) {
    let Serving { checks, healthy, connections, limits } = serving;
    let Place { service, address } = place;
    let what = format!("the health checks of {service} at {address}");
    let answering = move |_: &_| {
        let endpoints = checks.borrow().get(&service).map(|check| check.local_endpoints);
        let count = endpoints.and_then(|endpoints| endpoints.in_family_of(address.ip()));
        let healthy = *healthy.borrow();
        // Where there is nothing to be told any more, the connection is about to be closed.
        Ok(answer(&service, count.unwrap_or(0), healthy)?)
    };
    http_server::serve(listener, what, connections, limits, Arc::new(answering)).await;
}
