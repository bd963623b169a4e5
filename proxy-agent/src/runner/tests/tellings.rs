// SPDX-License-Identifier: Apache-2.0
//! What the runner tells others, beside what is in the tables.

use std::sync::atomic::AtomicBool;

use proxy_common::Family;

use super::*;
use crate::{
    both_families::in_both_families,
    events::{EventType, Events},
    model::{ObjectKey, ServiceCidr},
};

in_both_families!(
    a_family_that_is_stuck_for_a_minute_makes_the_proxy_unwell,
    what_concerns_the_whole_family_makes_the_proxy_unwell,
    services_that_cannot_be_served_leave_the_proxy_well,
    endpoints_that_are_not_served_are_told_of_once,
    what_is_missing_is_told_of_once,
);

/// A dual-stack Service.
fn dual(name: &str) -> Event {
    service(name, &["10.0.0.1", "fd00::1"])
}

/// A runner of both families and of a third that fails at what is chosen, and whether it is well.
fn faulty<F, C>(fails: C) -> (Bench, watch::Receiver<bool>)
where
    F: Family<Addr: Send> + Send,
    C: FnMut(&Op<F>) -> bool + Send + 'static,
{
    let faulty = Faulty { inner: Shared::<F>::default(), fails };
    let runner = Runner::new("me", Options::default()).with_family(faulty).unwrap();
    let runner = runner.with_family(Shared::<V4>::default()).unwrap();
    let runner = runner.with_family(Shared::<V6>::default()).unwrap();
    let healthy = runner.healthy();
    (Bench::new(runner), healthy)
}

fn a_family_that_is_stuck_for_a_minute_makes_the_proxy_unwell<F>()
where
    F: Family<Addr: Send> + Send,
{
    run(async {
        let fails = Arc::new(AtomicBool::new(true));
        let is_failing = Arc::clone(&fails);
        let (bench, healthy) = faulty(move |_: &Op<F>| is_failing.load(Ordering::Relaxed));
        assert!(!*healthy.borrow(), "it knows nothing yet");
        let _ = bench.sync().await;
        assert!(*healthy.borrow());
        let _ = bench.send([dual("a"), dual("b")]).await;
        sleep(Duration::from_millis(59_990)).await;
        assert!(*healthy.borrow(), "it has some time");
        sleep(Duration::from_millis(20)).await;
        assert!(!*healthy.borrow(), "it has had its time");
        // Another change, which fails as well, gives it no more.
        let _ = bench.send([dual("c")]).await;
        assert!(!*healthy.borrow());
        fails.store(false, Ordering::Relaxed);
        let status = bench.send([dual("d")]).await;
        assert!(*healthy.borrow() && status.failing > 0, "it goes on: {status:?}");
    });
}

fn what_concerns_the_whole_family_makes_the_proxy_unwell<F>()
where
    F: Family<Addr: Send> + Send,
{
    let address = ["192.0.2.1", "2001:db8::1"][F::INDEX as usize];
    let cidr = ["10.0.0.0/16", "fd00::/112"][F::INDEX as usize].parse().unwrap();
    let cidrs = ServiceCidr { name: "kubernetes".into(), cidrs: vec![cidr] };
    for change in [node("me", address), Event::Apply(Object::ServiceCidr(cidrs))] {
        run(async {
            let (bench, healthy) = faulty(|_: &Op<F>| true);
            let _ = bench.sync().await;
            let _ = bench.send([change]).await;
            assert!(*healthy.borrow());
            sleep(Duration::from_secs(61)).await;
            assert!(!*healthy.borrow());
        });
    }
}

fn services_that_cannot_be_served_leave_the_proxy_well<F>()
where
    F: Family<Addr: Send> + Send,
{
    let bad = ["10.0.0.66", "fd00::66"];
    run(async {
        let key: IpAddr = bad[F::INDEX as usize].parse().unwrap();
        let (bench, healthy) = faulty(
            move |op: &Op<F>| matches!(op, Op::PutFrontend { key: at, .. } if at.address.into() == key),
        );
        let _ = bench.sync().await;
        // Nothing else has anything to do meanwhile.
        let status = bench.send([service("a", &bad)]).await;
        assert_eq!(status.failing, 1);
        sleep(Duration::from_mins(5)).await;
        assert!(*healthy.borrow());
        // Others are served, before and after that also fail.
        let _ = bench.send([dual("b")]).await;
        let status = bench.send([service("c", &bad), dual("d")]).await;
        assert_eq!(status.failing, 2);
        sleep(Duration::from_mins(5)).await;
        assert!(*healthy.borrow());
    });
}

