// SPDX-License-Identifier: Apache-2.0
//! The objects that are made in a cluster: a namespace, the server's pod, its Service, and a Job for
//! each round of the client. Pods ask for nothing that the Pod Security Standard "restricted" denies.

use anyhow::{Context as _, Result};
use k8s_openapi::{
    api::{
        batch::v1::Job,
        core::v1::{Namespace, Pod, Service},
    },
    serde::de::DeserializeOwned,
};
use serde_json::{Value, json};

use crate::iperf3;

/// What all objects are labelled with.
const NAME: &str = "sixfour-iperf3";

/// A user that is nobody, for images that would run as root.
const NOBODY: u32 = 65534;

/// How objects are to be, and what tells those of one run from those of another.
pub(super) struct Objects<'a> {
    /// The value of the label of this run.
    pub(super) run: &'a str,
    /// The image, with `sh` and `iperf3` in it.
    pub(super) image: &'a str,
    /// The server's node, if it is to be a certain one.
    pub(super) server_node: Option<&'a str>,
    /// The client's.
    pub(super) client_node: Option<&'a str>,
}

impl Objects<'_> {
    /// A namespace of its own.
    pub(super) fn namespace(&self) -> Result<Namespace> {
        object(json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": self.metadata("namespace"),
        }))
    }

    /// The pod of the server, which serves both families.
    pub(super) fn server(&self) -> Result<Pod> {
        let command = ["iperf3", "--server", "--forceflush", "--port", &iperf3::PORT.to_string()];
        let mut spec = self.pod(&command, self.server_node);
        spec["terminationGracePeriodSeconds"] = 0.into();
        spec["containers"][0]["ports"] = ["TCP", "UDP"]
            .map(|protocol| json!({ "containerPort": iperf3::PORT, "protocol": protocol }))
            .into_iter()
            .collect();
        object(json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": self.metadata("server"), "spec": spec,
        }))
    }

    /// The Service of the server, with a cluster IP of each family that the cluster has.
    pub(super) fn service(&self) -> Result<Service> {
        let ports = ["TCP", "UDP"].map(|protocol| {
            json!({
                "name": protocol.to_lowercase(), "protocol": protocol,
                "port": iperf3::PORT, "targetPort": iperf3::PORT,
            })
        });
        object(json!({
            "apiVersion": "v1", "kind": "Service", "metadata": self.metadata("service"),
            "spec": {
                "type": "ClusterIP", "ipFamilyPolicy": "PreferDualStack",
                "selector": self.labels("server"), "ports": ports,
            },
        }))
    }

    /// A Job whose pod runs `command` for so many seconds at most; it is tried once.
    pub(super) fn client(&self, command: &[&str], seconds: u64) -> Result<Job> {
        let mut spec = self.pod(command, self.client_node);
        spec["restartPolicy"] = "Never".into();
        spec["activeDeadlineSeconds"] = seconds.into();
        if self.client_node.is_none() {
            // On another node than the server, if there is one for it.
            let server = json!({
                "labelSelector": { "matchLabels": self.labels("server") },
                "topologyKey": "kubernetes.io/hostname",
            });
            spec["affinity"] = json!({ "podAntiAffinity": {
                "preferredDuringSchedulingIgnoredDuringExecution":
                    [{ "weight": 100, "podAffinityTerm": server }],
            }});
        }
        object(json!({
            "apiVersion": "batch/v1", "kind": "Job", "metadata": self.metadata("client"),
            "spec": {
                "backoffLimit": 0,
                "template": {
                    "metadata": { "labels": self.labels("client") }, "spec": spec,
                },
            },
        }))
    }

    fn labels(&self, component: &str) -> Value {
        json!({
            "app.kubernetes.io/name": NAME, "app.kubernetes.io/component": component,
            "app.kubernetes.io/instance": self.run,
        })
    }

    /// The API completes the name.
    fn metadata(&self, component: &str) -> Value {
        json!({ "generateName": format!("{NAME}-"), "labels": self.labels(component) })
    }

    /// What both kinds of pods have in common.
    fn pod(&self, command: &[&str], node: Option<&str>) -> Value {
        let mut spec = json!({
            "automountServiceAccountToken": false, "enableServiceLinks": false,
            "securityContext": {
                "runAsNonRoot": true, "runAsUser": NOBODY, "runAsGroup": NOBODY,
                "seccompProfile": { "type": "RuntimeDefault" },
            },
            "containers": [{
                "name": "iperf3", "image": self.image, "command": command,
                // What it said last is told if it fails.
                "terminationMessagePolicy": "FallbackToLogsOnError",
                "securityContext": {
                    "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] },
                },
            }],
        });
        if let Some(node) = node {
            let term = json!({ "matchFields": [
                { "key": "metadata.name", "operator": "In", "values": [node] },
            ]});
            spec["affinity"] = json!({ "nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": [term] },
            }});
        }
        spec
    }
}

fn object<T: DeserializeOwned>(value: Value) -> Result<T> {
    serde_json::from_value(value).context("an object is not as the API wants it")
}

#[cfg(test)]
mod tests {
    use k8s_openapi::serde::Serialize;
    use serde_json::{Value, to_value};

    use super::Objects;

    fn value(object: impl Serialize) -> Value {
        to_value(object).unwrap()
    }

    #[test]
    fn the_service_selects_the_server_of_its_run() {
        for run in ["a", "b"] {
            let objects = Objects { run, image: "i", server_node: None, client_node: None };
            let (server, service) =
                (value(objects.server().unwrap()), value(objects.service().unwrap()));
            let client = value(objects.client(&["sh"], 1).unwrap());
            assert_eq!(service["spec"]["selector"], server["metadata"]["labels"]);
            assert_ne!(
                service["spec"]["selector"],
                client["spec"]["template"]["metadata"]["labels"]
            );
            assert_eq!(server["metadata"]["labels"]["app.kubernetes.io/instance"], run);
            assert_eq!(service["spec"]["ipFamilyPolicy"], "PreferDualStack");
        }
    }

    #[test]
    fn nodes_are_chosen_by_name() {
        let node = |pod: &Value| {
            let pointer = "/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution\
                           /nodeSelectorTerms/0/matchFields/0/values/0";
            pod["affinity"].pointer(pointer).and_then(Value::as_str).map(str::to_owned)
        };
        let objects = |server_node, client_node| {
            let objects = Objects { run: "a", image: "i", server_node, client_node };
            let server = value(objects.server().unwrap())["spec"].clone();
            let client = value(objects.client(&["sh"], 1).unwrap());
            [server, client["spec"]["template"]["spec"].clone()]
        };
        let [server, client] = objects(Some("one"), Some("other"));
        assert_eq!((node(&server), node(&client)), (Some("one".into()), Some("other".into())));
        assert!(client["affinity"].get("podAntiAffinity").is_none());
        let [server, client] = objects(None, None);
        assert_eq!((node(&server), node(&client)), (None, None));
        assert!(client["affinity"].get("podAntiAffinity").is_some());
    }
}
