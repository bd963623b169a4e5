// SPDX-License-Identifier: Apache-2.0
//! Objects of the Kubernetes API, with the fields that a proxy needs and no others.
//!
//! Whole objects are many times as large: a Service carries what was applied and who manages which
//! field, a Node its images. What is not here is neither decoded nor kept. Fields are optional
//! where the API leaves them out, since objects may be hand-written too.

mod endpoint_slice;
mod node;
mod service;

use std::time::SystemTime;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::{Deserialize, de::DeserializeOwned};

use crate::model::Kind;

pub use self::{
    endpoint_slice::{Conditions, Endpoint, EndpointPort, EndpointSlice, Hint, Hints},
    node::{Node, NodeAddress, NodeSpec, NodeStatus, ServiceCidr, ServiceCidrSpec, Taint},
    service::{
        ClientIpConfig, Ingress, LoadBalancerStatus, Service, ServicePort, ServiceSpec,
        ServiceStatus, SessionAffinityConfig,
    },
};

/// A kind of objects, as the API has it.
pub trait Resource: DeserializeOwned + Send + 'static {
    /// Which it is in the model.
    const KIND: Kind;
    /// `apiVersion` of its objects.
    const API_VERSION: &'static str;
    /// What its objects are called in paths.
    const PLURAL: &'static str;

    /// `metadata`.
    fn metadata(&self) -> &Metadata;
}

/// `metadata`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Metadata {
    /// The name; unique in its kind and namespace at any time.
    pub name: Option<String>,
    /// The namespace, for kinds that live in one.
    pub namespace: Option<String>,
    /// The version; changes with each change of the object.
    pub resource_version: Option<String>,
    /// Which object of all that ever had this name it is.
    pub uid: Option<String>,
    /// When the object was made.
    pub creation_timestamp: Option<Time>,
    /// When it was said that the object is to be deleted; it may be there for a while yet.
    pub deletion_timestamp: Option<Time>,
    /// The labels that are looked at.
    pub labels: Option<Labels>,
    /// The annotations that are looked at.
    pub annotations: Option<Annotations>,
}

/// The annotations that are looked at.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Annotations {
    /// When that happened for which an `EndpointSlice` was last changed.
    #[serde(rename = "endpoints.kubernetes.io/last-change-trigger-time")]
    pub last_change_trigger_time: Option<String>,
}

/// The labels that are looked at.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Labels {
    /// Says that a Service is for another proxy.
    #[serde(rename = "service.kubernetes.io/service-proxy-name")]
    pub proxy_name: Option<String>,
    /// Says that an `EndpointSlice` is that of a headless Service.
    #[serde(rename = "service.kubernetes.io/headless")]
    pub headless: Option<String>,
    /// The Service of an `EndpointSlice`.
    #[serde(rename = "kubernetes.io/service-name")]
    pub service_name: Option<String>,
    /// The zone of a Node.
    #[serde(rename = "topology.kubernetes.io/zone")]
    pub zone: Option<String>,
}

impl Metadata {
    /// When that happened for which an `EndpointSlice` was last changed. What is no time is as nothing: it is measured by it,
    /// and no more.
    #[must_use]
    pub fn changed_for(&self) -> Option<SystemTime> {
        let annotations = self.annotations.as_ref()?;
        let time: Timestamp = annotations.last_change_trigger_time.as_ref()?.parse().ok()?;
        Some(time.into())
    }

    /// The value of a label, if the object has it.
    pub fn label(&self, which: impl Fn(&Labels) -> &Option<String>) -> Option<&str> {
        self.labels.as_ref().and_then(|labels| which(labels).as_deref())
    }
}
