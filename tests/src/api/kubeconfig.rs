// SPDX-License-Identifier: Apache-2.0

//! Kubeconfigs.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

/// Writes a kubeconfig for the server at an address: `cluster` and `user` are what it says of them
/// besides.
pub fn write(
    path: &Path,
    scheme: &str,
    server: SocketAddr,
    cluster: &Value,
    user: &Value,
) -> Result<()> {
    let mut cluster = cluster.clone();
    cluster["server"] = format!("{scheme}://{server}").into();
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "test",
        "clusters": [{ "name": "cluster", "cluster": cluster }],
        "users": [{ "name": "user", "user": user }],
        "contexts": [{ "name": "test", "context": { "cluster": "cluster", "user": "user" } }],
    });
    std::fs::write(path, config.to_string())
        .with_context(|| format!("writing the kubeconfig {}", path.display()))
}
