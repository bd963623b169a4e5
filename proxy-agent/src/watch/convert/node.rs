// SPDX-License-Identifier: Apache-2.0
//! Nodes and Service CIDRs: what belongs to no namespace.

use ipnet::IpNet;

use super::{Convert, Converted, Reason, Rejected, Subject, address, not};
use crate::{
    model::{Node, Object, ServiceCidr},
    watch::{
        Event,
        api::{self, NodeSpec, Resource as _},
    },
};

/// The taint by which the cluster's autoscaler says that it is about to delete a Node.
const TO_BE_DELETED: &str = "ToBeDeletedByClusterAutoscaler";

impl Convert for api::Node {
    fn convert(&self) -> Result<Converted, Rejected> {
        let subject = Subject::new(Self::KIND, &self.metadata)?;
        let zone = self.metadata.label(|labels| &labels.zone).filter(|zone| !zone.is_empty());
        let (mut addresses, mut pod_cidrs, mut rejected) = (Vec::new(), Vec::new(), Vec::new());
        let written = self.status.as_ref().and_then(|status| status.addresses.as_ref());
        // The other types are names.
        for wanted in ["InternalIP", "ExternalIP"] {
            for (at, written) in written.into_iter().flatten().enumerate() {
                if written.type_ != wanted {
                    continue;
                }
                match address::any(&written.address) {
                    Ok(address) => addresses.push(address),
                    Err(reason) => {
                        let field = format_args!("status.addresses[{at}].address");
                        rejected.push(subject.reject(field, reason));
                    }
                }
            }
        }
        for (field, text) in self.spec.as_ref().into_iter().flat_map(written_cidrs) {
            match address::cidr(text) {
                Ok(cidr) => pod_cidrs.push(cidr),
                Err(reason) => rejected.push(subject.reject(field, reason)),
            }
        }
        let name = subject.key.name.name;
        let is_leaving = self.metadata.deletion_timestamp.is_some() || self.is_to_be_deleted();
        let node = Node { name, zone: zone.map(Into::into), addresses, pod_cidrs, is_leaving };
        Ok(Converted { event: Event::Apply(Object::Node(node)), rejected })
    }
}

impl api::Node {
    fn is_to_be_deleted(&self) -> bool {
        let taints = self.spec.iter().flat_map(|spec| &spec.taints).flatten();
        taints.into_iter().any(|taint| taint.key == TO_BE_DELETED)
    }
}

/// The ranges of a Node's pods: the API gives the first as `podCIDR` too.
fn written_cidrs(spec: &NodeSpec) -> Vec<(String, &String)> {
    let all = spec.pod_cidrs.iter().flatten().enumerate();
    let all: Vec<_> = all.map(|(at, text)| (format!("spec.podCIDRs[{at}]"), text)).collect();
    if !all.is_empty() {
        return all;
    }
    spec.pod_cidr.iter().map(|text| ("spec.podCIDR".to_owned(), text)).collect()
}

impl Convert for api::ServiceCidr {
    fn convert(&self) -> Result<Converted, Rejected> {
        let subject = Subject::new(Self::KIND, &self.metadata)?;
        let written = self.spec.as_ref().and_then(|spec| spec.cidrs.as_ref());
        let mut cidrs = Vec::new();
        for (at, text) in written.into_iter().flatten().enumerate() {
            let reject = |reason| subject.reject(format_args!("spec.cidrs[{at}]"), reason);
            cidrs.push(cidr(text).map_err(reject)?);
        }
        if cidrs.is_empty() {
            return Err(subject.reject("spec.cidrs", Reason::Missing));
        }
        let object = Object::ServiceCidr(ServiceCidr { name: subject.key.name.name, cidrs });
        Ok(Converted { event: Event::Apply(object), rejected: Vec::new() })
    }
}

/// A range, but not of all addresses: nothing would leave the node then.
fn cidr(text: &str) -> Result<IpNet, Reason> {
    let cidr = address::cidr(text)?;
    if cidr.prefix_len() > 0 { Ok(cidr) } else { Err(not(text, "narrower than all addresses")) }
}
