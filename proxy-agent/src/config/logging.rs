// SPDX-License-Identifier: Apache-2.0
//! What a configuration says of logs: `LoggingConfiguration` of Kubernetes' programs, as of 1.36
//! (`staging/src/k8s.io/component-base/logs/api/v1/types.go`).

use serde::{Deserialize, Serialize};

use super::{
    duration::GoDuration,
    schema::{is_false, null_is_nothing},
};

/// What is logged, and how.
#[serde_with::apply(_ => #[serde(deserialize_with = "null_is_nothing")])]
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Logging {
    /// `text` or `json`.
    pub format: String,
    /// How often what is logged is written out at the latest.
    pub flush_frequency: FlushFrequency,
    /// How much: up to 3 is information, more is for debugging.
    pub verbosity: u32,
    /// The same for files of kube-proxy's source.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub vmodule: Vec<VmoduleItem>,
    /// How, in each format.
    pub options: FormatOptions,
}

/// How much of one of kube-proxy's source files is logged.
#[serde_with::apply(_ => #[serde(deserialize_with = "null_is_nothing")])]
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct VmoduleItem {
    /// The file, or a glob.
    pub file_pattern: String,
    /// How much.
    pub verbosity: u32,
}

/// How each format is written.
#[serde_with::apply(_ => #[serde(deserialize_with = "null_is_nothing")])]
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct FormatOptions {
    /// `text`.
    pub text: OutputRouting,
    /// `json`.
    pub json: OutputRouting,
}

/// Where a format is written to.
#[serde_with::apply(_ => #[serde(deserialize_with = "null_is_nothing")])]
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct OutputRouting {
    /// Whether information goes to the standard output.
    #[serde(skip_serializing_if = "is_false")]
    pub split_stream: bool,
    /// How much information is held back: a Kubernetes quantity.
    pub info_buffer_size: Quantity,
}

/// A duration, as text or in nanoseconds.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum FlushFrequency {
    /// In nanoseconds.
    Nanoseconds(i64),
    /// As text.
    Text(GoDuration),
}

impl Default for FlushFrequency {
    fn default() -> Self {
        Self::Nanoseconds(0)
    }
}

/// An amount, as text or as a number; as it was written.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Quantity {
    /// As a number.
    Number(i64),
    /// As text.
    Text(String),
}

impl Default for Quantity {
    fn default() -> Self {
        Self::Text("0".to_owned())
    }
}
