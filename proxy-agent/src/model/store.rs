// SPDX-License-Identifier: Apache-2.0
//! All objects, and which Services have changed.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    mem,
    sync::Arc,
};

use foldhash::fast::RandomState;
use ipnet::IpNet;

use crate::few::Few;

use super::{
    EndpointSlice, Kind, Node, Object, ObjectKey, ObjectName, Service, ServiceCidr, ServiceName,
    Shared,
};

/// Holds objects by key, and remembers which Services may have to be planned anew.
///
/// EndpointSlices may come before their Service, and stay when it goes.
#[derive(Debug)]
pub struct Store {
    node_name: Arc<str>,
    node: Option<Node>,
    /// Whether the own Node has been deleted since it was last heard of.
    node_is_gone: bool,
    services: HashMap<ServiceName, Known, RandomState>,
    /// How many of the names in `services` have a Service.
    service_count: usize,
    /// The Service that each EndpointSlice belongs to: its label may change.
    owners: HashMap<ObjectName, ServiceName, RandomState>,
    dirty: BTreeSet<ServiceName>,
    service_cidrs: BTreeMap<Arc<str>, ServiceCidr>,
    service_cidrs_changed: bool,
    shared: Shared,
}

/// What is known of one Service name.
#[derive(Debug, Default)]
struct Known {
    service: Option<Box<Service>>,
    /// Ordered by name, so that what is planned does not depend on the order of arrival.
    slices: Few<ObjectName, EndpointSlice>,
}

impl Store {
    /// An empty store of the node with this name.
    #[must_use]
    pub fn new(node_name: &str) -> Self {
        Self {
            node_name: node_name.into(),
            node: None,
            node_is_gone: false,
            services: HashMap::default(),
            service_count: 0,
            owners: HashMap::default(),
            dirty: BTreeSet::new(),
            service_cidrs: BTreeMap::new(),
            service_cidrs_changed: false,
            shared: Shared::default(),
        }
    }

    /// Takes a new or a changed object, and says whether it is a Service or an EndpointSlice that is another one now.
    pub fn apply(&mut self, mut object: Object) -> bool {
        object.share(&mut self.shared);
        match object {
            Object::Service(service) => return self.apply_service(service),
            Object::EndpointSlice(slice) => return self.apply_slice(slice),
            // Only the own Node bears on what is planned.
            Object::Node(node) if node.name == self.node_name => self.set_node(node),
            Object::Node(_) => {}
            Object::ServiceCidr(cidr) => {
                self.service_cidrs_changed |= self.service_cidrs.get(&cidr.name) != Some(&cidr);
                let _ = self.service_cidrs.insert(cidr.name.clone(), cidr);
            }
        }
        false
    }

    /// Forgets an object, if it is known, and says whether it was a Service or an EndpointSlice.
    pub fn delete(&mut self, key: &ObjectKey) -> bool {
        match key.kind {
            Kind::Service => return self.delete_service(&key.name),
            Kind::EndpointSlice => return self.delete_slice(&key.name),
            // A Node that is made anew, as kubelet does, has the zone and the addresses that it
            // had: until then, what is known of it stays.
            Kind::Node => self.node_is_gone |= *key.name.name == *self.node_name,
            Kind::ServiceCidr => {
                let removed = self.service_cidrs.remove(&key.name.name);
                self.service_cidrs_changed |= removed.is_some();
            }
        }
        false
    }

    /// The names of the Services that have changed since the last call, gone ones included.
    pub fn take_dirty(&mut self) -> BTreeSet<ServiceName> {
        mem::take(&mut self.dirty)
    }

    /// The ranges of all Service CIDRs, if they may have changed since the last call.
    pub fn take_service_cidrs(&mut self) -> Option<BTreeSet<IpNet>> {
        let cidrs = self.service_cidrs.values().flat_map(|cidr| &cidr.cidrs);
        mem::take(&mut self.service_cidrs_changed).then(|| cidrs.copied().collect())
    }

