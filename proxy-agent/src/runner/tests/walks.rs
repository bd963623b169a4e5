// SPDX-License-Identifier: Apache-2.0
//! Walks through flows, and what waits for them.

use tokio::time::timeout;

use super::*;
use crate::{
    both_families::in_both_families,
    dataplane::{Referred, Rows},
    model::ObjectKey,
    reconcile::allocator::REST,
};

in_both_families!(
    a_service_without_a_row_is_served_after_the_walk_that_it_asks_for,
    walks_that_may_have_missed_flows_free_no_row,
);

fn a_service_without_a_row_is_served_after_the_walk_that_it_asks_for<F>()
where
    F: Family<Addr: Send> + Send,
{
    run(async {
        let tables = Shared::<F>::default();
        tables.lock().unwrap().rows = Rows { services: 1, ..Rows::CAPACITY };
        // A family before it, whose walks are others.
        let (runner, beside) = Runner::new("me", Options::default())
            .with_walked_family(Shared::<V4>::default())
            .unwrap();
        let (runner, walker) = runner.with_walked_family(Arc::clone(&tables)).unwrap();
        let bench = Bench::new(runner);
        let both = |last: u8| [format!("10.0.0.{last}"), format!("fd00::{last}")];
        let service = |name: &str, last| {
            let [v4, v6] = both(last);
            service(name, &[&v4, &v6])
        };
        let _ = bench.sync().await;
        let _ = bench.send([service("a", 1)]).await;
        let key = ObjectKey { kind: Kind::Service, name: ObjectName::new("ns", "a") };
        let row = *tables.lock().unwrap().names.keys().next().unwrap();
        let gone = Instant::now();
        let status = bench.send([Event::Delete(key), service("b", 2)]).await;
        assert_eq!(status.failing, 1, "{status:?}");
        timeout(Duration::from_mins(1), walker.asked()).await.unwrap();
        assert!((REST..REST + Duration::from_millis(10)).contains(&gone.elapsed()));
        tables.lock().unwrap().set_time(REST);
        let mut referred = Referred::none_of(64);
        referred.add(row);
        walker.tell(Instant::now(), referred).await;
        // Another table is another one's.
        beside.tell(Instant::now(), Referred::none_of(64)).await;
        assert_eq!(bench.send([]).await.failing, 1);
        // It is tried again, and asks again.
        timeout(Duration::from_mins(1), walker.asked()).await.unwrap();
        assert!(!dump(&tables).contains("ns/b"));
        walker.tell(Instant::now(), Referred::none_of(64)).await;
        sleep(Duration::from_millis(1)).await;
        assert!(dump(&tables).contains("ns/b"), "{}", dump(&tables));
        assert_eq!(bench.send([]).await.failing, 0);
        assert_eq!(tables.lock().unwrap().violations(), [] as [&str; 0]);
    });
}

/// As long as another version's tables may have flows that these lack.
fn walks_that_may_have_missed_flows_free_no_row<F>()
where
    F: Family<Addr: Send> + Send,
{
    run(async {
        let tables = Shared::<F>::default();
        tables.lock().unwrap().rows = Rows { services: 1, ..Rows::CAPACITY };
        let whole_since = watch::Sender::new(None);
        let runner =
            Runner::new("me", Options::default()).with_all_flows_since(whole_since.subscribe());
        let (runner, walker) = runner.with_walked_family(Arc::clone(&tables)).unwrap();
        let bench = Bench::new(runner);
        let service = |name: &str| service(name, &["10.0.0.1", "fd00::1"]);
        let _ = bench.sync().await;
        let _ = bench.send([service("a")]).await;
        let key = ObjectKey { kind: Kind::Service, name: ObjectName::new("ns", "a") };
        assert_eq!(bench.send([Event::Delete(key), service("b")]).await.failing, 1);
        sleep(2 * REST).await;
        tables.lock().unwrap().set_time(2 * REST);
        let is_served = async |began| {
            walker.tell(began, Referred::none_of(64)).await;
            sleep(Duration::from_millis(1)).await;
            dump(&tables).contains("ns/b")
        };
        let before = Instant::now();
        assert!(!is_served(before).await, "another version serves");
        sleep(REST).await;
        let _ = whole_since.send_replace(Some(Instant::now()));
        assert!(!is_served(before).await, "it has begun before that one's end");
        assert!(is_served(Instant::now()).await, "{}", dump(&tables));
    });
}
