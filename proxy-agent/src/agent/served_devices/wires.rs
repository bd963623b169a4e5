// SPDX-License-Identifier: Apache-2.0
//! By which wires frames come.

use std::collections::{BTreeMap, BTreeSet};

use proxy_common::device::Wire;

/// By which wires frames come, by the interface index of the device that they are for.
#[derive(Debug)]
pub(super) struct Wires(BTreeMap<u32, BTreeSet<Wire>>);

impl Wires {
    /// Of no device.
    pub(super) const fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// Those of a device from now on, which the programs are to be told of. Returns what they must forget: what was the
    /// device's, and is no other's. One that was a device's may be another's already: which of the two is told of
    /// first is chance.
    pub(super) fn set(&mut self, device: u32, wires: BTreeSet<Wire>) -> BTreeSet<Wire> {
        let mut former = self.0.insert(device, wires).unwrap_or_default();
        former.retain(|wire| !self.0.values().any(|used| used.contains(wire)));
        // Most devices have none but their own, and many come and go.
        self.0.retain(|_, wires| !wires.is_empty());
        former
    }

    /// Whether it is a device's.
    pub(super) fn has(&self, wire: Wire) -> bool {
        self.0.values().any(|used| used.contains(&wire))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::{collection::vec, prelude::*, sample::Index};
    use proxy_common::device::Wire;

    use super::Wires;

    const DEVICES: u32 = 4;

    /// What the programs are told of, too.
    struct Told {
        wires: Wires,
        table: BTreeMap<Wire, u32>,
    }

    impl Told {
        fn tell(&mut self, device: u32, wires: &BTreeSet<Wire>) {
            for wire in self.wires.set(device, wires.clone()) {
                let _: Option<u32> = self.table.remove(&wire);
            }
            self.table.extend(wires.iter().map(|wire| (*wire, device)));
        }
    }

    /// Whose each of some wires is; of nobody, it is nobody's.
    fn owners() -> impl Strategy<Value = Vec<Option<u32>>> {
        vec(proptest::option::of(0..DEVICES), 6)
    }

    /// The wires: two lower devices, without a VLAN and with two.
    fn wire(number: usize) -> Wire {
        let number = u16::try_from(number).expect("few wires");
        Wire::new(u32::from(number % 2) + 10, number / 2)
    }

    fn table(owners: &[Option<u32>]) -> BTreeMap<Wire, u32> {
        let owned = owners.iter().enumerate();
        owned.filter_map(|(number, owner)| Some((wire(number), (*owner)?))).collect()
    }

    fn of(table: &BTreeMap<Wire, u32>, device: u32) -> BTreeSet<Wire> {
        table.iter().filter(|(_, owner)| **owner == device).map(|(wire, _)| *wire).collect()
    }

    proptest! {
        /// Legs go from bond to bond, VLANs to other devices, and devices away, all at once: in whichever order that is
        /// told, and whoever is told of more than once, each wire is its new device's in the end.
        #[test]
        fn wires_move_in_any_order(
            batches in vec((owners(), Just((0..DEVICES).collect::<Vec<_>>()).prop_shuffle(), any::<Index>()), 1..6),
        ) {
            let mut told = Told { wires: Wires::new(), table: BTreeMap::new() };
            for (owners, mut order, again) in batches {
                order.push(*again.get(&order));
                let expected = table(&owners);
                for device in order {
                    told.tell(device, &of(&expected, device));
                }
                prop_assert_eq!(&told.table, &expected);
            }
        }
    }

    #[test]
    fn a_leg_goes_from_one_bond_to_another() {
        let (bond, other, leg) = (20, 21, Wire::new(10, 0));
        let mut wires = Wires::new();
        assert!(wires.set(bond, BTreeSet::from([leg])).is_empty());
        // The one that gets it is told of first.
        assert!(wires.set(other, BTreeSet::from([leg])).is_empty());
        assert!(wires.set(bond, BTreeSet::new()).is_empty(), "it is the other's by now");
        assert_eq!(wires.set(other, BTreeSet::new()), BTreeSet::from([leg]));
    }
}
