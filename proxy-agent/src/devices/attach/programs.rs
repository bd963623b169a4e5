// SPDX-License-Identifier: Apache-2.0
//! Which programs a device has, and on which side.

use aya::programs::{LinkOrder, ProgramId, TcAttachType};

use crate::{
    bpf::{
        Hook,
        object::{
            EGRESS, INGRESS, L3_EGRESS, L3_INGRESS, L3_UPLINK_EGRESS, L3_UPLINK_INGRESS,
            UPLINK_EGRESS, UPLINK_INGRESS,
        },
    },
    devices::classify::Role,
};

/// The priority of clsact's filter for a guard: above all that the kernel gives by itself (up to 0xC000), with room for
/// hundreds of versions, each of which comes after the one that it replaces.
const GUARDS: u16 = 65_000;

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

    /// Whether this is the name of a program that holds packets back where they leave the node.
    pub(super) fn is_guard(self, program: &str) -> bool {
        self == Self::Egress && [UPLINK_EGRESS, L3_UPLINK_EGRESS].contains(&program)
    }

    /// What a link on this side is for.
    pub(super) const fn hook(self) -> Hook {
        match self {
            Self::Ingress => Hook::Ingress,
            Self::Egress => Hook::Egress,
        }
    }

    pub(super) const fn attach_type(self) -> TcAttachType {
        match self {
            Self::Ingress => TcAttachType::Ingress,
            Self::Egress => TcAttachType::Egress,
        }
    }

    /// Closest to what is at the other end: what others see on this device is translated already. But the program of
    /// another version comes first, if it is there: it goes on with what it knows.
    pub(super) fn order(self, former: Option<u32>) -> LinkOrder {
        match (self, former) {
            // SAFETY: the kernel looks whether there is such a program at the device.
            (Self::Ingress, Some(id)) => LinkOrder::after_program_id(unsafe { ProgramId::new(id) }),
            (Self::Ingress, None) => LinkOrder::first(),
            (Self::Egress, _) => LinkOrder::last(),
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
    /// whoever else may translate there. Right after the filters of another version, if there are any.
    pub(super) fn priority(self, side: Side, former: impl Iterator<Item = u16>) -> u16 {
        let usual = match (self.role, side) {
            (Role::Uplink | Role::Tunnel, Side::Egress) => GUARDS,
            _ => 1,
        };
        former.max().and_then(|last| last.checked_add(1)).unwrap_or(usual)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_version_comes_after_the_one_before() {
        for role in [Role::Workload, Role::Uplink] {
            let programs = Programs { role, has_ethernet_header: true };
            for side in Side::BOTH {
                let first = programs.priority(side, [].into_iter());
                let mut former = first;
                for _ in 0..100 {
                    let next = programs.priority(side, [first, former].into_iter());
                    assert!(next > former, "{next} after {former}");
                    former = next;
                }
            }
        }
    }
}
