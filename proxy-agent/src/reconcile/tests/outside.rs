// SPDX-License-Identifier: Apache-2.0
//! Which operations it takes, and in which order, to change what the outside reaches.

use std::{cell::Cell, rc::Rc};

use proxy_common::{
    Family, Port, Protocol,
    backend::Standing,
    frontend::{FrontendKey, FrontendKind},
    service::Policy,
};

use super::{Bench, NODE_NET, Outside, Spec, State::*, address, web};
use crate::{
    both_families::in_both_families,
    dataplane::{Op, SetKind},
    model::TrafficPolicy,
    reconcile::{Rows, allocator::REST},
};

in_both_families!(
    ranges_are_there_before_the_policy_asks_for_them,
    ranges_stay_for_a_while_when_the_policy_asks_no_more,
    a_new_range_comes_before_an_old_one_goes,
    ranges_are_gone_before_their_row_is,
    a_load_balancer_that_goes_takes_no_ranges_along,
    ranges_that_go_with_their_load_balancer_restrict_to_the_end,
    another_kind_of_frontend_is_two_adjacent_writes,
    the_local_set_is_there_before_the_external_policy,
    an_endpoint_that_moves_here_is_told_in_place,
    of_equally_old_services_the_first_by_uid_has_the_frontend,
);

fn verbs<F: Family>(ops: &[Op<F>]) -> Vec<&'static str> {
    ops.iter().map(Op::verb).collect()
}

/// A load balancer that serves clients of these nets.
fn balanced(ranges: &[u16]) -> Spec {
    let outside =
        Outside { load_balancer_ips: vec![(97, 1)], ranges: ranges.to_vec(), ..Outside::default() };
    Spec { outside, ..web(&[(1, Ready, true), (2, Ready, false)]) }
}

/// Tables with that, of which nothing is to be done.
fn settled<F: Family>(spec: &Spec) -> Bench<F> {
    let mut bench = Bench::new();
    bench.set("web", spec);
    bench.settle();
    let _ = bench.written();
    bench
}

/// What is written at once to come to another spec.
fn written<F: Family>(bench: &mut Bench<F>, spec: &Spec) -> Vec<Op<F>> {
    bench.set("web", spec);
    let _ = bench.flush();
    bench.written()
}

fn ranges_are_there_before_the_policy_asks_for_them<F: Family>() {
    let mut bench = settled::<F>(&balanced(&[]));
    let ops = written(&mut bench, &balanced(&[NODE_NET, 51]));
    // The third is that of the load balancer's own address.
    let (last, ranges) = ops.split_last().unwrap();
    assert_eq!(verbs(ranges), ["admit a source range"; 3]);
    let Op::PutPolicy { policy, .. } = *last else { panic!("{last:?}") };
    assert_eq!(policy, Policy::SOURCE_RANGES.with(Policy::NODE_IN_RANGES));
    bench.assert_safe();
}

fn ranges_stay_for_a_while_when_the_policy_asks_no_more<F: Family>() {
    let mut bench = settled::<F>(&balanced(&[51]));
    let ops = written(&mut bench, &balanced(&[]));
    assert_eq!(verbs(&ops), ["set a policy"]);
    assert_eq!(bench.reconciler.next(), Some(bench.now.get() + REST));
    // Asked for again meanwhile, they are there.
    assert_eq!(verbs(&written(&mut bench, &balanced(&[51]))), ["set a policy"]);
    let _ = written(&mut bench, &balanced(&[]));
    bench.wait(REST);
    let _ = bench.flush();
    assert_eq!(verbs(&bench.written()), ["stop admitting a source range"]);
    assert_eq!(bench.reconciler.next(), None);
    bench.assert_safe();
}

fn a_new_range_comes_before_an_old_one_goes<F: Family>() {
    let mut bench = settled::<F>(&balanced(&[51]));
    let ops = written(&mut bench, &balanced(&[52]));
    assert_eq!(verbs(&ops), ["admit a source range", "stop admitting a source range"]);
    bench.assert_safe();
}

fn ranges_are_gone_before_their_row_is<F: Family>() {
    let mut bench = settled::<F>(&balanced(&[51]));
    bench.delete("web");
    let _ = bench.flush();
    let ops = verbs(&bench.written());
    let expected = [
        "stop admitting a source range",
        "retire a backend",
        "retire a backend",
        "clear a Service port",
    ];
    assert_eq!(ops[ops.len() - 4..], expected);
    assert!(ops[..ops.len() - 4].iter().all(|verb| *verb == "remove a frontend"));
    bench.assert_safe();
    bench.assert_empty();
}

