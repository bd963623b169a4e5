// SPDX-License-Identifier: Apache-2.0
//! iperf3 between pods of a cluster: to the server's own addresses, and through a Service, in each
//! family that the cluster has. All that is made goes again, also on failure and on a signal.

mod api;
mod cases;
mod objects;
mod pods;
mod script;

use std::{
    collections::BTreeSet,
    hash::{BuildHasher as _, RandomState},
    path::Path,
    time::Duration,
};

use anyhow::{Context as _, Error, Result, bail, ensure};
use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        batch::v1::Job,
        core::v1::{Event, Pod, Service},
    },
};
use kube::{
    Api, Resource, ResourceExt as _,
    api::{ListParams, LogParams},
};

use crate::{
    bench::rounds,
    progress::Part,
    report::{note, step},
};
use api::{Cluster, wait};
use cases::{Addresses, Cases};
use objects::Objects;
use pods::Progress;

/// How to measure in a cluster.
#[derive(clap::Args)]
pub(super) struct InCluster {
    /// Use this context of the kubeconfig instead of its current one
    #[arg(long, value_name = "NAME", requires = "kubeconfig")]
    context: Option<String>,
    /// Use this namespace, which is there, instead of making one
    #[arg(long, value_name = "NAME", requires = "kubeconfig")]
    namespace: Option<String>,
    /// Run the client on this node, instead of any that has not got the server
    #[arg(long, value_name = "NAME", requires = "kubeconfig")]
    node_client: Option<String>,
    /// Run the server on this node, instead of any
    #[arg(long, value_name = "NAME", requires = "kubeconfig")]
    node_server: Option<String>,
    /// The image of both: any with `sh` and `iperf3` in it
    #[arg(long, value_name = "IMAGE", requires = "kubeconfig")]
    #[arg(default_value = "docker.io/networkstatic/iperf3:latest")]
    image: String,
    /// How many rounds there are, each by a pod of its own; fewer than six have no 95 % interval
    #[arg(long, value_name = "NUMBER", requires = "kubeconfig", default_value_t = 6)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// How many seconds each run of iperf3 takes
    #[arg(long, value_name = "NUMBER", requires = "kubeconfig", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// How many seconds a pod may take to start
    #[arg(long, value_name = "NUMBER", requires = "kubeconfig", default_value_t = 120)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=3600))]
    patience: u64,
    /// Delete nothing, and say what there is
    #[arg(long, requires = "kubeconfig")]
    keep: bool,
}

/// Measures, and prints the table.
///
/// # Errors
///
/// If the API refuses something, pods do not start, or a case fails.
pub(super) fn run(kubeconfig: &Path, options: &InCluster) -> Result<()> {
    let cluster = Cluster::connect(kubeconfig, options.context.as_deref(), options.keep)?;
    let run = format!("{:08x}", RandomState::new().hash_one(()) >> 32);
    let objects = Objects {
        run: &run,
        image: &options.image,
        server_node: options.node_server.as_deref(),
        client_node: options.node_client.as_deref(),
    };
    let (namespace, _lease) = if let Some(namespace) = &options.namespace {
        (namespace.clone(), None)
    } else {
        let made = cluster.make(&Api::all(cluster.client.clone()), &objects.namespace()?);
        let (made, lease) = made.context("`--namespace` uses one that is there already")?;
        (made.name_any(), lease)
    };
    step(format_args!("in the namespace {namespace}"));
    if options.keep {
        let selector = format!("app.kubernetes.io/instance={run}");
        note(format_args!(
            "all stays: kubectl --namespace {namespace} get all --selector {selector}"
        ));
    }
    Stand { cluster: &cluster, objects, options, namespace: &namespace }.measure()
}

/// A server and its Service, and clients one after the other.
struct Stand<'a> {
    cluster: &'a Cluster,
    objects: Objects<'a>,
    options: &'a InCluster,
    namespace: &'a str,
}

