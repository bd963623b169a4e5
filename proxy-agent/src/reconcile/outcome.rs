// SPDX-License-Identifier: Apache-2.0
//! What the reconciler has to say.

use std::error::Error;

use proxy_common::{Family, frontend::FrontendKey, shortfall::Cause};

use super::ids::Exhausted;
use crate::{model::ServiceName, plan::PortId};

/// What a pass has done.
#[derive(Debug, Default)]
pub struct Outcome {
    /// What failed. It stays pending.
    pub problems: Vec<Problem>,
    /// What is newly missing.
    pub lacks: Vec<Lack>,
    /// Whether backends have stopped serving that UDP sockets may be connected to.
    pub left_sockets: bool,
}

/// Something of a Service that is newly not in the tables, or for another reason than before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lack {
    /// The Service.
    pub service: ServiceName,
    /// The port of it that is concerned, if it is one.
    pub port: Option<PortId>,
    /// What kind of reason that is.
    pub cause: Cause,
    /// Why, in words, with the flag that helps.
    pub message: String,
}

/// What failed for one Service.
#[derive(Debug)]
pub struct Problem {
    /// The Service.
    pub service: ServiceName,
    /// Why.
    pub error: ReconcileError,
}

/// Why the tables could not be made to hold what they should.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// A table is full.
    #[error(transparent)]
    Exhausted(#[from] Exhausted),
    /// The dataplane could not do something.
    #[error("cannot {verb}{}", .object.as_ref().map(|object| format!(" ({object})")).unwrap_or_default())]
    Apply {
        /// What it could not do.
        verb: &'static str,
        /// With what, if that has a name.
        object: Option<String>,
        /// The table that has refused it; empty if none has.
        table: String,
        /// Whether that is full.
        is_full: bool,
        /// Why.
        source: Box<dyn Error + Send + Sync>,
    },
}

/// Several Services want one frontend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict<F: Family> {
    /// The frontend.
    pub key: FrontendKey<F>,
    /// The Service that has it: whose cluster IP it is; else the oldest, of equally old ones the first
    /// by UID, then by name.
    pub winner: ServiceName,
    /// Those that do not have it, in the order in which they would get it.
    pub losers: Vec<ServiceName>,
}
