// SPDX-License-Identifier: Apache-2.0
//! Names of objects and of Service ports. Cloning one costs two reference counts.

use std::{fmt, sync::Arc};

use proxy_common::Protocol;

/// The namespace and the name of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName {
    /// The namespace; empty for objects that belong to none.
    pub namespace: Arc<str>,
    /// The name.
    pub name: Arc<str>,
}

/// The namespace and the name of a Service.
pub type ServiceName = ObjectName;

impl ObjectName {
    /// A name.
    #[must_use]
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            return f.write_str(&self.name);
        }
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A port of a Service, by the name under which EndpointSlices know it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServicePortName {
    /// The Service.
    pub service: ServiceName,
    /// The port's name; empty where the Service's only port has none.
    pub port: Arc<str>,
    /// The port's protocol.
    pub protocol: Protocol,
}

impl fmt::Display for ServicePortName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}/{}", self.service, self.port, self.protocol)
    }
}