impl Stand<'_> {
    fn measure(&self) -> Result<()> {
        let services: Api<Service> = self.api();
        let (service, _service) = self.cluster.make(&services, &self.objects.service()?)?;
        let pods: Api<Pod> = self.api();
        let (server, _server) = self.cluster.make(&pods, &self.objects.server()?)?;
        let part = Part::new("the server", 1);
        let server = self.started(&part, || {
            let server = self.cluster.ask("get", &pods, pods.get(&server.name_any()))?;
            Ok(Some((pods::progress(&server), server)))
        });
        let server = server.context("the server does not start")?;
        drop(part);
        let mut cases = Cases::new(Addresses::of(&server, &service), self.options.seconds);
        ensure!(!cases.runs().is_empty(), "{}", cases.lacking().join("; "));

        let rounds = self.options.rounds as usize;
        let part = Part::new(format_args!("{rounds} rounds, a client for each"), rounds);
        let mut nodes = BTreeSet::new();
        for round in 0..rounds {
            let runs = cases.runs();
            let runs: Vec<_> =
                rounds::order(runs.len(), round).map(|at| runs[at].clone()).collect();
            if runs.is_empty() {
                break;
            }
            let (log, node) = self.client(&part, &runs)?;
            let _ = nodes.insert(node);
            cases.take(&log);
            part.done();
        }
        drop(part);
        let node = server.spec.and_then(|spec| spec.node_name).unwrap_or_default();
        let nodes = nodes.into_iter().collect::<Vec<_>>().join(", ");
        println!(
            "\niperf3 through the Service {}/{}, from {nodes} to {node}\n\n{cases}",
            self.namespace,
            service.name_any(),
        );
        let failures = cases.failures();
        ensure!(failures.is_empty(), "{}", failures.join("; "));
        Ok(())
    }

    /// The log of a client that has run all of `runs`, and its node.
    fn client(&self, part: &Part, runs: &[String]) -> Result<(String, String)> {
        let jobs: Api<Job> = self.api();
        let pods: Api<Pod> = self.api();
        let a_run = self.options.seconds + script::SECONDS_OF_RUN;
        let seconds = a_run * runs.len() as u64 + self.options.patience;
        let job = self.objects.client(&script::command(runs), seconds)?;
        let (job, _job) = self.cluster.make(&jobs, &job)?;
        let job = job.name_any();
        let of_job = ListParams::default().labels(&format!("batch.kubernetes.io/job-name={job}"));
        let pod = || {
            let found = self.cluster.ask("list", &pods, pods.list(&of_job))?;
            Ok(found.items.into_iter().next().map(|pod| (pods::progress(&pod), pod)))
        };
        let started = self.started(part, pod);
        let started = started.map_err(|error| self.with_events(error, &job));
        let _: Pod = started.context("a client does not start")?;
        let ended = wait(
            Duration::from_secs(seconds),
            |why| part.on(why),
            || {
                Ok(match pod()? {
                    Some((Progress::Succeeded, pod)) => Ok(pod),
                    Some((Progress::Failed(why), _)) => bail!("{why}"),
                    _ => Err("iperf3 is at work".to_owned()),
                })
            },
        );
        let pod = ended.context("a client does not end well")?;
        let name = pod.name_any();
        let log =
            self.cluster.ask("read the logs of", &pods, pods.logs(&name, &LogParams::default()))?;
        Ok((log, pod.spec.and_then(|spec| spec.node_name).unwrap_or_default()))
    }

    /// Waits until a pod is at work, or has been.
    fn started(
        &self,
        part: &Part,
        mut ask: impl FnMut() -> Result<Option<(Progress, Pod)>>,
    ) -> Result<Pod> {
        let patience = Duration::from_secs(self.options.patience);
        wait(
            patience,
            |why| part.on(why),
            || {
                Ok(match ask()? {
                    Some((Progress::Running | Progress::Succeeded, pod)) => Ok(pod),
                    Some((Progress::Failed(why), _)) => bail!("{why}"),
                    Some((Progress::Waiting(why), _)) => Err(why),
                    None => Err("no pod has been made for the Job".to_owned()),
                })
            },
        )
    }

    /// With what the cluster has warned of about a Job.
    fn with_events(&self, error: Error, job: &str) -> Error {
        let events: Api<Event> = self.api();
        let of_job = ListParams::default().fields(&format!("involvedObject.name={job}"));
        match self.cluster.ask("list", &events, events.list(&of_job)) {
            Err(refused) => {
                error.context(format!("what the cluster says of it is not known: {refused:#}"))
            }
            Ok(events) => {
                let words = events
                    .items
                    .into_iter()
                    .filter(|event| event.type_.as_deref() == Some("Warning"));
                let words: Vec<_> = words.filter_map(|event| event.message).collect();
                if words.is_empty() { error } else { error.context(words.join("; ")) }
            }
        }
    }

    fn api<K: Resource<DynamicType = (), Scope = NamespaceResourceScope>>(&self) -> Api<K> {
        Api::namespaced(self.cluster.client.clone(), self.namespace)
    }
}
