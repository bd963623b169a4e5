// SPDX-License-Identifier: Apache-2.0
//! Which operations a change takes, and in which order.

use proxy_common::{
    Family, Port, Protocol,
    backend::{BackendId, Standing},
    frontend::FrontendKey,
    frontend::ServiceIndex,
    service::BackendSet,
};

use super::{Bench, State::*, address, endpoint, web};
use crate::{
    both_families::in_both_families,
    dataplane::{Op, SetKind},
    model::TrafficPolicy,
    reconcile::allocator::REST,
};

in_both_families!(
    a_new_service_is_complete_before_its_frontend,
    an_endpoint_more_is_one_range_and_one_word,
    an_endpoint_that_drains_leaves_the_set_and_keeps_its_row,
    a_backend_is_retired_after_the_set_without_it_is_published,
    a_removed_service_loses_its_frontends_first,
    a_renamed_port_keeps_its_row,
    another_port_number_is_another_row,
    another_cluster_ip_is_served_before_the_old_one_goes,
    a_service_made_again_between_two_passes_is_not_touched,
    the_local_set_is_there_before_the_policy_asks_for_it,
    a_returning_endpoint_looks_new,
    only_udp_backends_leave_sockets,
    endpoints_of_sockets_only_are_marked_as_such,
);

fn verbs<F: Family>(ops: &[Op<F>]) -> Vec<&'static str> {
    ops.iter().map(Op::verb).collect()
}

fn a_new_service_is_complete_before_its_frontend<F: Family>() {
    let mut bench = Bench::<F>::new();
    bench.set("web", &web(&[(1, Ready, false), (2, Ready, false)]));
    let _ = bench.flush();
    let ops = bench.written();
    let expected = [
        "write a name",
        "write a backend",
        "write a backend",
        "write slots",
        "publish a backend set",
        "set a policy",
        "add a frontend",
        "add a frontend",
        "add a frontend",
        "add a frontend",
    ];
    assert_eq!(verbs(&ops), expected);
    // The port, then the rest of the VIP and the endpoints' own addresses.
    let vip = address::<F>(96, 1);
    let http = FrontendKey::new(vip, Port::new(80), Protocol::TCP);
    let frontend = ServiceIndex::FIRST.into();
    assert_eq!(ops[6], Op::PutFrontend { key: http, frontend });
    let pod = |host| FrontendKey::new(address::<F>(244, host), Port::new(8080), Protocol::TCP);
    for (key, index) in [
        (FrontendKey::whole(vip), ServiceIndex::REFUSE),
        (pod(1), ServiceIndex::DIRECT),
        (pod(2), ServiceIndex::DIRECT),
    ] {
        assert!(ops[7..].contains(&Op::PutFrontend { key, frontend: index.into() }));
    }
    bench.assert_safe();
}

fn an_endpoint_more_is_one_range_and_one_word<F: Family>() {
    let mut bench = Bench::<F>::new();
    bench.set("web", &web(&[(1, Ready, false)]));
    bench.settle();
    let before = bench.live();
    let _ = bench.written();
    bench.set("web", &web(&[(1, Ready, false), (2, Ready, false)]));
    let _ = bench.flush();
    let ops = bench.written();
    let expected = ["write a backend", "write slots", "publish a backend set", "add a frontend"];
    assert_eq!(verbs(&ops), expected);
    let Op::PutSlots { start, .. } = ops[1] else { panic!() };
    assert_ne!(start, 0, "the published range is not written to");
    assert!(bench.live().is_superset(&before));
}

fn an_endpoint_that_drains_leaves_the_set_and_keeps_its_row<F: Family>() {
    let mut bench = Bench::<F>::new();
    bench.set("web", &web(&[(1, Ready, false), (2, Ready, false)]));
    bench.settle();
    let before = bench.live();
    let _ = bench.written();
    bench.set("web", &web(&[(1, Ready, false), (2, Draining, false)]));
    let _ = bench.flush();
    let ops = bench.written();
    let expected = ["write slots", "publish a backend set", "set the standing of a backend"];
    assert_eq!(verbs(&ops), expected);
    let Op::SetStanding { backend, .. } = ops[2] else { panic!() };
    assert_eq!(
        (backend.address, backend.standing),
        (endpoint::<F>(2).address, Standing::default())
    );
    assert_eq!(bench.live(), before, "UDP flows stay with what still serves");
}

