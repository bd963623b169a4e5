// SPDX-License-Identifier: Apache-2.0
//! Tables that an agent before has left, as long as nothing else is known.

use std::{future::poll_fn, pin::pin};

use tokio::time::timeout;

use super::*;

/// A runner with two families' tables, of which one has two Services and the other one of these.
async fn taken_over() -> Runner {
    let (v4, v6) = (Shared::<V4>::default(), Shared::<V6>::default());
    let runner = || {
        let runner = Runner::new("me", Options::default()).with_family(Arc::clone(&v4)).unwrap();
        runner.with_family(Arc::clone(&v6)).unwrap()
    };
    assert_eq!(runner().found(), Found::default());
    let bench = Bench::new(runner());
    let _ = bench.send([service("a", &["10.0.0.1", "fd00::1"]), slice("a", "10.1.0.1")]).await;
    let _ = bench.send([service("b", &["10.0.0.2"])]).await;
    let _ = bench.sync().await;
    runner()
}

#[tokio::test]
async fn what_was_taken_over_is_counted() {
    assert_eq!(taken_over().await.found(), Found { services: 2, frontends: 3 });
}

/// It is due from the start, but nothing can be done about it. On a clock that goes on: one that stands still would wait
/// for whoever is busy.
#[tokio::test]
async fn nothing_is_done_about_what_was_taken_over_before_all_is_known() {
    let (events, receiver) = mpsc::channel(1);
    let runner = taken_over().await;
    let mut run = pin!(runner.run(receiver));
    let mut polls = 0;
    let counted = poll_fn(|context| {
        polls += 1;
        run.as_mut().poll(context)
    });
    assert!(timeout(Duration::from_millis(50), counted).await.is_err(), "it has ended");
    assert!(polls < 10, "it is busy: {polls}");
    drop(events);
}
