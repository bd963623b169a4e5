// SPDX-License-Identifier: Apache-2.0
//! From a file to a configuration, and back.

use std::{fs, io, path::Path};

use serde_saphyr::{DuplicateKeyPolicy, UserMessageFormatter};

use super::{API_VERSION, KIND, KubeProxyConfiguration};

/// Why a file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It cannot be opened, or is no text.
    #[error("cannot read it")]
    Io(#[from] io::Error),
    /// It is not YAML, lacks a value, or has a field that there is not, or twice: with the line.
    #[error("{0}")]
    Syntax(String),
    /// It is something else.
    #[error("it is a {kind:?} of {api_version:?}, and not a {KIND} of {API_VERSION}")]
    Kind {
        /// Its `apiVersion`.
        api_version: String,
        /// Its `kind`.
        kind: String,
    },
}

impl KubeProxyConfiguration {
    /// What a file says, and no more: nothing is completed or checked. YAML, and JSON, which is YAML, too.
    ///
    /// Strict as kube-proxy's first attempt at it is: there a file that fails it is read again, and what was wrong is a
    /// warning.
    ///
    /// # Errors
    ///
    /// If it cannot be read, has unknown or duplicated fields, values of other types, or is something else.
    pub fn read(file: &Path) -> Result<Self, ReadError> {
        Self::parse(&fs::read_to_string(file)?)
    }

    /// The same of a text.
    ///
    /// # Errors
    ///
    /// The same, but for those of the file.
    pub fn parse(text: &str) -> Result<Self, ReadError> {
        let options = serde_saphyr::options! {
            duplicate_keys: DuplicateKeyPolicy::Error,
            no_schema: true,
            with_snippet: false,
        };
        let read: Self = serde_saphyr::from_str_with_options(text, options).map_err(|error| {
            ReadError::Syntax(error.render_with_formatter(&UserMessageFormatter))
        })?;
        if read.kind == KIND && read.api_version == API_VERSION {
            return Ok(read);
        }
        let Self { kind, api_version, .. } = read;
        Err(ReadError::Kind { api_version, kind })
    }

    /// The YAML of a file that says the same: fields in the order of their names, as kube-proxy writes them.
    ///
    /// # Errors
    ///
    /// None that is known of.
    pub fn to_yaml(&self) -> anyhow::Result<String> {
        // A map of this library has its keys in order.
        let sorted = serde_json::to_value(self)?;
        Ok(serde_saphyr::to_string(&sorted)?)
    }
}
