// SPDX-License-Identifier: Apache-2.0
//! kube-proxy's configuration: the file that `--config` names, and the flags that stand for it without one.
//!
//! Both become a [`KubeProxyConfiguration`], which is [completed](KubeProxyConfiguration::complete) and
//! [checked](KubeProxyConfiguration::check) by kube-proxy's rules. What of it has a meaning here is in [`Field`].

mod boolean;
mod check;
mod defaults;
mod duration;
mod effective;
mod feature_gates;
mod field;
mod logging;
mod read;
mod schema;
#[cfg(test)]
mod tests;

pub use self::{
    boolean::{GoBool, NoBool},
    check::Invalid,
    defaults::{HEALTHZ_PORT, METRICS_PORT, Mode, append_port},
    duration::GoDuration,
    feature_gates::{FeatureGate, UnknownFeature},
    field::{Field, Meaning},
    logging::{FlushFrequency, FormatOptions, Logging, OutputRouting, Quantity, VmoduleItem},
    read::ReadError,
    schema::*,
};
