// SPDX-License-Identifier: Apache-2.0
//! The same lives in tables that are too small for them: whatever there is no room for, what clients find is right,
//! and all is as it should be when there is room.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use proptest::prelude::*;
use proxy_common::{Family, V4, V6};

use super::{
    super::{Bench, Spec, State, web},
    NAMES, Step, World,
    expected::expected,
    seen::{Seen, Set, seen},
    steps,
};
use crate::{
    dataplane::Op,
    reconcile::{Rows, allocator::REST},
};

/// How much the tables hold.
#[derive(Clone, Copy, Debug)]
struct Room {
    rows: Rows,
    frontends: usize,
    ranges: usize,
}

fn a_room() -> impl Strategy<Value = Room> {
    let rows = (1_u32..8, 2_u32..24, 1_u32..12);
    let rows = rows.prop_map(|(services, slots, backends)| Rows { services, slots, backends });
    prop_oneof![
        3 => rows.clone().prop_map(|rows| Room { rows, frontends: usize::MAX, ranges: usize::MAX }),
        1 => (rows, 8_usize..40, 2_usize..8)
            .prop_map(|(rows, frontends, ranges)| Room { rows, frontends, ranges }),
    ]
}

/// Tables with so much room.
fn bench<F: Family>(room: Room) -> Bench<F> {
    let (mut frontends, mut ranges) = (0, 0);
    Bench::with(room.rows, move |op: &Op<F>| {
        let (count, most) = match op {
            Op::PutFrontend { .. } | Op::RemoveFrontend { .. } => (&mut frontends, room.frontends),
            Op::PutSourceRange { .. } | Op::RemoveSourceRange { .. } => (&mut ranges, room.ranges),
            _ => return false,
        };
        let is_put = matches!(op, Op::PutFrontend { .. } | Op::PutSourceRange { .. });
        if is_put && *count == most {
            return true;
        }
        *count = if is_put { *count + 1 } else { *count - 1 };
        false
    })
}

/// Asserts that nobody finds what is not there for him: what there is no room for may lack.
fn assert_right<F: Family>(bench: &Bench<F>, world: &World) -> Result<(), TestCaseError> {
    let all = expected::<F>(&world.services, &world.node);
    for (key, found) in seen(bench) {
        let Some(wanted) = all.get(&key) else {
            return Err(TestCaseError::fail(format!("{key:?} should not be there: {found:?}")));
        };
        let Seen::Port(found) = found else {
            prop_assert_eq!(&found, wanted);
            continue;
        };
        // Who comes first may have no room. Then the next one has it.
        let own = world.services.iter().find(|(name, _)| NAMES[**name] == found.name);
        let own = own.map(|(name, spec)| (*name, spec.clone()));
        let mut own = expected::<F>(&own.into_iter().collect(), &BTreeSet::new());
        let Some(Seen::Port(wanted)) = own.remove(&key) else {
            return Err(TestCaseError::fail(format!("{key:?} is not {}'s", found.name)));
        };
        prop_assert_eq!(found.kind, wanted.kind);
        prop_assert_eq!((found.policy, &found.ranges), (wanted.policy, &wanted.ranges));
        for sets in [(&found.cluster, &wanted.cluster), (&found.local, &wanted.local)] {
            match sets {
                (Set::Members(found), Set::Members(wanted)) => {
                    prop_assert!(found.keys().all(|endpoint| wanted.contains_key(endpoint)));
                }
                // There is no room for any of them.
                (Set::Empty(says), Set::Members(_)) => prop_assert_eq!(*says, 0),
                (found, wanted) => prop_assert_eq!(found, wanted),
            }
        }
    }
    Ok(())
}

fn churn<F: Family>(steps: Vec<Step>, room: Room) -> Result<(), TestCaseError> {
    let mut bench = bench::<F>(room);
    let mut world = World::default();
    for step in steps {
        world.go::<F>(&mut bench, step);
    }
    // As far as it goes.
    for _ in 0..12 {
        bench.wait(Duration::from_mins(1));
        let _ = bench.flush();
    }
    bench.assert_safe();
    if room.frontends == usize::MAX {
        assert_right(&bench, &world)?;
    }
    // Room that is made is used.
    for name in world.services.keys() {
        bench.delete(NAMES[*name]);
    }
    bench.set_node(&BTreeSet::new());
    bench.settle();
    bench.assert_empty();
    bench.wait(REST);
    let spec = Spec { vip: 1, ..web(&[(1, State::Ready, false)]) };
    bench.set(NAMES[0], &spec);
    bench.settle();
    bench.assert_safe();
    let world = BTreeMap::from([(0, spec)]);
    prop_assert_eq!(seen(&bench), expected::<F>(&world, &BTreeSet::new()));
    Ok(())
}

proptest! {
    #[test]
    fn v4(steps in steps(), room in a_room()) {
        churn::<V4>(steps, room)?;
    }

    #[test]
    fn v6(steps in steps(), room in a_room()) {
        churn::<V6>(steps, room)?;
    }
}
