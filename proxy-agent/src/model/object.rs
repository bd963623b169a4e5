// SPDX-License-Identifier: Apache-2.0
//! Any of the objects that the proxy reads, and how it is found again.

use std::{fmt, sync::Arc};

use super::{EndpointSlice, Node, ObjectName, Service, ServiceCidr};

/// The kinds of objects that the proxy reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A [`Service`].
    Service,
    /// An [`EndpointSlice`].
    EndpointSlice,
    /// A [`Node`].
    Node,
    /// A [`ServiceCidr`].
    ServiceCidr,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Service, Self::EndpointSlice, Self::Node, Self::ServiceCidr];

    /// The name that the API uses.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Service => "Service",
            Self::EndpointSlice => "EndpointSlice",
            Self::Node => "Node",
            Self::ServiceCidr => "ServiceCIDR",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The kind and the name of an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace (empty for Nodes and Service CIDRs) and name.
    pub name: ObjectName,
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
}

/// An object.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Object {
    /// A Service.
    Service(Service),
    /// An EndpointSlice.
    EndpointSlice(EndpointSlice),
    /// A Node.
    Node(Node),
    /// A Service CIDR.
    ServiceCidr(ServiceCidr),
}

impl Object {
    /// Which kind of object it is.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Service(_) => Kind::Service,
            Self::EndpointSlice(_) => Kind::EndpointSlice,
            Self::Node(_) => Kind::Node,
            Self::ServiceCidr(_) => Kind::ServiceCidr,
        }
    }

    /// How the object is found again.
    #[must_use]
    pub fn key(&self) -> ObjectKey {
        let global = |name: &Arc<str>| ObjectName { namespace: "".into(), name: name.clone() };
        let name = match self {
            Self::Service(service) => service.name.clone(),
            Self::EndpointSlice(slice) => slice.name.clone(),
            Self::Node(node) => global(&node.name),
            Self::ServiceCidr(cidr) => global(&cidr.name),
        };
        ObjectKey { kind: self.kind(), name }
    }
}
