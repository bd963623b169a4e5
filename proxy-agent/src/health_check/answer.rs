// SPDX-License-Identifier: Apache-2.0
//! What is answered.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use serde::Serialize;
use serde_json::{Serializer, ser::PrettyFormatter};

use crate::model::ServiceName;

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
) -> serde_json::Result<Response<Full<Bytes>>> {
    let named = Named { namespace: &service.namespace, name: &service.name };
    let report = Report { service: named, local_endpoints, service_proxy_healthy };
    let mut body = Vec::new();
    let tabs = PrettyFormatter::with_indent(b"\t");
    report.serialize(&mut Serializer::with_formatter(&mut body, tabs))?;
    let mut answer = Response::new(Full::from(body));
    if local_endpoints == 0 || !service_proxy_healthy {
        *answer.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    answer.headers_mut().extend([
        (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (WEIGHT, HeaderValue::from(local_endpoints)),
    ]);
    Ok(answer)
}
