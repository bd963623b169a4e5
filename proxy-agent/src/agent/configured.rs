// SPDX-License-Identifier: Apache-2.0
//! What a configuration of kube-proxy's asks of the process and the node, and its file, which ends the agent when it
//! changes.

use std::{
    collections::BTreeSet,
    fs,
    io::Error,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _,
    event::{AccessKind, AccessMode, ModifyKind},
};
use tokio::sync::mpsc;
use tracing::{info, warn};

use crate::{chain::chain, cli::KubeProxyArgs, config::KubeProxyConfiguration, conntrack};

/// How soon the kernel ends this process where memory is short.
const SCORE: &str = "/proc/self/oom_score_adj";

/// The file has other contents than those that the agent goes by.
#[derive(Debug, thiserror::Error)]
#[error("the content of the configuration file {} was updated: whoever supervises this process starts it anew", .0.display())]
pub(super) struct Updated(PathBuf);

/// Says what counts and what does not, and does what concerns the process and the node.
///
/// That is left as it is where nobody has configured anything: unlike kube-proxy, Sixfour needs none of it.
pub(super) fn apply(arguments: &KubeProxyArgs, configuration: &KubeProxyConfiguration) {
    tell(arguments, configuration);
    let file = arguments.always.config.is_some();
    if let Some(score) =
        configuration.oom_score_adj.filter(|_| file || arguments.oom_score_adj.is_some())
        && let Err(error) = fs::write(SCORE, score.to_string())
    {
        warn!(%error, score, "cannot say how soon this process may be ended where memory is short");
    }
    if file || arguments.configures_conntrack() {
        for error in conntrack::configure(&configuration.conntrack) {
            warn!(error = chain(&error), "connection tracking is not as it is configured");
        }
    }
}

fn tell(arguments: &KubeProxyArgs, configuration: &KubeProxyConfiguration) {
    let overruled = arguments.overruled();
    if !overruled.is_empty() {
        info!(flags = overruled.join(","), "flags mean nothing beside --config");
    }
    // What holds by default is nothing that anybody has said.
    let (said, defaults) = match &arguments.always.config {
        Some(file) => (KubeProxyConfiguration::read(file).ok(), None),
        None => (Some(configuration.clone()), Some(&configuration.mode)),
    };
    let defaults = defaults.map(|mode| KubeProxyConfiguration::of_mode(mode)).unwrap_or_default();
    let ignored = said.and_then(|said| said.ignored_beside(&defaults).ok()).unwrap_or_default();
    if !ignored.is_empty() {
        let fields: Vec<_> = ignored.into_iter().map(|(field, _)| field).collect();
        info!(fields = fields.join(","), "fields of the configuration mean nothing here");
    }
}

/// A configuration file that is watched.
pub(super) struct ConfigFile {
    path: PathBuf,
    read: Vec<u8>,
    events: mpsc::Receiver<()>,
    _watcher: RecommendedWatcher,
}

impl ConfigFile {
    /// Watches a file, from what it holds now.
    ///
    /// # Errors
    ///
    /// If it cannot be read, or the kernel lets nobody watch it.
    pub(super) fn watch(path: &Path) -> anyhow::Result<Self> {
        let (told, events) = mpsc::channel(1);
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            if event.is_ok_and(|event| !may_be_finished(&event)) {
                return;
            }
            // One that has not been looked at yet is as good as two.
            let _ = told.try_send(());
        })?;
        for directory in directories(path)? {
            watcher.watch(&directory, RecursiveMode::NonRecursive)?;
        }
        // After that, so that no change goes by unseen.
        let read = fs::read(path)?;
        Ok(Self { path: path.to_owned(), read, events, _watcher: watcher })
    }

    /// Completes when the file holds something else. One that is gone, as it is while it is replaced, is waited for.
    pub(super) async fn updated(&mut self) -> Updated {
        while self.events.recv().await.is_some() {
            if fs::read(&self.path).is_ok_and(|now| now != self.read) {
                return Updated(self.path.clone());
            }
        }
        std::future::pending().await
    }
}

/// Whether a file may have been written whole, exchanged or removed. Who reads one, as this process does to compare,
/// does none of this, and who has begun to write is not done before it closes the file.
fn may_be_finished(event: &Event) -> bool {
    match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write))
        | EventKind::Modify(ModifyKind::Name(_))
        | EventKind::Remove(_) => true,
        EventKind::Create(_) => !event.paths.iter().all(|path| is_begun(path)),
        _ => event.need_rescan(),
    }
}