fn endpoints_that_are_not_served_are_told_of_once<F: Family>() {
    let of = |texts: [&'static str; 2]| texts[F::INDEX as usize];
    let (own, pod) = (of(["10.0.0.1", "fd00::1"]), of(["10.1.0.1", "fd00:1::1"]));
    let bad: IpAddr = of(["127.0.0.1", "::1"]).parse().unwrap();
    let named = |address: &str, is_bad: bool| {
        let Event::Apply(Object::EndpointSlice(mut slice)) = slice("a", address) else { panic!() };
        slice.unusable.extend(is_bad.then_some((bad, "a loopback address")));
        Event::Apply(Object::EndpointSlice(slice))
    };
    let of_both = |[v4, v6]: [String; 2]| if F::INDEX == 0 { v4 } else { v6 };
    run(async {
        let (events, mut told) = Events::queued();
        let bench = Bench::new(Runner::new("me", Options::default()).with_events(events));
        let _ = bench.send([named(own, true), dual("a"), dual("b")]).await;
        assert!(told.try_recv().is_err(), "all is to be known first");
        let _ = bench.sync().await;
        let only = format!("{bad} is a loopback address");
        let own = format!("{own} is the Service's own cluster IP");
        // In the order of the addresses.
        let both = of_both([format!("{own}, {only}"), format!("{only}, {own}")]);
        let (both, only) = (format!("2 endpoints: {both}"), format!("1 endpoint: {only}"));
        for (change, expected) in [
            (None, Some(&both)),
            (Some(dual("a")), None),
            (Some(service("a", &["fd00::1", "10.0.0.1"])), None),
            (Some(named(pod, true)), Some(&only)),
            (Some(named(pod, false)), None),
            (Some(named(pod, true)), Some(&only)),
        ] {
            let _ = bench.send(change).await;
            let event = told.try_recv().ok();
            let note = event.as_ref().map(|event| event.note.clone());
            let expected = expected.map(|what| format!("node me does not serve {what}"));
            assert_eq!(note, expected);
            let name = event.map(|event| event.regarding.service.to_string());
            assert!(name.is_none_or(|name| name == "ns/a"));
            assert!(told.try_recv().is_err());
        }
    });
}

fn what_is_missing_is_told_of_once<F>()
where
    F: Family<Addr: Send> + Send,
{
    let of = |texts: [&'static str; 2]| texts[F::INDEX as usize];
    let (shared, bad) = (of(["10.0.0.1", "fd00::1"]), of(["10.0.0.66", "fd00::66"]));
    let key: IpAddr = bad.parse().unwrap();
    let is_over = Arc::new(AtomicBool::new(false));
    let over = Arc::clone(&is_over);
    let fails = move |op: &Op<F>| {
        !over.load(Ordering::Relaxed)
            && matches!(op, Op::PutFrontend { key: at, .. } if at.address.into() == key)
    };
    let (events, mut told) = Events::queued();
    let faulty = Faulty { inner: Shared::<F>::default(), fails };
    let runner = Runner::new("me", Options::default()).with_family(faulty).unwrap();
    let mut told = move || {
        let told = std::iter::from_fn(|| told.try_recv().ok());
        let told = told.map(|event| {
            assert_eq!(event.type_, EventType::Warning);
            (event.regarding.service.to_string(), event.reason, event.note)
        });
        told.collect::<Vec<_>>()
    };
    run(async {
        let bench = Bench::new(runner.with_events(events));
        let _ = bench.sync().await;
        assert_eq!(told(), []);
        let _ = bench.send([service("a", &[shared]), service("b", &[shared])]).await;
        let losers = told();
        let (is_conflict, whose): (Vec<_>, Vec<_>) = losers
            .iter()
            .map(|(service, reason, told)| {
                let says = told.contains("does not serve port 80/TCP")
                    && told.contains(F::NAME)
                    && told.contains("is that of ns/a");
                (*reason == "FrontendConflict" && says, &**service)
            })
            .unzip();
        assert!(!whose.is_empty() && whose.iter().all(|whose| *whose == "ns/b"), "{losers:?}");
        assert!(is_conflict.iter().all(|is| *is), "{losers:?}");
        // Nothing is told twice.
        let _ = bench.send([service("b", &[shared])]).await;
        assert_eq!(told(), []);
        let _ = bench.send([service("c", &[bad])]).await;
        let failed = told();
        let [(whose, "FailedToProgram", says)] = failed.as_slice() else { panic!("{failed:?}") };
        assert!(whose == "ns/c" && says.contains("node me does not serve all of it"), "{says}");
        assert!(says.contains(F::NAME) && says.contains("chosen to fail"), "{says}");
        // It is tried again and again.
        sleep(Duration::from_mins(5)).await;
        assert_eq!(told(), []);
        // And is news again when it has been well.
        is_over.store(true, Ordering::Relaxed);
        sleep(Duration::from_mins(2)).await;
        is_over.store(false, Ordering::Relaxed);
        let name = ObjectName::new("ns", "c");
        let _ = bench.send([Event::Delete(ObjectKey { kind: Kind::Service, name })]).await;
        let _ = bench.send([service("c", &[bad])]).await;
        assert_eq!(told(), failed);
    });
}
