// SPDX-License-Identifier: Apache-2.0
//! What is wrong with manifests.

use std::{io, mem, path::PathBuf};

use tracing::warn;

use super::ManifestsError;
use crate::{chain::chain, model::ObjectKey, watch::convert::Rejected};

/// Something in a file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {cause}", file.display())]
pub struct Report {
    /// The file.
    pub file: PathBuf,
    /// What is wrong.
    #[source]
    pub cause: Cause,
}

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    /// It cannot be read.
    #[error("cannot be read, so its objects stay as they were")]
    Read(#[source] io::Error),
    /// It has nothing in it.
    #[error("is empty, so its objects stay as they were; remove it to remove them")]
    Empty,
    /// It is neither YAML nor JSON.
    #[error("cannot be parsed, so its objects stay as they were: {0}")]
    Syntax(String),
    /// An object, or a part of one, cannot be used.
    #[error(transparent)]
    Object(#[from] Rejected),
    /// An object is in this file too, but is taken from another place.
    #[error("{object}: is taken from {winner}")]
    Duplicate {
        /// The object.
        object: ObjectKey,
        /// The file that it is taken from.
        winner: String,
    },
}

impl Report {
    pub(super) fn log(&self) {
        let file = self.file.display();
        match &self.cause {
            Cause::Object(Rejected { object, field, reason }) => {
                warn!(%file, object, field, %reason, "part of a manifest cannot be used");
            }
            Cause::Duplicate { object, winner } => {
                warn!(%file, %object, winner, "an object is in two places");
            }
            Cause::Read(error) => {
                warn!(%file, %error, "a manifest cannot be read, its objects stay");
            }
            cause @ (Cause::Empty | Cause::Syntax(_)) => warn!(%file, "a manifest {cause}"),
        }
    }
}

/// Says that the directory is gone, unless that has been said.
pub(super) fn log_lost(error: &ManifestsError, lost: &mut bool) {
    if !mem::replace(lost, true) {
        let error = chain(error);
        warn!(error, "the directory of manifests has gone, its objects stay as they were");
    }
}
