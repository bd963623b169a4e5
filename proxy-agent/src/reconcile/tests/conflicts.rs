// SPDX-License-Identifier: Apache-2.0
//! Frontends that several want.

use proxy_common::{Family, Port, Protocol, frontend::FrontendKey, frontend::ServiceIndex, name};

use super::{Bench, Spec, State::*, address, web};
use crate::{
    both_families::in_both_families,
    {dataplane::Op, model::ObjectName, reconcile::Conflict},
};

in_both_families!(
    the_older_service_has_the_frontend_and_the_other_takes_over,
    an_older_service_takes_the_frontend_in_two_adjacent_writes,
    what_was_created_at_no_known_time_comes_last,
    a_vip_is_refused_until_its_last_service_goes,
    an_endpoint_is_direct_until_its_last_service_goes,
    a_frontend_goes_before_an_endpoint,
);

fn spec(created: Option<i64>) -> Spec {
    Spec { created, ..web(&[(1, Ready, false)]) }
}

fn http<F: Family>() -> FrontendKey<F> {
    FrontendKey::new(address::<F>(96, 1), Port::new(80), Protocol::TCP)
}

/// The Service that has the frontend.
fn owner<F: Family>(bench: &Bench<F>) -> Option<String> {
    let index = bench.fake().frontends.get(&http::<F>())?.service();
    let name = bench.fake().names.get(&index)?;
    name::text(&name.name).map(str::to_owned)
}

fn the_older_service_has_the_frontend_and_the_other_takes_over<F: Family>() {
    let mut bench = Bench::<F>::new();
    bench.set("b", &spec(Some(5)));
    bench.set("a", &spec(Some(9)));
    bench.settle();
    assert_eq!(owner(&bench).as_deref(), Some("b"));
    let conflict = Conflict {
        key: http::<F>(),
        winner: ObjectName::new("ns", "b"),
        losers: vec![ObjectName::new("ns", "a")],
    };
    assert_eq!(bench.reconciler.take_conflicts(), [conflict]);
    let _ = bench.written();
    bench.delete("b");
    bench.settle();
    assert_eq!(owner(&bench).as_deref(), Some("a"));
    let ops = bench.written();
    let at = ops.iter().position(|op| matches!(op, Op::RemoveFrontend { .. }));
    let Op::PutFrontend { key, .. } = ops[at.unwrap() + 1] else { panic!() };
    assert_eq!(key, http::<F>());
    assert_eq!(bench.reconciler.take_conflicts(), []);
    bench.delete("a");
    bench.settle();
    bench.assert_safe();
    bench.assert_empty();
}

fn an_older_service_takes_the_frontend_in_two_adjacent_writes<F: Family>() {
    let mut bench = Bench::<F>::new();
    bench.set("b", &spec(Some(5)));
    bench.settle();
    let _ = bench.written();
    bench.set("a", &spec(Some(5)));
    bench.settle();
    assert_eq!(owner(&bench).as_deref(), Some("a"), "equally old: by name");
    let moved = bench.written();
    let [.., Op::RemoveFrontend { key }, Op::PutFrontend { key: put, .. }] = &moved[..] else {
        panic!("{moved:?}")
    };
    assert_eq!((key, put), (&http::<F>(), &http::<F>()));
    bench.delete("a");
    bench.delete("b");
    bench.settle();
    bench.assert_safe();
    bench.assert_empty();
}

fn what_was_created_at_no_known_time_comes_last<F: Family>() {
    let mut bench = Bench::<F>::new();
    bench.set("a", &spec(None));
    bench.set("b", &spec(Some(5)));
    bench.settle();
    assert_eq!(owner(&bench).as_deref(), Some("b"));
}

fn a_vip_is_refused_until_its_last_service_goes<F: Family>() {
    let mut bench = Bench::<F>::new();
    let mut other = spec(Some(1));
    other.ports = vec![("dns", Protocol::UDP, 53)];
    bench.set("a", &spec(Some(1)));
    bench.set("b", &other);
    bench.settle();
    let whole = FrontendKey::<F>::whole(address::<F>(96, 1));
    let refused = |bench: &Bench<F>| bench.fake().frontends.get(&whole).map(|mark| mark.service());
    assert_eq!(refused(&bench), Some(ServiceIndex::REFUSE));
    assert_eq!(bench.reconciler.take_conflicts(), []);
    bench.delete("a");
    bench.settle();
    assert_eq!(refused(&bench), Some(ServiceIndex::REFUSE));
    bench.delete("b");
    bench.settle();
    bench.assert_empty();
}

fn an_endpoint_is_direct_until_its_last_service_goes<F: Family>() {
    let mut bench = Bench::<F>::new();
    let mut other = spec(Some(1));
    other.vip = 2;
    bench.set("a", &spec(Some(1)));
    bench.set("b", &other);
    bench.settle();
    let key = FrontendKey::new(address::<F>(244, 1), Port::new(8080), Protocol::TCP);
    let mark = |bench: &Bench<F>| bench.fake().frontends.get(&key).map(|mark| mark.service());
    assert_eq!(mark(&bench), Some(ServiceIndex::DIRECT));
    bench.delete("a");
    bench.settle();
    assert_eq!(mark(&bench), Some(ServiceIndex::DIRECT));
    other.endpoints[0].1 = Gone;
    bench.set("b", &other);
    bench.settle();
    assert_eq!(mark(&bench), None);
}

fn a_frontend_goes_before_an_endpoint<F: Family>() {
    let mut bench = Bench::<F>::new();
    bench.set("a", &spec(Some(1)));
    bench.settle();
    // A Service whose address and port are those of an endpoint. The bench's nets differ, so
    // that this one is planned by hand.
    let name = ObjectName::new("ns", "odd");
    let service = crate::model::Service {
        name: name.clone(),
        cluster_ips: vec![address::<F>(244, 1).into()],
        ports: vec![crate::model::ServicePort {
            name: "".into(),
            protocol: Protocol::TCP,
            port: Port::new(8080),
            node_port: None,
        }],
        ..crate::model::Service::default()
    };
    let (node, options) = Default::default();
    bench.reconciler.set(&name, crate::plan::plan(&service, &[], node, &options));
    bench.settle();
    let key = FrontendKey::new(address::<F>(244, 1), Port::new(8080), Protocol::TCP);
    assert!(bench.fake().frontends[&key].service() >= ServiceIndex::FIRST);
    bench.reconciler.set(&name, None);
    bench.settle();
    assert_eq!(bench.fake().frontends[&key].service(), ServiceIndex::DIRECT);
    bench.assert_safe();
}
