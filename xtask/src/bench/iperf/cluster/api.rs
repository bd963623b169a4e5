// SPDX-License-Identifier: Apache-2.0
//! The API of a cluster: objects that go again when nobody holds them, and errors in words.

use std::{
    fmt::Debug,
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Error, Result, anyhow, bail};
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Client, Config, Resource,
    api::{DeleteParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use proxy_tests::cleanup::{self, Lease};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    runtime::Runtime,
    time::{sleep, timeout},
};

use crate::report;

/// How long the API may take to answer.
const ANSWER: Duration = Duration::from_secs(30);

/// How often it is asked what has become of something.
const PAUSE: Duration = Duration::from_millis(250);

/// How long a namespace may take to go, with all that is in it.
const LAST_PATIENCE: Duration = Duration::from_mins(1);

/// What the API has; [`Cluster::make`] needs all of this.
pub(super) trait Object:
    Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Serialize + Send + 'static
{
}

impl<T> Object for T where
    T: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Serialize + Send + 'static
{
}

/// A connection to the API of a cluster.
pub(super) struct Cluster {
    pub(super) client: Client,
    runtime: Arc<Runtime>,
    /// Whether what is made stays.
    keep: bool,
}

impl Cluster {
    /// The cluster that a context of a kubeconfig names, or its current one.
    ///
    /// # Errors
    ///
    /// If the kubeconfig is none.
    pub(super) fn connect(kubeconfig: &Path, context: Option<&str>, keep: bool) -> Result<Self> {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(1).enable_all().build();
        let runtime = Arc::new(runtime.context("starting threads for requests")?);
        let config = async {
            let file = Kubeconfig::read_from(kubeconfig)?;
            let options = KubeConfigOptions {
                context: context.map(str::to_owned),
                ..KubeConfigOptions::default()
            };
            Config::from_custom_kubeconfig(file, &options).await
        };
        let config = runtime.block_on(config);
        let config = config.with_context(|| format!("using {}", kubeconfig.display()))?;
        let server = config.cluster_url.clone();
        // The client starts a task of its own.
        let inside = runtime.enter();
        let client = Client::try_from(config);
        let client = client.with_context(|| format!("connecting to {server}"))?;
        drop(inside);
        Ok(Self { client, runtime, keep })
    }

    /// Makes an object, and has it deleted when the lease is dropped, or when this process ends by a
    /// signal; unless all is kept.
    ///
    /// # Errors
    ///
    /// If the API refuses it.
    pub(super) fn make<K: Object>(&self, api: &Api<K>, object: &K) -> Result<(K, Option<Lease>)> {
        let create = || self.ask("create", api, api.create(&PostParams::default(), object));
        if self.keep {
            return Ok((create()?, None));
        }
        let kind = K::kind(&());
        let (made, lease) = cleanup::acquire(format!("a {kind}"), || {
            let made = create()?;
            let name = made.meta().name.clone().context("the API gives no name")?;
            let (api, runtime) = (api.clone(), Arc::clone(&self.runtime));
            Ok((made, move || runtime.block_on(delete(&api, &name))))
        })?;
        Ok((made, Some(lease)))
    }

    /// The answer to a request for objects of `api`.
    ///
    /// # Errors
    ///
    /// If the API refuses it, or does not answer.
    pub(super) fn ask<K: Object, T>(
        &self,
        verb: &str,
        api: &Api<K>,
        request: impl Future<Output = kube::Result<T>>,
    ) -> Result<T> {
        self.runtime.block_on(answer(verb, api, request))
    }
}

/// Asks again and again until the answer is not why it must still be waited, and returns what it
/// is then. `on` is told what is waited for.
///
/// # Errors
///
/// If asking fails, or it takes longer than `patience`: then the error says why.
pub(super) fn wait<T>(
    patience: Duration,
    on: impl Fn(&str),
    mut ask: impl FnMut() -> Result<Result<T, String>>,
) -> Result<T> {
    let deadline = Instant::now() + patience;
    loop {
        match ask()? {
            Ok(value) => return Ok(value),
            Err(why) if Instant::now() > deadline => {
                bail!("not within {} s: {why}", patience.as_secs());
            }
            Err(why) => on(&why),
        }
        thread::sleep(PAUSE);
    }
}

/// The answer to a request.
async fn answer<K: Object, T>(
    verb: &str,
    api: &Api<K>,
    request: impl Future<Output = kube::Result<T>>,
) -> Result<T> {
    let of = || format!("cannot {verb} {} at {}", K::plural(&()), api.resource_url());
    let result = timeout(ANSWER, request).await;
    let result = result.map_err(|_| anyhow!("the API does not answer within {ANSWER:?}"));
    result.and_then(|answer| answer.map_err(words)).with_context(of)
}

/// What the API has said, without what it has said it in.
fn words(error: kube::Error) -> Error {
    match error {
        kube::Error::Api(status) => {
            let words = match (status.message.as_str(), status.reason.as_str()) {
                ("", reason) => format!("status {} {reason}", status.code),
                (message, _) => message.to_owned(),
            };
            match status.code {
                401 => anyhow!("the API does not know the user of the kubeconfig: {words}"),
                403 => anyhow!(
                    "{words}. This takes a right that the user of the kubeconfig does not have: \
                     docs/benchmarks.md lists all that are needed"
                ),
                _ => anyhow!("{words}"),
            }
        }
        error => Error::new(error),
    }
}

/// Deletes an object, with what belongs to it; a namespace is waited for.
async fn delete<K: Object>(api: &Api<K>, name: &str) -> Result<()> {
    let deleted = timeout(ANSWER, api.delete(name, &DeleteParams::background())).await;
    let deleted = deleted.map_err(|_| anyhow!("the API does not answer within {ANSWER:?}"))?;
    match deleted {
        Err(kube::Error::Api(status)) if status.code == 404 => return Ok(()),
        deleted => drop(deleted.map_err(words).with_context(|| format!("deleting {name}"))?),
    }
    if K::kind(&()) != Namespace::kind(&()) {
        return Ok(());
    }
    let deadline = Instant::now() + LAST_PATIENCE;
    while answer("get", api, api.get_opt(name)).await?.is_some() {
        if Instant::now() > deadline {
            report::note(format_args!("the namespace {name} is deleted, and still on its way out"));
            break;
        }
        sleep(PAUSE).await;
    }
    Ok(())
}
