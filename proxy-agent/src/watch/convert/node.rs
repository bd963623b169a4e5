// SPDX-License-Identifier: Apache-2.0
//! Nodes and Service CIDRs: what belongs to no namespace.

use std::collections::BTreeSet;

use ipnet::IpNet;

use super::{Convert, Converted, Reason, Rejected, Subject, not};
use crate::{
    model::{Node, Object, ServiceCidr},
    watch::{
        Event,
        api::{self, Resource as _},
    },
};

impl Convert for api::Node {
    fn convert(&self) -> Result<Converted, Rejected> {
        let subject = Subject::new(Self::KIND, &self.metadata)?;
        let zone = self.metadata.label(|labels| &labels.zone).filter(|zone| !zone.is_empty());
        let (mut addresses, mut rejected) = (BTreeSet::new(), Vec::new());
        let written = self.status.as_ref().and_then(|status| status.addresses.as_ref());
        for (at, written) in written.into_iter().flatten().enumerate() {
            // The other types are names.
            if !matches!(written.type_.as_str(), "InternalIP" | "ExternalIP") {
                continue;
            }
            if let Ok(address) = written.address.parse() {
                let _ = addresses.insert(address);
            } else {
                let field = format_args!("status.addresses[{at}].address");
                rejected.push(subject.reject(field, not(&written.address, "an IP address")));
            }
        }
        let name = subject.key.name.name;
        let node = Node { name, zone: zone.map(Into::into), addresses };
        Ok(Converted { event: Event::Apply(Object::Node(node)), rejected })
    }
}

impl Convert for api::ServiceCidr {
    fn convert(&self) -> Result<Converted, Rejected> {
        let subject = Subject::new(Self::KIND, &self.metadata)?;
        let written = self.spec.as_ref().and_then(|spec| spec.cidrs.as_ref());
        let mut cidrs = Vec::new();
        for (at, text) in written.into_iter().flatten().enumerate() {
            let reason = || not(text, "an address and a prefix length");
            let reject = || subject.reject(format_args!("spec.cidrs[{at}]"), reason());
            cidrs.push(cidr(text).ok_or_else(reject)?);
        }
        if cidrs.is_empty() {
            return Err(subject.reject("spec.cidrs", Reason::Missing));
        }
        let object = Object::ServiceCidr(ServiceCidr { name: subject.key.name.name, cidrs });
        Ok(Converted { event: Event::Apply(object), rejected: Vec::new() })
    }
}

/// A range, but not of all addresses: nothing would leave the node then.
fn cidr(text: &str) -> Option<IpNet> {
    let cidr: IpNet = text.parse().ok()?;
    (cidr.prefix_len() > 0).then(|| cidr.trunc())
}
