// SPDX-License-Identifier: Apache-2.0
//! Texts that many objects have, kept once: names of nodes, namespaces, Services and ports.

use std::{collections::HashSet, sync::Arc};

use foldhash::fast::RandomState;

use super::{EndpointSlice, Object, ObjectName, Service};

/// How many texts may be there before it is looked whether anybody still has them.
const FEW: usize = 1024;

/// The texts that objects share.
#[derive(Debug, Default)]
pub struct Shared {
    texts: HashSet<Arc<str>, RandomState>,
    /// How many there were when the last was forgotten that nobody had.
    kept: usize,
}

impl Shared {
    /// Has a text be the one that others have already, if they have.
    pub fn share(&mut self, text: &mut Arc<str>) {
        if let Some(known) = self.texts.get(text) {
            text.clone_from(known);
            return;
        }
        // Each has been forgotten by the time that as many new ones have come.
        if self.texts.len() >= 2 * self.kept.max(FEW) {
            self.texts.retain(|text| Arc::strong_count(text) > 1);
            self.kept = self.texts.len();
        }
        let _ = self.texts.insert(Arc::clone(text));
    }
}

impl Object {
    /// Has its texts be those that others have already.
    pub fn share(&mut self, shared: &mut Shared) {
        match self {
            Self::Service(service) => service.share(shared),
            Self::EndpointSlice(slice) => slice.share(shared),
            Self::Node(_) | Self::ServiceCidr(_) => {}
        }
    }
}

impl ObjectName {
    fn share(&mut self, shared: &mut Shared) {
        shared.share(&mut self.namespace);
        shared.share(&mut self.name);
    }
}

impl Service {
    fn share(&mut self, shared: &mut Shared) {
        self.name.share(shared);
        self.ports.iter_mut().for_each(|port| shared.share(&mut port.name));
    }
}

impl EndpointSlice {
    fn share(&mut self, shared: &mut Shared) {
        self.service.share(shared);
        shared.share(&mut self.name.namespace);
        for endpoint in &mut self.endpoints {
            let hints = endpoint.hints.iter_mut();
            let hints = hints.flat_map(|hints| hints.zones.iter_mut().chain(&mut hints.nodes));
            endpoint.node.iter_mut().chain(hints).for_each(|name| shared.share(name));
        }
        self.ports.iter_mut().for_each(|port| shared.share(&mut port.name));
    }
}

#[cfg(test)]
mod tests {
    use super::{Arc, FEW, Shared};

    #[test]
    fn equal_texts_become_one() {
        let mut shared = Shared::default();
        let [mut one, mut other]: [Arc<str>; 2] = ["node".into(), "node".into()];
        shared.share(&mut one);
        shared.share(&mut other);
        assert!(Arc::ptr_eq(&one, &other));
    }

    #[test]
    fn what_nobody_has_is_forgotten() {
        let mut shared = Shared::default();
        let mut kept: Arc<str> = "kept".into();
        shared.share(&mut kept);
        for number in 0..10 * FEW {
            shared.share(&mut number.to_string().into());
        }
        assert!(shared.texts.len() <= 2 * FEW && shared.texts.contains("kept"));
    }
}
