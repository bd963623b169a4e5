// SPDX-License-Identifier: Apache-2.0
//! What the runner tells others, beside what is in the tables.

use proxy_common::Family;

use super::*;
use crate::{both_families::in_both_families, events::Events};

in_both_families!(
    a_family_that_waits_for_a_minute_makes_the_proxy_unwell,
    endpoints_that_are_not_served_are_told_of_once,
);

/// Runs a test on a clock that stands still unless everything waits.
fn run(test: impl Future<Output = ()>) {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_time().start_paused(true).build().unwrap().block_on(test);
}

/// A dual-stack Service.
fn dual(name: &str) -> Event {
    service(name, &["10.0.0.1", "fd00::1"])
}

fn a_family_that_waits_for_a_minute_makes_the_proxy_unwell<F>()
where
    F: Family<Addr: Send> + Send,
{
    run(async {
        let fails = Arc::new(Mutex::new(true));
        let is_failing = Arc::clone(&fails);
        let fails_now = move |_: &Op<F>| *is_failing.lock().unwrap();
        let faulty = Faulty { inner: Shared::<F>::default(), fails: fails_now };
        let runner = Runner::new("me", Options::default()).with_family(faulty);
        let runner = runner.with_family(Shared::<V4>::default());
        let runner = runner.with_family(Shared::<V6>::default());
        let healthy = runner.healthy();
        let bench = Bench::new(runner);
        assert!(!*healthy.borrow(), "it knows nothing yet");
        let _ = bench.sync().await;
        assert!(*healthy.borrow());
        let _ = bench.send([dual("a")]).await;
        sleep(Duration::from_millis(59_990)).await;
        assert!(*healthy.borrow(), "it has some time");
        sleep(Duration::from_millis(20)).await;
        assert!(!*healthy.borrow(), "it has had its time");
        // Another change, which fails as well, gives it no more.
        let _ = bench.send([dual("b")]).await;
        assert!(!*healthy.borrow());
        *fails.lock().unwrap() = false;
        let _ = bench.send([dual("b"), dual("c")]).await;
        assert!(!*healthy.borrow(), "some of it is still to be done");
        sleep(Duration::from_secs(31)).await;
        assert!(*healthy.borrow(), "all of it is done");
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
