// SPDX-License-Identifier: Apache-2.0
//! The operator's word on devices.

use super::{patterns::Patterns, xdp::XdpModes};
use crate::local_clients::LocalClients;

/// What the operator has said of devices.
#[derive(Clone, Debug)]
pub struct DeviceOptions {
    /// Which have a role whatever they look like, or none.
    pub patterns: Patterns,
    /// Whose clients are the node's own pods.
    pub local_clients: LocalClients,
    /// Which have a program in their driver.
    pub xdp: XdpModes,
}
