// SPDX-License-Identifier: Apache-2.0
//! What tools ask: in which mode the proxy is, how it is configured, and what is measured.

use std::sync::Arc;

use http::StatusCode;

use crate::{
    config::KubeProxyConfiguration,
    http_server::{self, Answer, Failure},
    metrics::Page,
};

/// What `/configz` names the configuration by.
const GROUP: &str = "kubeproxy.config.k8s.io";

/// What is answered about the process.
#[derive(Clone, Debug)]
pub struct Info {
    mode: String,
    configz: String,
    metrics: Arc<Page>,
}

impl Info {
    /// Of a proxy that says that it has this mode, and has this configuration, and this page of
    /// metrics.
    ///
    /// # Errors
    ///
    /// None that is known of.
    pub fn new(
        mode: &str,
        configuration: &KubeProxyConfiguration,
        metrics: Arc<Page>,
    ) -> serde_json::Result<Self> {
        let configuration = serde_json::to_string(configuration)?;
        let configz = format!("{{\"{GROUP}\":{configuration}}}");
        Ok(Self { mode: mode.to_owned(), configz, metrics })
    }

    /// What is answered at a path.
    pub(super) fn at(&self, path: &str) -> Result<Answer, Failure> {
        Ok(match path {
            "/healthz" => http_server::text(StatusCode::OK, "ok"),
            "/proxyMode" => {
                let mode = self.mode.clone().into();
                http_server::of_type("text/plain; charset=utf-8", StatusCode::OK, mode)
            }
            "/configz" => {
                let configz = self.configz.clone().into();
                http_server::of_type("application/json", StatusCode::OK, configz)
            }
            "/metrics" => {
                http_server::of_type(Page::CONTENT_TYPE, StatusCode::OK, self.metrics.text()?)
            }
            _ => http_server::not_found(),
        })
    }
}
