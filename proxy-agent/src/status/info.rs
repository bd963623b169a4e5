// SPDX-License-Identifier: Apache-2.0
//! What tools ask: in which mode the proxy is, and how it is configured.

use http::StatusCode;

use crate::{
    config::KubeProxyConfiguration,
    http_server::{self, Answer},
};

/// What `/configz` names the configuration by.
const GROUP: &str = "kubeproxy.config.k8s.io";

/// What is answered about the process.
#[derive(Clone, Debug)]
pub struct Info {
    mode: String,
    configz: String,
}

impl Info {
    /// Of a proxy that says that it has this mode, and has this configuration.
    ///
    /// # Errors
    ///
    /// None that is known of.
    pub fn new(mode: &str, configuration: &KubeProxyConfiguration) -> serde_json::Result<Self> {
        let configuration = serde_json::to_string(configuration)?;
        let configz = format!("{{\"{GROUP}\":{configuration}}}");
        Ok(Self { mode: mode.to_owned(), configz })
    }

    /// What is answered at a path.
    pub(super) fn at(&self, path: &str) -> Answer {
        match path {
            "/healthz" => http_server::text(StatusCode::OK, "ok"),
            "/proxyMode" => {
                let mode = self.mode.clone().into();
                http_server::of_type("text/plain; charset=utf-8", StatusCode::OK, mode)
            }
            "/configz" => {
                let configz = self.configz.clone().into();
                http_server::of_type("application/json", StatusCode::OK, configz)
            }
            _ => http_server::not_found(),
        }
    }
}