    /// A Service.
    #[must_use]
    pub fn service(&self, name: &ServiceName) -> Option<&Service> {
        self.services.get(name)?.service.as_deref()
    }

    /// The EndpointSlices of a Service, by name.
    pub fn slices(&self, name: &ServiceName) -> impl Iterator<Item = &EndpointSlice> {
        self.services.get(name).into_iter().flat_map(|known| known.slices.values())
    }

    /// How many Services there are.
    #[must_use]
    pub const fn service_count(&self) -> usize {
        self.service_count
    }

    /// The name of the own Node.
    #[must_use]
    pub fn node_name(&self) -> &Arc<str> {
        &self.node_name
    }

    /// The own Node.
    #[must_use]
    pub fn node(&self) -> Option<&Node> {
        self.node.as_ref()
    }

    fn apply_service(&mut self, service: Service) -> bool {
        let known = self.services.entry(service.name.clone()).or_default();
        let is_new = known.service.as_deref() != Some(&service);
        if is_new {
            let _ = self.dirty.insert(service.name.clone());
            let before = known.service.replace(Box::new(service));
            self.service_count += usize::from(before.is_none());
        }
        is_new
    }

    fn delete_service(&mut self, name: &ServiceName) -> bool {
        let known = self.services.get_mut(name);
        let is_known = known.is_some_and(|known| known.service.take().is_some());
        if is_known {
            let _ = self.dirty.insert(name.clone());
            self.service_count -= 1;
            self.forget_if_empty(name);
        }
        is_known
    }

    fn apply_slice(&mut self, slice: EndpointSlice) -> bool {
        let owner = self.owners.insert(slice.name.clone(), slice.service.clone());
        if let Some(owner) = owner
            && owner != slice.service
        {
            self.remove_from(&owner, &slice.name);
        }
        let known = self.services.entry(slice.service.clone()).or_default();
        let is_new = known.slices.get(&slice.name) != Some(&slice);
        if is_new {
            let _ = self.dirty.insert(slice.service.clone());
            let _ = known.slices.insert(slice.name.clone(), slice);
        }
        is_new
    }

    fn delete_slice(&mut self, name: &ObjectName) -> bool {
        let owner = self.owners.remove(name);
        if let Some(owner) = &owner {
            self.remove_from(owner, name);
        }
        owner.is_some()
    }

    fn remove_from(&mut self, owner: &ServiceName, slice: &ObjectName) {
        if let Some(known) = self.services.get_mut(owner)
            && known.slices.remove(slice).is_some()
        {
            let _ = self.dirty.insert(owner.clone());
            self.forget_if_empty(owner);
        }
    }

    fn forget_if_empty(&mut self, name: &ServiceName) {
        if let Some(known) = self.services.get(name)
            && known.service.is_none()
            && known.slices.is_empty()
        {
            let _ = self.services.remove(name);
        }
    }

    /// Whether there was an own Node that has been deleted: [`Self::node`] is what it was like.
    #[must_use]
    pub const fn node_is_gone(&self) -> bool {
        self.node_is_gone
    }

    /// Takes the own Node. Its zone decides which hints apply, so with another zone every Service
    /// may have another plan; with another address those may that admit clients by theirs. Nothing
    /// else about it matters to Services.
    fn set_node(&mut self, node: Node) {
        self.node_is_gone = false;
        let before = self.node.replace(node).unwrap_or_default();
        let after = self.node.as_ref();
        let moved = after.is_some_and(|node| node.zone != before.zone);
        let readdressed = after.is_some_and(|node| node.addresses != before.addresses);
        let may_differ = |known: &Known| {
            let service = known.service.as_ref();
            let restricted = service.is_some_and(|service| !service.source_ranges.is_empty());
            moved || (readdressed && restricted)
        };
        if moved || readdressed {
            let names = self.services.iter().filter(|(_, known)| may_differ(known));
            self.dirty.extend(names.map(|(name, _)| name.clone()));
        }
    }
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
