// SPDX-License-Identifier: Apache-2.0
//! Objects of the Kubernetes API, as the model has them.
//!
//! What kube-proxy's watches filter out is filtered out here (an object that is not for a proxy
//! is reported as deleted, since it may have been for one before), and what the API server would
//! fill in is filled in, so that hand-written objects work. A field that cannot be used is
//! rejected by its name: with the whole object where it would be wrong without, else alone.

mod address;
mod endpoint_slice;
mod node;
mod service;
#[cfg(test)]
mod tests;

use std::{fmt, net::IpAddr};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::Event;
use crate::model::{Kind, ObjectKey, ObjectName};

/// An object of the Kubernetes API that the proxy reads.
pub trait Convert {
    /// Which it is in the model.
    const KIND: Kind;

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
    fn new(kind: Kind, metadata: &ObjectMeta) -> Result<Self, Rejected> {
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

/// A label, if the object has it.
fn label<'a>(metadata: &'a ObjectMeta, name: &str) -> Option<&'a str> {
    metadata.labels.as_ref()?.get(name).map(String::as_str)
}

fn not(value: impl fmt::Display, expected: &'static str) -> Reason {
    Reason::Not { value: value.to_string(), expected }
}
