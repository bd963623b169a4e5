// SPDX-License-Identifier: Apache-2.0
//! What becomes of a flow's entry where it goes over to another table.

use proxy_common::{
    Family,
    backend::Backend,
    clock::{PER_SECOND, Tick},
    flow::{Flow, FlowKey, Kind, Seen},
    frontend::ServiceIndex,
};

/// The place of a flow that is in no queue: see [`Flow::proof`].
const NOWHERE: u32 = u32::MAX;

/// Which time it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// While the former programs go on with what they know.
    Beside,
    /// The same, but closed flows they know no more: their replies would be taken for those of one that begins elsewhere
    /// from the same port.
    Last,
    /// After they have ended: what they have last seen goes over.
    After,
}

/// What becomes of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over<F: Family> {
    /// The own table stays as it is.
    Stays,
    /// It is a new one there.
    New(Flow<F>),
    /// It is this one in the place of the one that is there.
    Instead(Flow<F>),
}

/// What becomes of a former entry with this key, where the own table has this one, and the row of its backend is this.
pub(super) fn gone_over<F: Family>(
    pass: Pass,
    key: &FlowKey<F>,
    former: Flow<F>,
    (own, row): (Option<&Flow<F>>, &Backend<F>),
    now: Tick,
) -> Over<F> {
    if former.is_expired(key.protocol, now) {
        return Over::Stays;
    }
    let Some(own) = own else { return Over::New(made_own(key, former, row)) };
    if own.to == former.to {
        let joined = joined(own, &former);
        // Not for the time alone, to within which it is known anyway: programs may note something meanwhile.
        let is_new = Flow { last_seen: own.last_seen, ..joined } != *own
            || joined.last_seen.since(own.last_seen) > PER_SECOND;
        return if is_new { Over::Instead(joined) } else { Over::Stays };
    }
    // What the former programs go on with counts, as long as they do. The own entry may be what they had there before:
    // who is closed gives its port up. But what both have closed, the own programs may have opened anew; and where both
    // have served for long, as after an upgrade that was interrupted, theirs may be the copy.
    let is_stale = own.last_seen.since(former.last_seen) > 0;
    if !former.is_closed() && !is_stale && (pass != Pass::After || own.is_closed()) {
        return Over::Instead(made_own(key, former, row));
    }
    Over::Stays
}

/// Whether who begins anew may have this flow's ports, as far as programs are concerned.
pub(super) const fn gives_way<F: Family>(flow: &Flow<F>) -> bool {
    let seen = Seen(flow.client_seen.0 | flow.backend_seen.0);
    flow.is_finished() || seen.has(Seen::RST)
}

/// An entry of another table as one of the own table: it has a place in none of its queues.
fn made_own<F: Family>(key: &FlowKey<F>, mut flow: Flow<F>, row: &Backend<F>) -> Flow<F> {
    let is_reply = flow.kind.has(Kind::REPLY);
    if is_reply || flow.is_confirmed() || flow.is_closed() {
        flow.proof = NOWHERE;
    }
    if flow.kind.is_folded() {
        flow.doubt_way();
    }
    let (address, port) = if is_reply {
        (key.tuple.source, key.tuple.source_port)
    } else {
        (flow.to.destination, flow.to.destination_port)
    };
    let is_rows = row.service == flow.service && (row.address, row.port) == (address, port);
    if flow.service != ServiceIndex::DIRECT && !is_rows && row.generation == flow.generation {
        // The row is another endpoint's.
        flow.generation = row.generation.wrapping_sub(1);
    }
    flow.label(key);
    flow
}

