// SPDX-License-Identifier: Apache-2.0
//! What is answered.

use http::{HeaderName, HeaderValue, StatusCode};
use serde::Serialize;
use serde_json::{Serializer, ser::PrettyFormatter};

use crate::{
    http_server::{self, Answer},
    model::ServiceName,
};

/// How many endpoints there are: kube-proxy's header, which some load balancers weigh nodes by.
const WEIGHT: HeaderName = HeaderName::from_static("x-load-balancing-endpoint-weight");

/// The body, in kube-proxy's order.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report<'a> {
    service: Named<'a>,
    local_endpoints: usize,
    service_proxy_healthy: bool,
}

#[derive(Serialize)]
struct Named<'a> {
    namespace: &'a str,
    name: &'a str,
}

/// The answer for a Service with so many endpoints on this node, where the proxy is well or not.
///
/// # Errors
///
/// If the body cannot be written as JSON.
pub(super) fn answer(
    service: &ServiceName,
    local_endpoints: usize,
    service_proxy_healthy: bool,
) -> serde_json::Result<Answer> {
    let named = Named { namespace: &service.namespace, name: &service.name };
    let report = Report { service: named, local_endpoints, service_proxy_healthy };
    let mut body = Vec::new();
    let tabs = PrettyFormatter::with_indent(b"\t");
    report.serialize(&mut Serializer::with_formatter(&mut body, tabs))?;
    let status = if local_endpoints == 0 || !service_proxy_healthy {
        StatusCode::SERVICE_UNAVAILABLE
    } else {
        StatusCode::OK
    };
    let mut answer = http_server::of_type("application/json", status, body.into());
    let _ = answer.headers_mut().insert(WEIGHT, HeaderValue::from(local_endpoints));
    Ok(answer)
}
