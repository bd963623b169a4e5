// SPDX-License-Identifier: Apache-2.0
//! Objects of the Kubernetes API, as the model has them.
//!
//! What kube-proxy's watches filter out is filtered out here (an object that is not for a proxy
//! is reported as deleted, since it may have been for one before), and what the API server would
//! fill in is filled in, so that hand-written objects work. A field that cannot be used is
//! rejected by its name: with the whole object where it would be wrong without, else alone.

mod address;
mod endpoint_slice;
mod external;
mod node;
mod service;
#[cfg(test)]
mod tests;

use std::{fmt, net::IpAddr};

use serde::Deserializer;
use serde_json::Value;

use super::{
    Event,
    api::{Metadata, Resource},
};
use crate::model::{Kind, ObjectKey, ObjectName};

/// An object of the Kubernetes API that the proxy reads.
pub trait Convert: Resource {
    /// Converts it.
    ///
    /// # Errors
    ///
    /// What keeps the whole object from being used.
    fn convert(&self) -> Result<Converted, Rejected>;
}

/// A converted object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Converted {
    /// The object, or that it is none for a proxy.
    pub event: Event,
    /// Parts of it that could not be used.
    pub rejected: Vec<Rejected>,
}

impl Converted {
    fn nothing(key: ObjectKey) -> Self {
        Self { event: Event::Delete(key), rejected: Vec::new() }
    }
}

/// A field that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{object}: {field}: {reason}")]
pub struct Rejected {
    /// The object, as far as it could be told.
    pub object: String,
    /// The field, written as in `spec.ports[0].port`.
    pub field: String,
    /// Why.
    pub reason: Reason,
}

/// Why a field cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// It is not there.
    #[error("missing")]
    Missing,
    /// It is not what it should be.
    #[error("{value:?} is not {expected}")]
    Not {
        /// What it is.
        value: String,
        /// What it should be.
        expected: &'static str,
    },
    /// Traffic cannot be sent to such an address.
    #[error("{0} is {1}")]
    Special(IpAddr, &'static str),
    /// There are two of what may be there once.
    #[error("is there twice")]
    Duplicate,
    /// It does not have the form that the API gives it.
    #[error("{0}")]
    Form(String),
}

/// The object at hand, to reject fields of.
#[derive(Clone, Debug)]
struct Subject {
    key: ObjectKey,
}

impl Subject {
    /// The name of an object. Those of a kind that lives in namespaces are in `default` if they
    /// do not say otherwise.
    fn new(kind: Kind, metadata: &Metadata) -> Result<Self, Rejected> {
        let namespace = match kind {
            Kind::Service | Kind::EndpointSlice => {
                metadata.namespace.as_deref().unwrap_or("default")
            }
            Kind::Node | Kind::ServiceCidr => "",
        };
        let name = metadata.name.as_deref().unwrap_or_default();
        let subject = Self { key: ObjectKey { kind, name: ObjectName::new(namespace, name) } };
        if name.is_empty() {
            return Err(subject.reject("metadata.name", Reason::Missing));
        }
        Ok(subject)
    }

    fn reject(&self, field: impl fmt::Display, reason: Reason) -> Rejected {
        Rejected { object: self.key.to_string(), field: field.to_string(), reason }
    }
}

fn not(value: impl fmt::Display, expected: &'static str) -> Reason {
    Reason::Not { value: value.to_string(), expected }
}

/// Decodes an object, which is called so until it is known better.
///
/// # Errors
///
/// The field that does not have the form that the API gives it.
pub(super) fn decode<'de, K, D>(written: D, called: &str) -> Result<K, Rejected>
where
    K: Resource,
    D: Deserializer<'de, Error: fmt::Display>,
{
    serde_path_to_error::deserialize(written).map_err(|error| Rejected {
        object: called.to_owned(),
        field: error.path().to_string(),
        reason: Reason::Form(error.inner().to_string()),
    })
}

/// What an object that may be unreadable says it is.
pub(super) fn claimed_key(value: &Value, kind: Kind) -> Option<ObjectKey> {
    let text = |field: &str| value.pointer(field).and_then(Value::as_str);
    let namespace = match kind {
        Kind::Service | Kind::EndpointSlice => text("/metadata/namespace").unwrap_or("default"),
        Kind::Node | Kind::ServiceCidr => "",
    };
    let name = text("/metadata/name").filter(|name| !name.is_empty())?;
    Some(ObjectKey { kind, name: ObjectName::new(namespace, name) })
}