/// An own entry with what the former programs have seen of the same flow.
fn joined<F: Family>(own: &Flow<F>, former: &Flow<F>) -> Flow<F> {
    // What was seen of it before the own programs went on with it.
    if own.last_seen.since(former.last_seen) > PER_SECOND {
        return *own;
    }
    let mut joined = *own;
    let is_later = former.last_seen.since(own.last_seen) > 0;
    // Whatever comes after a RST takes it back.
    let kept = if is_later { u8::MAX } else { !Seen::RST };
    joined.client_seen.0 |= former.client_seen.0 & kept;
    joined.backend_seen.0 |= former.backend_seen.0 & kept;
    if is_later {
        joined.last_seen = former.last_seen;
    }
    if joined.is_confirmed() && !own.is_confirmed() {
        // Not what was to be proven, nor its place among those that are half-open.
        joined.proof = NOWHERE;
    } else if !joined.is_confirmed() && !own.kind.has(Kind::REPLY) {
        // What the backend has answered, if it has answered the former programs alone.
        let has_answered = |flow: &Flow<F>| flow.backend_seen.has(Seen::ANY);
        if has_answered(former) && !has_answered(own) {
            joined.proof = former.proof;
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use proxy_common::{
        Address as _, Port, Protocol, V4, V6, backend::BackendId, clock::seconds, flow::Hook,
        flow::Tuple,
    };

    use super::*;

    const NOW: Tick = Tick(1 << 24);
    const BACKEND: BackendId = BackendId(5);
    const GENERATION: u32 = 3;

    struct Bench<F: Family> {
        key: FlowKey<F>,
        flow: Flow<F>,
        row: Backend<F>,
    }

    impl<F: Family> Bench<F> {
        /// A confirmed connection, and the row of its backend.
        fn new([client, frontend, backend]: [&str; 3]) -> Self {
            let address = |text: &str| F::Addr::from_ip(text.parse().unwrap()).unwrap();
            let dialled = Tuple {
                source: address(client),
                destination: address(frontend),
                source_port: Port::new(40_000),
                destination_port: Port::new(80),
            };
            let to = Tuple {
                destination: address(backend),
                destination_port: Port::new(8080),
                ..dialled
            };
            let key = FlowKey::new(dialled, Protocol::TCP, Hook::INGRESS);
            let mut flow = Flow {
                tag: 0,
                to,
                service: ServiceIndex::FIRST,
                backend: BACKEND,
                generation: GENERATION,
                last_seen: NOW,
                proof: 17,
                device: 0,
                client_device: 0,
                mac: [0; 6],
                client_mac: [0; 6],
                kind: Kind::default(),
                client_seen: Seen(Seen::ANY | Seen::PROVEN),
                backend_seen: Seen(Seen::ANY),
                way_asked: 0,
                seal: 0,
            };
            flow.label(&key);
            let port = to.destination_port;
            let row = Backend::new(to.destination, port, GENERATION, ServiceIndex::FIRST);
            Self { key, flow, row }
        }

        fn over(&self, pass: Pass, former: Flow<F>, own: Option<&Flow<F>>) -> Over<F> {
            gone_over(pass, &self.key, former, (own, &self.row), NOW)
        }

        fn half_open(&self) -> Flow<F> {
            Flow { client_seen: Seen(Seen::ANY), ..self.flow }
        }
    }

    fn entries_go_over<F: Family>(hosts: [&str; 3]) {
        let bench = Bench::<F>::new(hosts);
        let new = |former| match bench.over(Pass::Beside, former, None) {
            Over::New(flow) => flow,
            other => panic!("{other:?}"),
        };
        assert_eq!(
            new(Flow { tag: 1, seal: 1, ..bench.flow }),
            Flow { proof: NOWHERE, ..bench.flow }
        );
        // What the client is to prove.
        assert_eq!(new(bench.half_open()), bench.half_open());
        let expired = Flow { last_seen: Tick(NOW.0 - seconds(90_000)), ..bench.flow };
        assert_eq!(bench.over(Pass::Beside, expired, None), Over::Stays);
        // Of a row that is another endpoint's now, by the same generation.
        let other = Flow { service: ServiceIndex(ServiceIndex::FIRST.0 + 1), ..bench.flow };
        assert_ne!(new(other).generation, GENERATION);
        let direct = Flow { service: ServiceIndex::DIRECT, ..bench.flow };
        assert_eq!(new(direct).generation, GENERATION);
    }

    fn the_same_flow_is_joined<F: Family>(hosts: [&str; 3]) {
        let bench = Bench::<F>::new(hosts);
        let over = |former, own: &Flow<F>| bench.over(Pass::After, former, Some(own));
        assert_eq!(over(bench.flow, &bench.flow), Over::Stays);
        let own = Flow { last_seen: Tick(NOW.0 - 20), ..bench.half_open() };
        let Over::Instead(joined) = over(bench.flow, &own) else { panic!("it stays") };
        assert!(joined.is_confirmed());
        assert_eq!((joined.proof, joined.last_seen), (NOWHERE, NOW));
        // Another answer counts only where none has come.
        let unanswered = Flow { backend_seen: Seen::default(), proof: 1, ..bench.half_open() };
        let Over::Instead(answered) = over(bench.half_open(), &unanswered) else { panic!() };
        assert_eq!(answered.proof, bench.flow.proof);
        // An end goes over, but not one after which something has come.
        let ended = Flow { client_seen: Seen(bench.flow.client_seen.0 | Seen::FIN), ..bench.flow };
        assert!(
            matches!(over(ended, &bench.flow), Over::Instead(it) if it.client_seen.has(Seen::FIN))
        );
        let reset = Flow { client_seen: Seen(bench.flow.client_seen.0 | Seen::RST), ..bench.flow };
        assert_eq!(over(reset, &bench.flow), Over::Stays);
        assert!(matches!(over(reset, &own), Over::Instead(it) if it.client_seen.has(Seen::RST)));
        // Nor one that is long past, nor a moment that is none.
        let past = Flow { last_seen: Tick(NOW.0 - 100), ..ended };
        assert_eq!(over(past, &bench.flow), Over::Stays);
        let just = Flow { last_seen: Tick(NOW.0 - 1), ..bench.flow };
        assert_eq!(over(bench.flow, &just), Over::Stays);
    }

    fn another_flow_gives_way<F: Family>(hosts: [&str; 3]) {
        let bench = Bench::<F>::new(hosts);
        let closed = |flow: Flow<F>| Flow {
            client_seen: Seen(flow.client_seen.0 | Seen::FIN),
            backend_seen: Seen(flow.backend_seen.0 | Seen::FIN),
            ..flow
        };
        let elsewhere = Tuple { destination_port: Port::new(9090), ..bench.flow.to };
        let own = Flow { to: elsewhere, ..bench.flow };
        let wins = |pass, former: Flow<F>, own: Flow<F>| match bench.over(pass, former, Some(&own))
        {
            Over::Instead(flow) => flow.to == former.to,
            Over::Stays => false,
            Over::New(_) => panic!("there is one"),
        };
        for (pass, former, own, expected) in [
            (Pass::Beside, bench.flow, own, true),
            (Pass::Beside, bench.flow, closed(own), true),
            (Pass::Beside, closed(bench.flow), own, false),
            (Pass::Beside, closed(bench.flow), closed(own), false),
            (Pass::After, bench.flow, own, false),
            (Pass::After, bench.flow, closed(own), true),
            (Pass::After, closed(bench.flow), closed(own), false),
            // A copy of before, of what has gone on since.
            (Pass::Beside, Flow { last_seen: Tick(NOW.0 - 1), ..bench.flow }, own, false),
        ] {
            assert_eq!(wins(pass, former, own), expected, "{pass:?} {former:?} {own:?}");
        }
    }

    const V4_HOSTS: [&str; 3] = ["192.0.2.1", "10.96.0.1", "198.51.100.7"];
    const V6_HOSTS: [&str; 3] = ["2001:db8::1", "fd00:96::1", "fd00::7"];

    #[test]
    fn entries_go_over_v4() {
        entries_go_over::<V4>(V4_HOSTS);
    }

    #[test]
    fn entries_go_over_v6() {
        entries_go_over::<V6>(V6_HOSTS);
    }

    #[test]
    fn the_same_flow_is_joined_v4() {
        the_same_flow_is_joined::<V4>(V4_HOSTS);
    }

    #[test]
    fn the_same_flow_is_joined_v6() {
        the_same_flow_is_joined::<V6>(V6_HOSTS);
    }

    #[test]
    fn another_flow_gives_way_v4() {
        another_flow_gives_way::<V4>(V4_HOSTS);
    }

    #[test]
    fn another_flow_gives_way_v6() {
        another_flow_gives_way::<V6>(V6_HOSTS);
    }
}
