// SPDX-License-Identifier: Apache-2.0
//! Which programs a device has, and on which side.

use aya::programs::{LinkOrder, TcAttachType};

use crate::{
    bpf::object::{
        EGRESS, INGRESS, L3_EGRESS, L3_INGRESS, L3_UPLINK_EGRESS, L3_UPLINK_INGRESS, UPLINK_EGRESS,
        UPLINK_INGRESS,
    },
    devices::classify::Role,
};

/// A side of a device, as seen from the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Ingress,
    Egress,
}

impl Side {
    pub(super) const BOTH: [Self; 2] = [Self::Ingress, Self::Egress];

    /// Whether this is the name of one of our programs for this side.
    pub(super) fn has(self, program: &str) -> bool {
        match self {
            Self::Ingress => {
                [INGRESS, L3_INGRESS, UPLINK_INGRESS, L3_UPLINK_INGRESS].contains(&program)
            }
            Self::Egress => [EGRESS, L3_EGRESS, UPLINK_EGRESS, L3_UPLINK_EGRESS].contains(&program),
        }
    }

    pub(super) const fn attach_type(self) -> TcAttachType {
        match self {
            Self::Ingress => TcAttachType::Ingress,
            Self::Egress => TcAttachType::Egress,
        }
    }

    /// Closest to what is at the other end: what others see on this device is translated already.
    pub(super) fn order(self) -> LinkOrder {
        match self {
            Self::Ingress => LinkOrder::first(),
            Self::Egress => LinkOrder::last(),
        }
    }
}

/// The programs of one device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Programs {
    /// What the device is for.
    pub role: Role,
    /// Whether its frames have an Ethernet header.
    pub has_ethernet_header: bool,
}

impl Programs {
    /// The name of the program for a side, in the object and in clsact's filters.
    pub(super) const fn on(self, side: Side) -> &'static str {
        match (self.role, side, self.has_ethernet_header) {
            (Role::Workload, Side::Ingress, true) => INGRESS,
            (Role::Workload, Side::Ingress, false) => L3_INGRESS,
            (Role::Workload, Side::Egress, true) => EGRESS,
            (Role::Workload, Side::Egress, false) => L3_EGRESS,
            (Role::Uplink | Role::Tunnel, Side::Ingress, true) => UPLINK_INGRESS,
            (Role::Uplink | Role::Tunnel, Side::Ingress, false) => L3_UPLINK_INGRESS,
            (Role::Uplink | Role::Tunnel, Side::Egress, true) => UPLINK_EGRESS,
            (Role::Uplink | Role::Tunnel, Side::Egress, false) => L3_UPLINK_EGRESS,
        }
    }

    /// The priority of clsact's filter for a side: before all others; but the guard comes after
    /// whoever else may translate there.
    pub(super) const fn priority(self, side: Side) -> u16 {
        match (self.role, side) {
            (Role::Uplink | Role::Tunnel, Side::Egress) => u16::MAX,
            _ => 1,
        }
    }
}
