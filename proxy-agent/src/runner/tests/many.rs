// SPDX-License-Identifier: Apache-2.0
//! Many Services at once, as at the start: families are worked on side by side.

use super::*;
use crate::runner::rest::MANY;

/// What fails in one of them is tried again on the clock of the other.
#[tokio::test(start_paused = true)]
async fn many_services_are_served_in_each_family() {
    let (v4, v6) = (Shared::<V4>::default(), Shared::<V6>::default());
    let mut has_failed = false;
    let fails = move |_: &Op<V6>| !std::mem::replace(&mut has_failed, true);
    let runner = Runner::new("me", Options::default())
        .with_family(Arc::clone(&v4))
        .unwrap()
        .with_family(Faulty { inner: Arc::clone(&v6), fails })
        .unwrap();
    let bench = Bench::new(runner);
    let services = (0..MANY).map(|number| {
        let v4 = format!("10.0.{}.{}", number / 256, number % 256);
        service(&format!("s{number}"), &[&v4, &format!("fd00::{number:x}")])
    });
    let _ = bench.send(services).await;
    let status = bench.sync().await;
    assert_eq!((status.services, status.pending, status.failing), (MANY, 1, 1));
    let served = |dump: String| dump.matches("cluster-ip").count();
    assert_eq!((served(dump(&v4)), served(dump(&v6))), (MANY, MANY - 1));
    sleep(Duration::from_millis(101)).await;
    assert_eq!(served(dump(&v6)), MANY);
    assert_eq!(bench.send([]).await.pending, 0);
}
