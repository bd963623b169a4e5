// SPDX-License-Identifier: Apache-2.0
//! Services.

use std::{net::IpAddr, num::NonZeroU32};

use proxy_common::{Family, V4, V6, family::Address as _};

use super::{Convert, Converted, Reason, Rejected, Subject, address, external::Reader, not};
use crate::{
    model::{Object, Service, ServicePort, TrafficPolicy},
    watch::{
        Event,
        api::{self, Resource as _, ServicePort as ApiPort, ServiceSpec},
    },
};

impl Convert for api::Service {
    fn convert(&self) -> Result<Converted, Rejected> {
        let subject = Subject::new(Self::KIND, &self.metadata)?;
        if self.metadata.label(|labels| &labels.proxy_name).is_some() {
            return Ok(Converted::nothing(subject.key));
        }
        let spec = self.spec.as_ref().ok_or_else(|| subject.reject("spec", Reason::Missing))?;
        if spec.type_.as_deref() == Some("ExternalName") || is_headless(spec) {
            return Ok(Converted::nothing(subject.key));
        }
        let created = self.metadata.creation_timestamp.as_ref();
        let mut reader = Reader::new(self, spec, &subject);
        let external_traffic_policy = reader.traffic_policy();
        let service = Service {
            name: subject.key.name.clone(),
            uid: self.metadata.uid.as_deref().unwrap_or_default().into(),
            created: created.map(|time| time.0.as_second()),
            cluster_ips: cluster_ips(spec, &subject)?,
            external_ips: reader.external_ips(),
            load_balancer_ips: reader.load_balancer_ips(),
            source_ranges: reader.source_ranges(),
            internal_traffic_policy: traffic_policy(spec, &subject)?,
            external_traffic_policy,
            affinity: affinity(spec, &mut reader),
            health_check_node_port: reader.health_check_node_port(external_traffic_policy),
            ports: ports(spec, &subject, &mut reader)?,
        };
        let rejected = reader.rejected;
        Ok(Converted { event: Event::Apply(Object::Service(service)), rejected })
    }
}

/// The API gives the first of `clusterIPs` as `clusterIP` too; a hand-written Service may have
/// either.
fn is_headless(spec: &ServiceSpec) -> bool {
    let first = spec.cluster_ips.as_ref().and_then(|all| all.first());
    let ip = spec.cluster_ip.as_ref().filter(|ip| !ip.is_empty()).or(first);
    ip.is_none_or(|ip| ip.is_empty() || ip == "None")
}

/// The cluster IP of each family: where `ipFamilies` names it, as kube-proxy takes it
/// (`GetClusterIPByFamily`); where there is no `ipFamilies`, by the addresses' own families, as
/// the API server would have filled it in.
fn cluster_ips(spec: &ServiceSpec, subject: &Subject) -> Result<Vec<IpAddr>, Rejected> {
    let families = spec.ip_families.as_deref().unwrap_or_default();
    let written: Vec<(String, &String)> = match (&spec.cluster_ips, &spec.cluster_ip) {
        (Some(all), _) if !all.is_empty() => {
            let fields = (0..).map(|at| format!("spec.clusterIPs[{at}]"));
            fields.zip(all).collect()
        }
        (_, single) => single.iter().map(|ip| ("spec.clusterIP".to_owned(), ip)).collect(),
    };
    let mut ips: Vec<IpAddr> = Vec::new();
    for (at, (field, text)) in written.into_iter().enumerate() {
        let ip = address::unicast(text).map_err(|reason| subject.reject(&field, reason))?;
        let family = family_of(ip);
        if !families.is_empty() && families.get(at).is_none_or(|named| named != family) {
            let reason = not(text, "of the family that spec.ipFamilies names there");
            return Err(subject.reject(&field, reason));
        }
        if ips.iter().any(|other| family_of(*other) == family) {
            return Err(subject.reject(&field, Reason::Duplicate));
        }
        ips.push(ip);
    }
    Ok(ips)
}

/// The name of an address's family.
pub(super) fn family_of(ip: IpAddr) -> &'static str {
    let v4 = <V4 as Family>::Addr::from_ip(ip);
    v4.map_or(V6::NAME, |_| V4::NAME)
}

fn traffic_policy(spec: &ServiceSpec, subject: &Subject) -> Result<TrafficPolicy, Rejected> {
    match spec.internal_traffic_policy.as_deref() {
        None | Some("Cluster") => Ok(TrafficPolicy::Cluster),
        Some("Local") => Ok(TrafficPolicy::Local),
        Some(other) => {
            let reason = not(other, "Cluster or Local");
            Err(subject.reject("spec.internalTrafficPolicy", reason))
        }
    }
}

/// For how long clients stay with their endpoints, in seconds; what the API server would fill in
/// where it is not said.
fn affinity(spec: &ServiceSpec, reader: &mut Reader<'_>) -> Option<NonZeroU32> {
    const DEFAULT: NonZeroU32 = NonZeroU32::new(10_800).expect("not zero");
    match spec.session_affinity.as_deref() {
        None | Some("None" | "") => return None,
        Some("ClientIP") => {}
        Some(other) => {
            reader.reject("spec.sessionAffinity", not(other, "None or ClientIP"));
            return None;
        }
    }
    let config = spec.session_affinity_config.as_ref().and_then(|config| config.client_ip);
    let Some(seconds) = config.and_then(|config| config.timeout_seconds) else {
        return Some(DEFAULT);
    };
    let within = u32::try_from(seconds).ok().filter(|seconds| *seconds <= 86_400);
    within.and_then(NonZeroU32::new).or_else(|| {
        let reason = not(seconds, "a number of seconds from 1 to 86400");
        reader.reject("spec.sessionAffinityConfig.clientIP.timeoutSeconds", reason);
        Some(DEFAULT)
    })
}

fn ports(
    spec: &ServiceSpec,
    subject: &Subject,
    reader: &mut Reader<'_>,
) -> Result<Vec<ServicePort>, Rejected> {
    let mut ports: Vec<ServicePort> = Vec::new();
    for (at, written) in spec.ports.iter().flatten().enumerate() {
        let reject =
            |field, reason| subject.reject(format_args!("spec.ports[{at}].{field}"), reason);
        let mut port = port(written).map_err(|(field, reason)| reject(field, reason))?;
        port.node_port = reader.node_port(written.node_port, at);
        for other in ports.iter().filter(|other| other.protocol == port.protocol) {
            if other.port == port.port {
                return Err(reject("port", Reason::Duplicate));
            }
            if other.name == port.name {
                return Err(reject("name", Reason::Duplicate));
            }
        }
        ports.push(port);
    }
    Ok(ports)
}

fn port(written: &ApiPort) -> Result<ServicePort, (&'static str, Reason)> {
    let protocol = written.protocol.as_deref();
    Ok(ServicePort {
        name: written.name.as_deref().unwrap_or_default().into(),
        protocol: address::protocol(protocol).map_err(|reason| ("protocol", reason))?,
        port: address::port(written.port).map_err(|reason| ("port", reason))?,
        node_port: None,
    })
}