fn a_backend_is_retired_after_the_set_without_it_is_published<F: Family>() {
    let mut bench = Bench::<F>::new();
    bench.set("web", &web(&[(1, Ready, false), (2, Ready, false)]));
    bench.settle();
    let _ = bench.written();
    bench.set("web", &web(&[(1, Ready, false), (2, Gone, false)]));
    let _ = bench.flush();
    let ops = bench.written();
    let expected =
        ["write slots", "publish a backend set", "remove a frontend", "retire a backend"];
    assert_eq!(verbs(&ops), expected);
    let Op::RetireBackend { id, backend } = &ops[3] else { panic!() };
    assert_eq!(
        (*id, backend.address, backend.generation),
        (BackendId(2), endpoint::<F>(2).address, 2)
    );
}

fn a_removed_service_loses_its_frontends_first<F: Family>() {
    let mut bench = Bench::<F>::new();
    bench.set("web", &web(&[(1, Ready, false)]));
    bench.settle();
    let _ = bench.written();
    bench.delete("web");
    let _ = bench.flush();
    let expected = [
        "remove a frontend",
        "remove a frontend",
        "remove a frontend",
        "retire a backend",
        "clear a Service port",
    ];
    assert_eq!(verbs(&bench.written()), expected);
    bench.assert_safe();
    bench.assert_empty();
}

fn a_renamed_port_keeps_its_row<F: Family>() {
    let mut bench = Bench::<F>::new();
    let mut spec = web(&[(1, Ready, false)]);
    bench.set("web", &spec);
    bench.settle();
    let _ = bench.written();
    spec.ports[0].0 = "www";
    bench.set("web", &spec);
    let _ = bench.flush();
    assert_eq!(verbs(&bench.written()), ["write a name"]);
}

fn another_port_number_is_another_row<F: Family>() {
    let mut bench = Bench::<F>::new();
    let mut spec = web(&[(1, Ready, false)]);
    bench.set("web", &spec);
    bench.settle();
    spec.ports[0].2 = 81;
    bench.set("web", &spec);
    let _ = bench.flush();
    bench.settle();
    bench.assert_safe();
    let vip = address::<F>(96, 1);
    let key = |port| FrontendKey::<F>::new(vip, Port::new(port), Protocol::TCP);
    assert!(!bench.fake().frontends.contains_key(&key(80)));
    assert!(bench.fake().frontends.contains_key(&key(81)));
    assert_eq!(bench.reconciler.in_use().services, 1);
}

fn another_cluster_ip_is_served_before_the_old_one_goes<F: Family>() {
    let mut bench = Bench::<F>::new();
    let mut spec = web(&[(1, Ready, false)]);
    bench.set("web", &spec);
    bench.settle();
    let _ = bench.written();
    spec.vip = 2;
    bench.set("web", &spec);
    let _ = bench.flush();
    let expected = ["add a frontend", "remove a frontend", "remove a frontend", "add a frontend"];
    assert_eq!(verbs(&bench.written()), expected);
}

fn a_service_made_again_between_two_passes_is_not_touched<F: Family>() {
    let mut bench = Bench::<F>::new();
    let spec = web(&[(1, Ready, false)]);
    bench.set("web", &spec);
    bench.settle();
    let _ = bench.written();
    bench.delete("web");
    bench.set("web", &spec);
    let _ = bench.flush();
    assert_eq!(bench.written(), []);
}

