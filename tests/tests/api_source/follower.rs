// SPDX-License-Identifier: Apache-2.0

//! A running source, and what it has said.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use proxy_agent::chain::chain;
use proxy_agent::metrics::Watches;
use proxy_agent::model::{Kind, Object, ObjectKey};
use proxy_agent::watch::kubernetes::{Configuration, Kubernetes, Timing};
use proxy_agent::watch::manifests::Manifests;
use proxy_agent::watch::{Event, Source};
use tokio::runtime::Builder;
use tokio::sync::{mpsc, oneshot};

/// The objects that are there.
pub(crate) type Objects = BTreeMap<ObjectKey, Object>;

/// How long anything may take to come out right.
const PATIENCE: Duration = Duration::from_secs(30);

/// A source on a thread of its own, as in the agent. It ends when dropped.
pub(crate) struct Follower {
    said: Arc<Mutex<Said>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What a source has said.
#[derive(Default)]
pub(crate) struct Said {
    pub(crate) objects: Objects,
    pub(crate) events: Vec<Event>,
    pub(crate) synced: BTreeSet<Kind>,
    pub(crate) ended: Option<String>,
}

impl Said {
    fn take(&mut self, event: Event) {
        match &event {
            Event::Apply(object) => drop(self.objects.insert(object.key(), object.clone())),
            Event::Delete(key) => drop(self.objects.remove(key)),
            Event::Synced(kind) => drop(self.synced.insert(*kind)),
        }
        self.events.push(event);
    }

    /// What was deleted, in order.
    pub(crate) fn deletions(&self) -> impl Iterator<Item = &ObjectKey> {
        self.events.iter().filter_map(|event| match event {
            Event::Delete(key) => Some(key),
            _ => None,
        })
    }
}

impl Follower {
    /// Follows the API that a kubeconfig names.
    pub(crate) fn of(kubeconfig: &Path, node: &str, timing: Timing) -> Result<Self> {
        let configuration = Configuration::new(Some(kubeconfig.to_owned()), None);
        Ok(Self::start(Kubernetes::new(configuration, node, timing)?))
    }

    /// The same, and tells how it is with it.
    pub(crate) fn measured(
        kubeconfig: &Path,
        node: &str,
        timing: Timing,
        watches: Watches,
    ) -> Result<Self> {
        let configuration = Configuration::new(Some(kubeconfig.to_owned()), None);
        let source = Kubernetes::new(configuration, node, timing)?;
        Ok(Self::start(source.measured_by(watches)))
    }

    fn start(source: impl Source + Send + 'static) -> Self {
        let said = Arc::new(Mutex::new(Said::default()));
        let (stop, stopped) = oneshot::channel::<()>();
        let hearing = Arc::clone(&said);
        let follow = async move {
            let (sender, mut events) = mpsc::channel(1024);
            let hear = async {
                while let Some(event) = events.recv().await {
                    hearing.lock().unwrap_or_else(PoisonError::into_inner).take(event);
                }
            };
            let source = async {
                let ended = source.run(sender).await;
                let ended = ended.map_or_else(|error| chain(&error), |()| "ended".to_owned());
                hearing.lock().unwrap_or_else(PoisonError::into_inner).ended = Some(ended);
            };
            tokio::select! {
                _ = stopped => {}
                ((), ()) = async { tokio::join!(source, hear) } => {}
            }
        };
        let thread = thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build();
            let runtime = runtime.expect("a runtime");
            runtime.block_on(follow);
            runtime.shutdown_background();
        });
        Self { said, stop: Some(stop), thread: Some(thread) }
    }

    /// What it has said so far.
    pub(crate) fn said(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until it is so.
    pub(crate) fn wait(&self, what: &str, is_so: impl Fn(&Said) -> bool) -> Result<()> {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if is_so(&self.said()) {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(5));
        }
        let said = self.said();
        bail!(
            "waited {PATIENCE:?} for {what}: {} objects, {:?} synced, {:?}",
            said.objects.len(),
            said.synced,
            said.ended
        )
    }

    /// Waits until all kinds have synced.
    pub(crate) fn wait_synced(&self) -> Result<()> {
        self.wait("everything to sync", |said| said.synced.len() == Kind::ALL.len())
    }

    /// Waits until there are these objects, and looks whether that stays.
    pub(crate) fn wait_objects(&self, expected: &Objects) -> Result<()> {
        let waited = self.wait("the objects", |said| said.objects == *expected);
        let difference = |said: &Said| {
            let keys: BTreeSet<_> = said.objects.keys().chain(expected.keys()).collect();
            let different =
                keys.into_iter().filter(|key| said.objects.get(key) != expected.get(key));
            different.map(ToString::to_string).collect::<Vec<_>>()
        };
        waited.with_context(|| format!("they differ in {:?}", difference(&self.said())))?;
        thread::sleep(Duration::from_millis(100));
        let different = difference(&self.said());
        ensure!(different.is_empty(), "they did not stay: {different:?}");
        Ok(())
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic of its own is told by the thread.
            let _ = thread.join();
        }
    }
}

/// The objects that files hold.
pub(crate) fn read(directory: &Path, node: &str) -> Result<Objects> {
    let follower = Follower::start(Manifests::new(directory)?);
    follower.wait_synced()?;
    let mut objects = follower.said().objects.clone();
    objects.retain(|key, _| key.kind != Kind::Node || *key.name.name == *node);
    Ok(objects)
}
