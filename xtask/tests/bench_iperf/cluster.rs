// SPDX-License-Identifier: Apache-2.0
//! A cluster: its API server, what makes Pods of Jobs, and what pretends to run Pods.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    process::{Command, Output, Stdio},
    sync::{
        Arc, LazyLock, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use proxy_tests::{
    api::{
        ApiClient, Upstream,
        kind::Kind,
        kubeconfig, query,
        replay::{Door, ReplayServer},
        rules::Rules,
    },
    family::IpFamily,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

use super::recorded::Recorded;

/// How long a command may take.
const PATIENCE: Duration = Duration::from_mins(1);

/// Where the server and its Service are, as in the recording.
pub(crate) const POD_IPS: [&str; 2] = ["10.244.2.12", "fd00:10:244:2::12"];
pub(crate) const CLUSTER_IPS: [&str; 2] = ["10.96.0.201", "fd00:10:96::201"];

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap());

/// Says how a pod is.
pub(crate) type Status = fn() -> Value;

/// What a cluster is like.
#[derive(Clone, Copy)]
pub(crate) struct Nature {
    /// The families that pods and Services have addresses of.
    pub(crate) families: &'static [IpFamily],
    /// What keeps the server's pod, or the client's, from starting: a status.
    pub(crate) obstacle: Option<(&'static str, Status)>,
    /// Why no pod can be made for a Job.
    pub(crate) warning: Option<&'static str>,
    /// The family in which the Service reaches nobody.
    pub(crate) dead: Option<IpFamily>,
    /// A method, and the plural of a kind: such requests are forbidden.
    pub(crate) forbidden: Option<(&'static str, &'static str)>,
    /// Clients go on for ever.
    pub(crate) endless: bool,
}

/// A cluster of both families, where everything works.
pub(crate) const SOUND: Nature = Nature {
    families: &IpFamily::ALL,
    obstacle: None,
    warning: None,
    dead: None,
    forbidden: None,
    endless: false,
};

/// A cluster, as long as it is held.
pub(crate) struct Cluster {
    pub(crate) server: Arc<ReplayServer>,
    shared: Arc<Shared>,
    directory: TempDir,
    kubelet: Option<JoinHandle<()>>,
}

struct Shared {
    nature: Nature,
    made: Mutex<Vec<Value>>,
    ending: AtomicBool,
}

impl Rules for Shared {
    fn refuse(&self, method: &str, path: &str) -> Option<Value> {
        let (forbidden, plural) = self.nature.forbidden?;
        (method == forbidden && path.ends_with(plural)).then(|| {
            let verb = if method == "POST" { "create" } else { "list" };
            let message = format!(
                "{plural} is forbidden: User \"jane\" cannot {verb} resource \"{plural}\" in API group \
                 \"\" at the cluster scope"
            );
            query::status(403, "Forbidden", &message)
        })
    }

    fn complete(&self, object: &mut Value) {
        if object["kind"] == "Service" {
            let ips: Vec<_> = addresses(CLUSTER_IPS, self.nature.families).collect();
            object["spec"]["clusterIP"] = ips[0].into();
            object["spec"]["clusterIPs"] = ips.into();
            object["spec"]["ipFamilies"] =
                self.nature.families.iter().map(|family| family.name()).collect();
        }
        self.made.lock().unwrap().push(object.clone());
    }
}

/// Those of these addresses that are of certain families.
fn addresses(all: [&'static str; 2], families: &[IpFamily]) -> impl Iterator<Item = &'static str> {
    let of = |address: &str| IpFamily::of(address.parse::<IpAddr>().unwrap());
    all.into_iter().filter(move |address| families.contains(&of(address)))
}

impl Cluster {
    pub(crate) fn new(nature: Nature) -> Self {
        let server = Arc::new(ReplayServer::start(Door::default(), RUNTIME.handle()).unwrap());
        let (made, ending) = (Mutex::default(), AtomicBool::new(false));
        let shared = Arc::new(Shared { nature, made, ending });
        server.set_rules(Arc::clone(&shared) as Arc<dyn Rules>);
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("kubeconfig");
        kubeconfig::write(&path, "http", server.address(), &json!({}), &json!({})).unwrap();
        let kubelet = {
            let (server, shared, recorded) =
                (Arc::clone(&server), Arc::clone(&shared), Recorded::new());
            thread::spawn(move || {
                let mut round = 0;
                while !shared.ending.load(Ordering::Relaxed) {
                    let work = |all: &mut _| shared.nature.work(all, &recorded, &mut round);
                    server.workloads().change(work);
                    thread::sleep(Duration::from_millis(20));
                }
            })
        };
        Self { server, shared, directory, kubelet: Some(kubelet) }
    }

    /// The command, with more arguments.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
        let _ = command
            .args(["bench", "iperf", "--kubeconfig"])
            .arg(self.directory.path().join("kubeconfig"))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs the command to its end; returns whether it succeeded, and what it printed.
    pub(crate) fn run(&self, arguments: &[&str]) -> (bool, String) {
        let child = self.command(arguments).spawn().unwrap();
        let mut child = Guarded(Some(child));
        let deadline = Instant::now() + PATIENCE;
        while child.0.as_mut().unwrap().try_wait().unwrap().is_none() {
            assert!(Instant::now() < deadline, "it has not ended");
            thread::sleep(Duration::from_millis(20));
        }
        let Output { status, stdout, stderr } = child.0.take().unwrap().wait_with_output().unwrap();
        let text = [stdout, stderr].map(|text| String::from_utf8(text).unwrap()).concat();
        (status.success(), text)
    }

    /// All objects that were ever made by the command, of a kind.
    pub(crate) fn made(&self, kind: &str) -> Vec<Value> {
        let made = self.shared.made.lock().unwrap();
        made.iter().filter(|object| object["kind"] == kind).cloned().collect()
    }

    /// What there is in the cluster now, by path or name.
    pub(crate) fn left(&self) -> Vec<String> {
        let upstream = Upstream { address: self.server.address(), tls: None };
        let client = ApiClient::new(upstream, RUNTIME.handle().clone());
        let services = client.list(Kind::Service).unwrap();
        let services = services["items"].as_array().unwrap().iter();
        let services = services.map(|service| service["metadata"]["name"].to_string());
        services.chain(self.server.workloads().all().into_keys()).collect()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.shared.ending.store(true, Ordering::Relaxed);
        if let Some(kubelet) = self.kubelet.take()
            && kubelet.join().is_err()
            && !thread::panicking()
        {
            panic!("the cluster has failed");
        }
    }
}

/// A child that does not outlive a test that fails.
struct Guarded(Option<std::process::Child>);

impl Drop for Guarded {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Nature {
    /// What has changed a moment later.
    fn work(self, all: &mut BTreeMap<String, Value>, recorded: &Recorded, round: &mut usize) {
        let of_kind = |all: &BTreeMap<String, Value>, kind: &str| {
            let of_kind = all.iter().filter(|(_, object)| object["kind"] == kind);
            of_kind.map(|(path, object)| (path.clone(), object.clone())).collect::<Vec<_>>()
        };
        for (path, job) in of_kind(all, "Job") {
            let name = job["metadata"]["name"].as_str().unwrap();
            let namespace = path.split('/').nth(5).unwrap();
            let place = format!("/api/v1/namespaces/{namespace}");
            if let Some(message) = self.warning {
                let event = json!({
                    "kind": "Event", "apiVersion": "v1",
                    "metadata": { "name": name, "namespace": namespace },
                    "involvedObject": { "kind": "Job", "name": name },
                    "type": "Warning", "reason": "FailedCreate", "message": message,
                });
                drop(all.insert(format!("{place}/events/{name}"), event));
                continue;
            }
            let pod = format!("{place}/pods/{name}-x7k2p");
            if all.contains_key(&pod) {
                continue;
            }
            let mut object = job["spec"]["template"].clone();
            object["kind"] = "Pod".into();
            object["apiVersion"] = "v1".into();
            object["metadata"]["name"] = format!("{name}-x7k2p").into();
            object["metadata"]["namespace"] = namespace.into();
            object["metadata"]["labels"]["batch.kubernetes.io/job-name"] = name.into();
            object["metadata"]["ownerReferences"] =
                json!([{ "kind": "Job", "apiVersion": "batch/v1", "name": name, "uid": name }]);
            drop(all.insert(pod, object));
        }
        for (path, mut pod) in of_kind(all, "Pod") {
            let phase = pod["status"]["phase"].as_str().map(str::to_owned);
            let component = pod["metadata"]["labels"]["app.kubernetes.io/component"].clone();
            let is_client = component == "client";
            pod["status"] = match (phase.as_deref(), self.obstacle) {
                (_, Some((blocked, status))) if component == blocked => status(),
                (None, _) => json!({ "phase": "Pending" }),
                (Some("Pending"), _) => {
                    pod["spec"]["nodeName"] =
                        format!("{}-node", component.as_str().unwrap()).into();
                    let ips = addresses(POD_IPS, self.families).map(|ip| json!({ "ip": ip }));
                    json!({
                        "phase": "Running", "podIPs": ips.collect::<Vec<_>>(),
                        "conditions": [{ "type": "Ready", "status": "True" }],
                    })
                }
                (Some("Running"), _) if is_client && !self.endless => {
                    drop(all.insert(format!("{path}/log"), self.log(&pod, recorded, *round)));
                    *round += 1;
                    json!({ "phase": "Succeeded" })
                }
                _ => continue,
            };
            drop(all.insert(path, pod));
        }
    }

    /// What a client prints.
    fn log(self, pod: &Value, recorded: &Recorded, round: usize) -> Value {
        let command = pod["spec"]["containers"][0]["command"].as_array().unwrap().iter();
        let words: Vec<_> = command.map(|word| word.as_str().unwrap()).collect();
        let ["sh", "-c", _, "sh", runs @ ..] = &words[..] else { panic!("{words:?}") };
        let dead = self.dead.map(|family| addresses(CLUSTER_IPS, &[family]).collect::<String>());
        let log = |run: &&str| {
            if dead.as_ref().is_some_and(|dead| run.contains(&format!(" {dead} "))) {
                let error = "unable to connect to server: Connection refused";
                return format!("run {run}\n{}\n", json!({ "error": error }));
            }
            recorded.log(run, round)
        };
        runs.iter().map(log).collect::<String>().into()
    }
}
