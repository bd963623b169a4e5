// SPDX-License-Identifier: Apache-2.0
//! A start at which not all objects can be read: what an agent before has left serves on, devices are looked after by
//! that, and the operator is told.

use std::{future::pending, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use tracing::{info, warn};

use crate::runner::{Found, Status};

/// How long objects are waited for, before devices are looked after by what was found.
const PATIENCE: Duration = Duration::from_secs(3);

/// After how long it is said again that objects are not there.
const AGAIN: Duration = Duration::from_mins(5);

/// Objects that have not been read yet.
#[derive(Debug)]
pub(super) struct Unread {
    found: Found,
    status: watch::Receiver<Status>,
    trouble: watch::Receiver<Option<String>>,
    since: Instant,
    /// What is to be said next, if anything is.
    next: Option<Next>,
}

#[derive(Clone, Copy, Debug)]
struct Next {
    at: Instant,
    /// Whether it has been said why.
    is_explained: bool,
}

/// What there is to say.
#[derive(Clone, Debug, PartialEq, Eq)]
enum News {
    /// They are not there after so many seconds, and why if that is known.
    Unread { seconds: u64, error: Option<String> },
    /// They are, after so many seconds.
    Read { seconds: u64 },
}

impl Unread {
    /// From now on, where this was found. `trouble` says why objects cannot be read.
    pub(super) fn new(
        found: Found,
        status: watch::Receiver<Status>,
        trouble: watch::Receiver<Option<String>>,
    ) -> Self {
        Self { found, status, trouble, since: Instant::now(), next: None }
    }

    /// Waits until devices can be looked after: when all objects have been read, and before that if it takes long and
    /// Services were found.
    ///
    /// # Errors
    ///
    /// If nobody reads objects any more.
    pub(super) async fn give_way(&mut self) -> Result<(), watch::error::RecvError> {
        let overdue = self.since + PATIENCE;
        tokio::select! {
            biased;
            read = self.status.wait_for(|status| status.synced) => drop(read?),
            () = sleep_until(overdue), if self.found.frontends > 0 => {
                self.next = Some(Next { at: Instant::now(), is_explained: false });
            }
        }
        Ok(())
    }

    /// Says how things stand, whenever that is due. May be cancelled.
    pub(super) async fn tell(&mut self) {
        let Found { services, frontends } = self.found;
        match self.news().await {
            News::Unread { seconds, error } => warn!(
                seconds,
                error,
                services,
                frontends,
                "not all objects can be read: what an agent before has left serves on, and new pods, too"
            ),
            News::Read { seconds } => {
                info!(seconds, "all objects have been read, and hold from now on");
            }
        }
    }

    /// What is to be said, once that is due.
    async fn news(&mut self) -> News {
        let Some(Next { at, is_explained }) = self.next else { return pending().await };
        let are_read = tokio::select! {
            biased;
            () = until(&mut self.status, |status| status.synced) => true,
            () = sleep_until(at) => false,
            () = until(&mut self.trouble, Option::is_some), if !is_explained => false,
        };
        let seconds = self.since.elapsed().as_secs();
        if are_read {
            self.next = None;
            return News::Read { seconds };
        }
        let error = self.trouble.borrow_and_update().clone();
        let is_explained = is_explained || error.is_some();
        self.next = Some(Next { at: Instant::now() + AGAIN, is_explained });
        News::Unread { seconds, error }
    }
}

/// Waits until a value is so. One that nobody changes any more stays as it is.
async fn until<T>(watched: &mut watch::Receiver<T>, is_so: impl FnMut(&T) -> bool) {
    if watched.wait_for(is_so).await.is_err() {
        pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    /// What the agent hears of, and what it says of that.
    struct Scene {
        status: watch::Sender<Status>,
        trouble: watch::Sender<Option<String>>,
        unread: Unread,
    }

    fn scene(frontends: usize) -> Scene {
        let (status, trouble) = (watch::Sender::default(), watch::Sender::default());
        let found = Found { services: 1, frontends };
        let unread = Unread::new(found, status.subscribe(), trouble.subscribe());
        Scene { status, trouble, unread }
    }

    impl Scene {
        fn fail(&self, error: &str) {
            let _ = self.trouble.send_replace(Some(error.to_owned()));
        }

        fn sync(&self) {
            self.status.send_modify(|status| status.synced = true);
        }

        /// Whether devices may be looked after within so many seconds.
        async fn gives_way(&mut self, seconds: u64) -> bool {
            let limit = Duration::from_secs(seconds);
            timeout(limit, self.unread.give_way()).await.is_ok_and(|given| given.is_ok())
        }

        /// What is said within so many seconds.
        async fn says(&mut self, seconds: u64) -> Option<News> {
            timeout(Duration::from_secs(seconds), self.unread.news()).await.ok()
        }
    }

    fn unread(seconds: u64, error: Option<&str>) -> News {
        News::Unread { seconds, error: error.map(str::to_owned) }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_found_serves_and_that_is_said_now_and_then() {
        let mut scene = scene(2);
        scene.fail("no route");
        assert!(!scene.gives_way(2).await, "they may come still");
        assert!(scene.gives_way(2).await);
        assert_eq!(scene.says(1).await, Some(unread(3, Some("no route"))));
        scene.fail("no answer");
        assert_eq!(scene.says(299).await, None, "it has been said");
        assert_eq!(scene.says(2).await, Some(unread(303, Some("no answer"))));
        scene.sync();
        assert_eq!(scene.says(1).await, Some(News::Read { seconds: 303 }));
        assert_eq!(scene.says(1000).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_reason_that_comes_late_is_said_at_once() {
        let mut scene = scene(2);
        assert!(scene.gives_way(4).await);
        assert_eq!(scene.says(1).await, Some(unread(3, None)));
        assert_eq!(scene.says(7).await, None);
        scene.fail("no answer");
        assert_eq!(scene.says(1).await, Some(unread(10, Some("no answer"))));
        assert_eq!(scene.says(299).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn without_services_objects_are_waited_for() {
        let mut scene = scene(0);
        assert!(!scene.gives_way(1000).await);
        scene.sync();
        assert!(scene.gives_way(1).await);
        assert_eq!(scene.says(1000).await, None, "nobody has missed them");
    }

    #[tokio::test(start_paused = true)]
    async fn objects_that_come_soon_are_not_told_of() {
        let mut scene = scene(2);
        assert!(!scene.gives_way(2).await);
        scene.sync();
        assert!(scene.gives_way(1).await);
        assert_eq!(scene.says(1000).await, None);
    }
}
