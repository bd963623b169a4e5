// SPDX-License-Identifier: Apache-2.0
//! What is asked about configurations.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Output;

/// What is asked about configurations.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Say what `sixfour run --config` takes of a file, what means nothing to it, and what is wrong.
    Check(CheckArgs),
}

/// A file to look at.
#[derive(Args, Debug)]
pub struct CheckArgs {
    /// A `KubeProxyConfiguration`, kubeproxy.config.k8s.io/v1alpha1.
    pub file: PathBuf,

    /// How to print it.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
}
