// SPDX-License-Identifier: Apache-2.0
//! What the runner tells others, beside what is in the tables.

use proxy_common::Family;

use super::*;
use crate::both_families::in_both_families;

in_both_families!(a_family_that_waits_for_a_minute_makes_the_proxy_unwell);

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
