// SPDX-License-Identifier: Apache-2.0
//! What the proxy knows of the cluster: Services, their EndpointSlices, its own Node and the
//! Service CIDRs, without any type of the Kubernetes API or of the kernel's tables.
//!
//! Objects hold what the planner reads and nothing else, so that an update of anything else (a
//! heartbeat, an annotation) compares equal and costs nothing. Defaults of the API are filled in
//! where objects are converted, in [`watch::convert`](crate::watch::convert).

pub mod endpoint_slice;
pub mod name;
pub mod node;
pub mod object;
pub mod service;
pub mod service_cidr;
pub mod shared;
pub mod store;

pub use endpoint_slice::{Endpoint, EndpointPort, EndpointSlice, Hints, Trigger};
pub use name::{ObjectName, ServiceName, ServicePortName};
pub use node::Node;
pub use object::{Kind, Object, ObjectKey};
pub use service::{Service, ServicePort, TrafficPolicy};
pub use service_cidr::ServiceCidr;
pub use shared::Shared;
pub use store::Store;
