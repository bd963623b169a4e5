// SPDX-License-Identifier: Apache-2.0
//! What the programs are told of the node's ways: that these have changed, and how much routes take. What cannot be
//! written, as when the table is full, is tried again.

use std::{collections::BTreeMap, future::pending};

use ipnet::IpNet;
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep_until},
};
use tracing::{info, warn};

use crate::{
    backoff,
    bpf::{Error, RouteMtus, WaysTable},
    chain::chain,
    devices::{RouteMtu, watch_ways},
};

/// Tells the programs whenever the node's routes, addresses or neighbours change.
pub(super) fn tell(
    ways: WaysTable,
    mtus: RouteMtus,
    tasks: &mut JoinSet<()>,
) -> anyhow::Result<()> {
    let said = mtus.said()?;
    let (sender, news) = mpsc::unbounded_channel();
    // Nobody listens any more when all ends.
    watch_ways(tasks, said, move |changed| drop(sender.send(changed)))?;
    let _ = tasks.spawn(follow(ways, mtus, news));
    Ok(())
}

async fn follow(
    mut ways: WaysTable,
    mut mtus: RouteMtus,
    mut news: mpsc::UnboundedReceiver<Vec<RouteMtu>>,
) {
    let mut missing = Missing::default();
    loop {
        let changed = tokio::select! {
            changed = news.recv() => match changed {
                Some(changed) => changed,
                None => return,
            },
            () = until(missing.again) => Vec::new(),
        };
        missing.put(changed, |destination, mtu| mtus.put(destination, mtu));
        if let Err(error) = ways.end_epoch() {
            warn!(error = chain(&error), "cannot say that routes or neighbours have changed");
        }
    }
}

async fn until(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => pending().await,
    }
}

/// What could not be said of routes.
#[derive(Debug, Default)]
struct Missing {
    /// What holds of each destination, in bytes.
    mtus: BTreeMap<IpNet, Option<u32>>,
    /// How often in a row it could not be said.
    failures: u32,
    /// When it is tried again.
    again: Option<Instant>,
}

impl Missing {
    /// Says what holds from now on; and what could not be said before, if it is time for that, or if something goes that
    /// may have made room.
    fn put(
        &mut self,
        changed: Vec<RouteMtu>,
        mut put: impl FnMut(IpNet, Option<u32>) -> Result<(), Error>,
    ) {
        let is_due = self.again.is_none_or(|again| again <= Instant::now());
        let mut failed = None;
        let mut is_missing = |(destination, mtu): &RouteMtu| {
            let error = put(*destination, *mtu).err();
            let is_missing = error.is_some();
            failed = failed.take().or(error.map(|error| (*destination, error)));
            is_missing
        };
        // What goes makes room for what comes.
        let (come, gone): (Vec<_>, Vec<_>) =
            changed.into_iter().partition(|(_, mtu)| mtu.is_some());
        let has_room = !gone.is_empty();
        for change in gone.into_iter().chain(come) {
            let _: Option<Option<u32>> = self.mtus.remove(&change.0);
            if is_missing(&change) {
                let _: Option<Option<u32>> = self.mtus.insert(change.0, change.1);
            }
        }
        if is_due || has_room {
            self.mtus.retain(|destination, mtu| is_missing(&(*destination, *mtu)));
        }
        if self.mtus.is_empty() {
            if self.again.is_some() {
                info!("the programs know again how much routes take");
            }
            *self = Self::default();
        } else if let Some((destination, error)) = failed.filter(|_| is_due) {
            let pause = backoff::pause(self.failures);
            let (destinations, error) = (self.mtus.len(), chain(&error));
            warn!(
                %destination,
                destinations,
                error,
                again_in = ?pause,
                "cannot say how much routes take: larger packets may go past the host's stack"
            );
            self.failures += 1;
            self.again = Some(Instant::now() + pause);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A table with room for so many.
    struct Table(usize, BTreeMap<IpNet, u32>);

    impl Table {
        fn put(&mut self, destination: IpNet, mtu: Option<u32>) -> Result<(), Error> {
            match mtu {
                None => drop(self.1.remove(&destination)),
                Some(_) if self.1.len() == self.0 && !self.1.contains_key(&destination) => {
                    return Err(Error::Full { map: "MTUS_V4".to_owned(), flag: None });
                }
                Some(mtu) => drop(self.1.insert(destination, mtu)),
            }
            Ok(())
        }

        fn say(&mut self, missing: &mut Missing, said: &[(&str, Option<u32>)]) {
            let changed = said.iter().map(|(to, mtu)| (to.parse().unwrap(), *mtu)).collect();
            missing.put(changed, |destination, mtu| self.put(destination, mtu));
        }

        fn says(&self, said: &[(&str, u32)]) -> bool {
            let said = said.iter().map(|(to, mtu)| (to.parse().unwrap(), *mtu));
            self.1 == said.collect::<BTreeMap<IpNet, u32>>()
        }
    }

    #[test]
    fn what_has_no_room_waits_for_it() {
        for [first, second, third] in
            [["10.1.0.0/16", "10.2.0.0/16", "10.3.0.0/16"], ["fd01::/64", "fd02::/64", "fd03::/64"]]
        {
            let (mut table, mut missing) = (Table(1, BTreeMap::new()), Missing::default());
            table.say(
                &mut missing,
                &[(first, Some(1400)), (second, Some(1300)), (third, Some(1200))],
            );
            assert!(table.says(&[(first, 1400)]), "{:?}", table.1);
            assert!(missing.again.is_some() && missing.mtus.len() == 2, "{missing:?}");
            // What changes meanwhile holds; what goes makes room at once, whatever its place in the order.
            table.say(&mut missing, &[(second, Some(1350)), (third, None)]);
            assert!(table.says(&[(first, 1400)]), "{:?}", table.1);
            table.say(&mut missing, &[(first, None)]);
            assert!(table.says(&[(second, 1350)]), "{:?}", table.1);
            assert!(missing.again.is_none() && missing.mtus.is_empty(), "{missing:?}");
            table.say(&mut missing, &[(first, Some(1400)), (second, None)]);
            assert!(table.says(&[(first, 1400)]), "{:?}", table.1);
            assert!(missing.again.is_none(), "{missing:?}");
        }
    }

    #[test]
    fn it_is_tried_again_less_and_less_often() {
        let (mut table, mut missing) = (Table(0, BTreeMap::new()), Missing::default());
        table.say(&mut missing, &[("10.1.0.0/16", Some(1400))]);
        let pause = |missing: &Missing| missing.again.map(|again| again - Instant::now());
        let first = pause(&missing);
        missing.again = Some(Instant::now());
        table.say(&mut missing, &[]);
        assert!(pause(&missing) > first, "{missing:?}");
        table.0 = 1;
        table.say(&mut missing, &[]);
        assert!(table.says(&[]) && missing.again.is_some(), "it is not time yet: {missing:?}");
        missing.again = Some(Instant::now());
        table.say(&mut missing, &[]);
        assert!(table.says(&[("10.1.0.0/16", 1400)]) && missing.again.is_none(), "{missing:?}");
    }
}