fn a_load_balancer_that_goes_takes_no_ranges_along<F: Family>() {
    // With the node's, one is that of its own address.
    for (nets, lowered, raised) in [
        (&[52, 51], &["remove a frontend"][..], &["add a frontend"][..]),
        (
            &[NODE_NET, 51],
            &["remove a frontend", "stop admitting a source range"],
            &["admit a source range", "add a frontend"],
        ),
    ] {
        let mut spec = balanced(nets);
        let mut bench = settled::<F>(&spec);
        let ips = spec.outside.load_balancer_ips.split_off(0);
        assert_eq!(verbs(&written(&mut bench, &spec)), lowered);
        spec.outside.load_balancer_ips = ips;
        assert_eq!(verbs(&written(&mut bench, &spec)), raised);
        bench.assert_safe();
    }
}

fn ranges_that_go_with_their_load_balancer_restrict_to_the_end<F: Family>() {
    let bare = web(&[(1, Ready, true), (2, Ready, false)]);
    // Whatever fails, nobody finds the address without the ranges.
    for fails in [None, Some("remove a frontend"), Some("set a policy")] {
        let armed = Rc::new(Cell::new(false));
        let is_armed = Rc::clone(&armed);
        let fault = move |op: &Op<F>| is_armed.get() && fails == Some(op.verb());
        let mut bench = Bench::<F>::with(Rows::CAPACITY, fault);
        bench.set("web", &balanced(&[NODE_NET, 51]));
        bench.settle();
        let _ = bench.written();
        armed.set(true);
        let mut ops = written(&mut bench, &bare);
        armed.set(false);
        bench.settle();
        ops.extend(bench.written());
        let expected = [
            "remove a frontend",
            "set a policy",
            "stop admitting a source range",
            "stop admitting a source range",
            "stop admitting a source range",
        ];
        assert_eq!(verbs(&ops), expected, "{fails:?}");
        let Op::PutPolicy { policy, .. } = ops[1] else { panic!() };
        assert_eq!(policy, Policy::default());
        bench.assert_safe();
    }
}

fn another_kind_of_frontend_is_two_adjacent_writes<F: Family>() {
    let mut spec = balanced(&[]);
    let mut bench = settled::<F>(&spec);
    spec.outside.external_ips = spec.outside.load_balancer_ips.split_off(0);
    let ops = written(&mut bench, &spec);
    let [Op::RemoveFrontend { key: removed }, Op::PutFrontend { key, frontend }] = &ops[..] else {
        panic!("{ops:?}")
    };
    let external = FrontendKey::new(address::<F>(97, 1), Port::new(80), Protocol::TCP);
    assert_eq!((removed, key), (&external, &external));
    assert_eq!(frontend.kind(), FrontendKind::ExternalIp);
    bench.assert_safe();
}

fn the_local_set_is_there_before_the_external_policy<F: Family>() {
    let mut spec = balanced(&[]);
    let mut bench = settled::<F>(&spec);
    spec.outside.policy = TrafficPolicy::Local;
    let ops = written(&mut bench, &spec);
    let expected =
        ["set the standing of a backend", "write slots", "publish a backend set", "set a policy"];
    assert_eq!(verbs(&ops), expected);
    assert!(matches!(ops[2], Op::PutSet { which: SetKind::Local, .. }));
    bench.assert_safe();
}

fn an_endpoint_that_moves_here_is_told_in_place<F: Family>() {
    let mut bench = settled::<F>(&web(&[(1, Ready, false)]));
    let ops = written(&mut bench, &web(&[(1, Ready, true)]));
    let [Op::SetStanding { backend, .. }] = &ops[..] else { panic!("{ops:?}") };
    assert_eq!(backend.standing, Standing::IN_CLUSTER.with(Standing::ON_NODE));
    bench.assert_safe();
}

fn of_equally_old_services_the_first_by_uid_has_the_frontend<F: Family>() {
    let mut bench = Bench::<F>::new();
    let external = |uid| {
        let outside = Outside { external_ips: vec![(97, 1)], ..Outside::default() };
        Spec { vip: uid, uid, outside, ..web(&[]) }
    };
    bench.set("a", &external(2));
    bench.set("b", &external(1));
    bench.settle();
    let conflicts = bench.reconciler.take_conflicts();
    let winners: Vec<_> = conflicts.iter().map(|conflict| &*conflict.winner.name).collect();
    assert_eq!(winners, ["b"]);
}