/// Whether what is new there is a file to be written to, not a link.
fn is_begun(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|new| new.is_file() && new.nlink() == 1)
}

/// Where something happens when the file changes: in its own directory, or where a ConfigMap's links lead.
fn directories(path: &Path) -> Result<BTreeSet<PathBuf>, Error> {
    let parent = |path: &Path| match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    Ok(BTreeSet::from([parent(path), parent(&path.canonicalize()?)]))
}

#[cfg(test)]
mod tests {
    use std::{fs::File, io::Write as _, os::unix::fs::symlink, time::Duration};

    use tokio::time::{sleep, timeout};

    use super::*;

    const SOON: Duration = Duration::from_secs(10);
    const SILENCE: Duration = Duration::from_millis(200);

    async fn is_updated(file: &mut ConfigFile, within: Duration) -> bool {
        timeout(within, file.updated()).await.is_ok()
    }

    #[tokio::test]
    async fn other_contents_are_seen() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.conf");
        fs::write(&path, "one").unwrap();
        let mut file = ConfigFile::watch(&path).unwrap();
        assert!(!is_updated(&mut file, SILENCE).await);
        fs::write(&path, "one").unwrap();
        fs::write(directory.path().join("beside"), "two").unwrap();
        assert!(!is_updated(&mut file, SILENCE).await, "it says the same");
        fs::write(&path, "two").unwrap();
        assert!(is_updated(&mut file, SOON).await);
    }

    /// Else each comparison asked for the next.
    #[tokio::test]
    async fn to_read_is_no_change() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.conf");
        fs::write(&path, "one").unwrap();
        let mut file = ConfigFile::watch(&path).unwrap();
        for _ in 0..3 {
            assert_eq!(fs::read(&path).unwrap(), b"one");
        }
        sleep(SILENCE).await;
        assert!(file.events.try_recv().is_err());
    }

    #[tokio::test]
    async fn who_writes_may_take_its_time() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.conf");
        fs::write(&path, "one").unwrap();
        let mut file = ConfigFile::watch(&path).unwrap();
        for replaced in [false, true] {
            if replaced {
                fs::remove_file(&path).unwrap();
                assert!(!is_updated(&mut file, SILENCE).await, "it is gone");
            }
            let mut writer = File::create(&path).unwrap();
            assert!(!is_updated(&mut file, SILENCE).await, "it is empty, {replaced}");
            writer.write_all(b"one").unwrap();
            drop(writer);
            assert!(!is_updated(&mut file, SILENCE).await, "it says the same, {replaced}");
        }
        let mut writer = File::create(&path).unwrap();
        writer.write_all(b"tw").unwrap();
        assert!(!is_updated(&mut file, SILENCE).await, "there is more to come");
        writer.write_all(b"o").unwrap();
        drop(writer);
        assert!(is_updated(&mut file, SOON).await);
    }

    #[tokio::test]
    async fn a_file_may_be_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.conf");
        fs::write(&path, "one").unwrap();
        let mut file = ConfigFile::watch(&path).unwrap();
        fs::remove_file(&path).unwrap();
        assert!(!is_updated(&mut file, SILENCE).await, "it is gone");
        fs::write(directory.path().join("new"), "two").unwrap();
        fs::rename(directory.path().join("new"), &path).unwrap();
        assert!(is_updated(&mut file, SOON).await);
    }

    /// As kubelet keeps them: a link to a file in a directory that a link leads to, and that is exchanged.
    #[tokio::test]
    async fn a_config_map_may_change() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        for (version, contents) in [("..1", "one"), ("..2", "two")] {
            fs::create_dir(at(version)).unwrap();
            fs::write(at(version).join("config.conf"), contents).unwrap();
        }
        symlink("..1", at("..data")).unwrap();
        symlink("..data/config.conf", at("config.conf")).unwrap();
        let mut file = ConfigFile::watch(&at("config.conf")).unwrap();
        symlink("..2", at("..data_tmp")).unwrap();
        fs::rename(at("..data_tmp"), at("..data")).unwrap();
        assert!(is_updated(&mut file, SOON).await);
    }
}
