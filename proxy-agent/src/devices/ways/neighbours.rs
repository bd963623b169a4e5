// SPDX-License-Identifier: Apache-2.0
//! Which neighbours have changed, of all that the kernel tells of.

use std::{collections::BTreeMap, net::IpAddr};

use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};

/// The neighbours' MAC addresses, of those that have been told of. The kernel tells of a neighbour also when it has
/// only been asked whether it is there.
#[derive(Debug, Default)]
pub(super) struct Neighbours(BTreeMap<(u32, IpAddr), Vec<u8>>);

impl Neighbours {
    /// Takes note that a neighbour is gone; says whether it was known.
    pub(super) fn forget(&mut self, neighbour: &NeighbourMessage) -> bool {
        key(neighbour).is_some_and(|key| self.0.remove(&key).is_some())
    }

    /// Takes note of a neighbour; says whether it has another address than before.
    pub(super) fn learn(&mut self, neighbour: &NeighbourMessage) -> bool {
        let Some(key) = key(neighbour) else { return false };
        let is_lost =
            matches!(neighbour.header.state, NeighbourState::Failed | NeighbourState::Incomplete);
        let mac = neighbour.attributes.iter().find_map(|attribute| match attribute {
            NeighbourAttribute::LinkLayerAddress(mac) if !is_lost => Some(mac),
            _ => None,
        });
        match mac {
            Some(mac) => self.0.insert(key, mac.clone()).as_ref() != Some(mac),
            None => self.0.remove(&key).is_some(),
        }
    }
}

/// The device and the address of a neighbour; nothing of a bridge's.
pub(in crate::devices) fn key(neighbour: &NeighbourMessage) -> Option<(u32, IpAddr)> {
    let address = neighbour.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(address)) => Some((*address).into()),
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(address)) => {
            Some((*address).into())
        }
        _ => None,
    })?;
    Some((neighbour.header.ifindex, address))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn neighbour(state: NeighbourState, mac: u8) -> NeighbourMessage {
        let mut neighbour = NeighbourMessage::default();
        neighbour.header.ifindex = 2;
        neighbour.header.state = state;
        neighbour.attributes = vec![
            NeighbourAttribute::Destination(Ipv4Addr::new(192, 0, 2, 1).into()),
            NeighbourAttribute::LinkLayerAddress(vec![2, 0, 0, 0, 0, mac]),
        ];
        neighbour
    }

    #[test]
    fn a_neighbour_that_is_only_asked_for_again_changes_nothing() {
        use NeighbourState::{Delay, Failed, Probe, Reachable, Stale};
        let mut known = Neighbours::default();
        assert!(known.learn(&neighbour(Reachable, 1)));
        for state in [Stale, Delay, Probe, Reachable] {
            assert!(!known.learn(&neighbour(state, 1)), "{state:?}");
        }
        assert!(known.learn(&neighbour(Reachable, 2)));
        assert!(known.learn(&neighbour(Failed, 2)));
        assert!(!known.learn(&neighbour(Failed, 2)));
        assert!(known.learn(&neighbour(Reachable, 2)));
        assert!(known.forget(&neighbour(Stale, 2)));
        assert!(!known.forget(&neighbour(Stale, 2)));
    }
}
