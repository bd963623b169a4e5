// SPDX-License-Identifier: Apache-2.0
//! What the tables of a family hold when an agent finds them as another one has left them.

use super::Rows;
use proxy_common::{
    Family,
    backend::{Backend, BackendId},
    frontend::{Frontend, FrontendKey, ServiceIndex},
    name,
    service::Service,
    service_cidr::Prefix,
};

/// What is in the tables of one family. Where no order is said there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contents<F: Family> {
    /// How much room they have.
    pub rows: Rows,
    /// The Service ports: their names, and their rows.
    pub services: Vec<(ServiceIndex, name::ServiceName, Service)>,
    /// The rows of Service ports that have been removed, in ascending order.
    pub removed: Vec<ServiceIndex>,
    /// The slots that have ever been written, in ascending order.
    pub slots: Vec<(u32, BackendId)>,
    /// The backends that have ever been written, in ascending order.
    pub backends: Vec<(BackendId, Backend<F>)>,
    /// The frontends.
    pub frontends: Vec<(FrontendKey<F>, Frontend)>,
    /// The source ranges of Service ports.
    pub source_ranges: Vec<(ServiceIndex, Prefix<F>)>,
    /// The guarded prefixes of Service CIDRs.
    pub service_cidrs: Vec<Prefix<F>>,
    /// The rows that say what of Services is missing.
    pub shortfalls: Vec<u32>,
}
