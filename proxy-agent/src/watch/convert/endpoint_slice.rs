// SPDX-License-Identifier: Apache-2.0
//! EndpointSlices.

use std::sync::Arc;

use proxy_common::{Family, V4, V6};

use super::{Convert, Converted, Reason, Rejected, Subject, address, not, service::family_of};
use crate::{
    model::{Endpoint, EndpointPort, EndpointSlice, Hints, Object, ServiceName, Trigger},
    watch::{
        Event,
        api::{self, Endpoint as ApiEndpoint, EndpointPort as ApiPort, Hint, Resource as _},
    },
};

impl Convert for api::EndpointSlice {
    fn convert(&self) -> Result<Converted, Rejected> {
        let subject = Subject::new(Self::KIND, &self.metadata)?;
        let family = self.address_type.as_str();
        if self.metadata.label(|labels| &labels.headless).is_some() || family == "FQDN" {
            return Ok(Converted::nothing(subject.key));
        }
        let Some(family) = [V4::NAME, V6::NAME].into_iter().find(|known| *known == family) else {
            return Err(subject.reject("addressType", not(family, "IPv4, IPv6 or FQDN")));
        };
        let service = self.metadata.label(|labels| &labels.service_name).unwrap_or_default();
        if service.is_empty() {
            let field = "metadata.labels[kubernetes.io/service-name]";
            return Ok(Converted {
                rejected: vec![subject.reject(field, Reason::Missing)],
                ..Converted::nothing(subject.key)
            });
        }
        let mut rejected = Vec::new();
        let endpoints =
            accepted(self.endpoints.as_ref(), "endpoints", &subject, &mut rejected, |written| {
                endpoint(written, family).map(Some)
            });
        let unusable = rejected.iter().filter_map(|rejected| match rejected.reason {
            Reason::Special(address, what) => Some((address, what)),
            _ => None,
        });
        let unusable = unusable.collect();
        let ports = accepted(self.ports.as_ref(), "ports", &subject, &mut rejected, port);
        let slice = EndpointSlice {
            service: ServiceName::new(&subject.key.name.namespace, service),
            name: subject.key.name,
            endpoints,
            ports,
            unusable,
            trigger: Trigger { at: self.metadata.changed_for(), family },
        };
        Ok(Converted { event: Event::Apply(Object::EndpointSlice(slice)), rejected })
    }
}

/// What is wrong, and with which field.
type Wrong = (&'static str, Reason);

/// The elements of a list that can be used. The others are rejected by themselves, or left out.
fn accepted<A, M>(
    list: Option<&Vec<A>>,
    name: &str,
    subject: &Subject,
    rejected: &mut Vec<Rejected>,
    convert: impl Fn(&A) -> Result<Option<M>, Wrong>,
) -> Vec<M> {
    // There is no room for more: nearly all are accepted, and they are kept.
    let mut accepted = Vec::with_capacity(list.map_or(0, Vec::len));
    for (at, written) in list.into_iter().flatten().enumerate() {
        match convert(written) {
            Ok(converted) => accepted.extend(converted),
            Err((field, reason)) => {
                let field = format_args!("{name}[{at}].{field}");
                rejected.push(subject.reject(field, reason));
            }
        }
    }
    accepted
}

fn endpoint(written: &ApiEndpoint, family: &str) -> Result<Endpoint, Wrong> {
    let text = written.addresses.first();
    let text = text.ok_or(("addresses", Reason::Missing))?;
    let address = address::unicast(text).map_err(|reason| ("addresses[0]", reason))?;
    if family_of(address) != family {
        return Err(("addresses[0]", not(text, "of the slice's addressType")));
    }
    let conditions = written.conditions.unwrap_or_default();
    let hints = written.hints.as_ref().map(|hints| Hints {
        zones: names(hints.for_zones.as_ref()),
        nodes: names(hints.for_nodes.as_ref()),
    });
    Ok(Endpoint {
        address,
        ready: conditions.ready.unwrap_or(true),
        serving: conditions.serving.unwrap_or(true),
        terminating: conditions.terminating.unwrap_or(false),
        node: written.node_name.as_deref().map(Arc::from),
        hints: hints.filter(|hints| *hints != Hints::default()).map(Box::new),
    })
}

fn names(list: Option<&Vec<Hint>>) -> Vec<Arc<str>> {
    list.into_iter().flatten().map(|hint| hint.name.as_str().into()).collect()
}

/// A port without a number means all ports, which is not for a Service proxy.
fn port(written: &ApiPort) -> Result<Option<EndpointPort>, Wrong> {
    let Some(number) = written.port else {
        return Ok(None);
    };
    let protocol = written.protocol.as_deref();
    Ok(Some(EndpointPort {
        name: written.name.as_deref().unwrap_or_default().into(),
        protocol: address::protocol(protocol).map_err(|reason| ("protocol", reason))?,
        port: address::port(number).map_err(|reason| ("port", reason))?,
    }))
}