fn the_local_set_is_there_before_the_policy_asks_for_it<F: Family>() {
    let mut bench = Bench::<F>::new();
    let mut spec = web(&[(1, Ready, true), (2, Ready, false)]);
    bench.set("web", &spec);
    bench.settle();
    let _ = bench.written();
    spec.policy = TrafficPolicy::Local;
    bench.set("web", &spec);
    let _ = bench.flush();
    let ops = bench.written();
    let expected =
        ["set the standing of a backend", "write slots", "publish a backend set", "set a policy"];
    assert_eq!(verbs(&ops), expected);
    assert!(matches!(ops[2], Op::PutSet { which: SetKind::Local, .. }));
    assert_eq!(bench.reconciler.in_use().slots, 3);
    // Who has read the old policy finds the old set until long after.
    assert_eq!(bench.reconciler.next(), Some(bench.now.get() + REST));
    bench.wait(REST);
    let _ = bench.flush();
    let ops = bench.written();
    let expected =
        ["publish a backend set", "set the standing of a backend", "set the standing of a backend"];
    assert_eq!(verbs(&ops), expected);
    assert!(matches!(ops[0], Op::PutSet { which: SetKind::Cluster, .. }));
    assert_eq!((bench.reconciler.in_use().slots, bench.reconciler.next()), (1, None));
    spec.policy = TrafficPolicy::Cluster;
    bench.set("web", &spec);
    bench.settle();
    assert_eq!(bench.reconciler.in_use().slots, 2);
    bench.assert_safe();
}

fn a_returning_endpoint_looks_new<F: Family>() {
    let mut bench = Bench::<F>::new();
    let mut generations = Vec::new();
    for _ in 0..3 {
        for state in [Ready, Gone] {
            bench.set("web", &web(&[(1, state, false)]));
            bench.settle();
            generations.extend(bench.live().iter().map(|(_, id, generation)| (*id, *generation)));
            bench.wait(REST);
        }
    }
    // The same row, since it has rested, but every time another generation; the ones between
    // are those that the row has while it has no endpoint.
    assert_eq!(generations, [(1, 1), (1, 3), (1, 5)]);
    bench.assert_safe();
}

fn only_udp_backends_leave_sockets<F: Family>() {
    for (protocol, leaves) in [(Protocol::UDP, true), (Protocol::TCP, false)] {
        let mut bench = Bench::<F>::new();
        let mut spec = web(&[(1, Ready, false), (2, Ready, false)]);
        spec.ports = vec![("dns", protocol, 53)];
        bench.set("web", &spec);
        assert!(!bench.flush().left_sockets, "new");
        spec.endpoints = vec![(1, Draining, false), (2, Ready, false)];
        bench.set("web", &spec);
        assert!(!bench.flush().left_sockets, "it still serves");
        spec.endpoints = vec![(2, Ready, false), (3, Ready, false)];
        bench.set("web", &spec);
        assert_eq!(bench.flush().left_sockets, leaves, "an endpoint less");
        bench.delete("web");
        assert_eq!(bench.flush().left_sockets, leaves, "no Service");
    }
}

fn endpoints_of_sockets_only_are_marked_as_such<F: Family>() {
    let mut bench = Bench::<F>::new();
    let name = crate::model::ServiceName::new("ns", "web");
    let mut plan = Bench::<F>::plan(&name, &web(&[(1, Ready, false)]));
    for port in &mut plan.ports {
        port.sockets_only = true;
    }
    bench.reconciler.set(&name, Some(plan));
    let _ = bench.flush();
    let row = bench.fake().services[&ServiceIndex::FIRST];
    assert_eq!(row.cluster.count(), 1);
    assert_eq!(row.cluster.within_family(), BackendSet::REJECT);
    let direct = FrontendKey::new(address::<F>(244, 1), Port::new(8080), Protocol::TCP);
    assert!(!bench.fake().frontends.contains_key(&direct), "no packet has this address");
    // The same endpoints, for packets too, are another set.
    bench.set("web", &web(&[(1, Ready, false)]));
    let _ = bench.flush();
    let row = bench.fake().services[&ServiceIndex::FIRST];
    assert_eq!(row.cluster.within_family(), row.cluster);
    assert!(bench.fake().frontends.contains_key(&direct));
    bench.delete("web");
    bench.settle();
    bench.assert_safe();
    bench.assert_empty();
}
