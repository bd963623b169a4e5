// SPDX-License-Identifier: Apache-2.0

use std::collections::VecDeque;

use futures_util::{FutureExt, stream};
use rtnetlink::packet_core::NetlinkHeader;
use tokio::{sync::mpsc, time::timeout};

use super::*;
use crate::devices::route_mtus::tests::{all, holds, route};

type Message = NetlinkMessage<RouteNetlinkMessage>;

/// A watch without a kernel.
struct Bench {
    messages: mpsc::UnboundedSender<Message>,
    told: mpsc::UnboundedReceiver<Vec<RouteMtu>>,
    _tasks: JoinSet<()>,
}

impl Bench {
    /// Watches, with these readings, one after the other; any more find nothing.
    fn new<F>(readings: impl IntoIterator<Item = F>) -> Self
    where
        F: Future<Output = Outcome> + Send + 'static,
    {
        let (messages, queue) = mpsc::unbounded_channel();
        let (sender, told) = mpsc::unbounded_channel();
        let mut readings: VecDeque<_> = readings.into_iter().map(FutureExt::boxed).collect();
        let read = move || {
            readings.pop_front().unwrap_or_else(|| async { Ok(RouteMtus::default()) }.boxed())
        };
        let watch = Watch::new(read, move |mtus| sender.send(mtus).unwrap());
        let queue = stream::unfold(queue, |mut queue| async move {
            let message = queue.recv().await?;
            Some((message, queue))
        });
        let mut tasks = JoinSet::new();
        let _ = tasks.spawn(watch.run(queue.boxed()));
        Self { messages, told, _tasks: tasks }
    }

    fn send(&self, message: impl Into<Message>) {
        self.messages.send(message.into()).unwrap();
    }

    /// What is told next, within a minute.
    async fn told(&mut self) -> Vec<RouteMtu> {
        let told = timeout(Duration::from_mins(1), self.told.recv()).await;
        told.expect("nothing is told").expect("the watch has ended")
    }

    async fn tells_no_more(&mut self) {
        let told = timeout(Duration::from_hours(1), self.told.recv()).await;
        assert!(told.is_err(), "{told:?}");
    }
}

fn new(mtu: u32) -> RouteNetlinkMessage {
    RouteNetlinkMessage::NewRoute(route(Some(mtu), 1))
}

fn gone(mtu: u32) -> RouteNetlinkMessage {
    RouteNetlinkMessage::DelRoute(route(Some(mtu), 1))
}

fn overrun() -> Message {
    Message::new(NetlinkHeader::default(), NetlinkPayload::Overrun(Vec::new()))
}

/// A reading that takes some time.
async fn slow(seconds: u64, outcome: Outcome) -> Outcome {
    sleep(Duration::from_secs(seconds)).await;
    outcome
}

#[tokio::test(start_paused = true)]
async fn what_came_with_an_overrun_is_told() {
    let routes = [route(Some(1400), 1)];
    let mut bench = Bench::new([slow(0, Ok(all(&[]))), slow(0, Ok(all(&routes)))]);
    assert_eq!(bench.told().await, []);
    bench.send(new(1400));
    bench.send(overrun());
    assert_eq!(bench.told().await, [holds(Some(1400))]);
    assert_eq!(bench.told().await, [], "the reading agrees");
    bench.tells_no_more().await;
}

#[tokio::test(start_paused = true)]
async fn what_was_lost_is_read() {
    let routes = [route(Some(1400), 1)];
    let mut bench = Bench::new([slow(0, Ok(all(&[]))), slow(0, Ok(all(&routes)))]);
    assert_eq!(bench.told().await, []);
    bench.send(overrun());
    assert_eq!(bench.told().await, []);
    assert_eq!(bench.told().await, [holds(Some(1400))]);
    bench.tells_no_more().await;
}

#[tokio::test(start_paused = true)]
async fn a_reading_is_tried_until_it_succeeds() {
    let torn = || slow(2, Err(NetlinkError::Restless));
    let routes = [route(Some(1300), 2)];
    let mut bench = Bench::new([torn(), torn(), torn(), slow(0, Ok(all(&routes)))]);
    // Changes are told meanwhile, while it is read and between readings.
    let start = Instant::now();
    for mtu in [1500, 1400] {
        bench.send(new(mtu));
        assert_eq!(bench.told().await, [holds(Some(mtu))]);
        assert!(start.elapsed() < Duration::from_secs(1));
    }
    sleep(Duration::from_millis(2500)).await;
    bench.send(new(1350));
    assert_eq!(bench.told().await, [holds(Some(1350))]);
    assert!(start.elapsed() < Duration::from_secs(3));
    assert_eq!(bench.told().await, [holds(Some(1300))]);
    bench.tells_no_more().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_told_during_a_reading_is_newer() {
    let mut bench = Bench::new([slow(10, Ok(all(&[])))]);
    sleep(Duration::from_secs(1)).await;
    bench.send(new(1400));
    assert_eq!(bench.told().await, [holds(Some(1400))]);
    assert_eq!(bench.told().await, [], "the reading takes nothing back");
    bench.tells_no_more().await;
}

#[tokio::test(start_paused = true)]
async fn where_one_of_several_routes_goes_a_reading_decides() {
    let both = [route(Some(1400), 1), route(Some(1400), 1)];
    let readings = [slow(0, Ok(all(&both))), slow(0, Ok(all(&both[1..]))), slow(0, Ok(all(&[])))];
    let mut bench = Bench::new(readings);
    assert_eq!(bench.told().await, [holds(Some(1400))]);
    for left in [vec![], vec![holds(None)]] {
        bench.send(gone(1400));
        assert_eq!(bench.told().await, [], "kept until it is clear");
        assert_eq!(bench.told().await, left);
    }
    bench.tells_no_more().await;
}
