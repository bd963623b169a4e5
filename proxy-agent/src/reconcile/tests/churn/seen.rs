// SPDX-License-Identifier: Apache-2.0
//! What clients find in the tables.

use std::collections::{BTreeMap, BTreeSet};

use proxy_common::{
    Family,
    backend::Standing,
    frontend::{Frontend, FrontendKey, FrontendKind, ServiceIndex},
    name,
    service::{BackendSet, Policy},
};

use super::{super::Bench, NAMES};

/// What a client finds behind a frontend.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Seen<F: Family> {
    Refuse,
    Direct,
    Node,
    Port(Port<F>),
}

/// A Service port.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Port<F: Family> {
    pub(super) name: &'static str,
    pub(super) kind: FrontendKind,
    pub(super) policy: Policy,
    pub(super) cluster: Set<F>,
    pub(super) local: Set<F>,
    /// Prefix lengths and addresses.
    pub(super) ranges: BTreeSet<(u32, F::Addr)>,
}

/// A backend set.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Set<F: Family> {
    /// Its word.
    Empty(u64),
    /// Its members with their standings.
    Members(BTreeMap<F::Addr, Standing>),
}

/// What the tables say.
pub(super) fn seen<F: Family>(bench: &Bench<F>) -> BTreeMap<FrontendKey<F>, Seen<F>> {
    let frontends = &bench.fake().frontends;
    frontends.iter().map(|(key, frontend)| (*key, behind(bench, *frontend))).collect()
}

fn behind<F: Family>(bench: &Bench<F>, frontend: Frontend) -> Seen<F> {
    let fake = bench.fake();
    let index = frontend.service();
    match index {
        ServiceIndex::REFUSE => return Seen::Refuse,
        ServiceIndex::DIRECT => return Seen::Direct,
        ServiceIndex::NODE => return Seen::Node,
        _ => {}
    }
    let name = name::text(&fake.names[&index].name).unwrap();
    let row = fake.services.get(&index).copied().unwrap_or_default();
    Seen::Port(Port {
        name: NAMES.iter().find(|known| **known == name).unwrap(),
        kind: frontend.kind(),
        policy: row.policy,
        cluster: set(bench, row.cluster),
        local: set(bench, row.local),
        ranges: fake.ranges_of(index).map(|range| (range.length, range.address)).collect(),
    })
}

fn set<F: Family>(bench: &Bench<F>, set: BackendSet) -> Set<F> {
    if set.when_empty().is_some() {
        return Set::Empty(set.to_word());
    }
    let fake = bench.fake();
    let slots = set.start()..set.start() + set.count();
    let backends = slots.map(|slot| fake.backends[&fake.slots[&slot]]);
    let members: BTreeMap<_, _> =
        backends.map(|backend| (backend.address, backend.standing)).collect();
    assert_eq!(members.len(), set.count() as usize, "each endpoint has one slot");
    Set::Members(members)
}
