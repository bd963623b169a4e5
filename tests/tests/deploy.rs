// SPDX-License-Identifier: Apache-2.0

//! What operators apply is what the API takes, field by field, and asks for no more than is used.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use clap::Parser as _;
use k8s_openapi::Resource as _;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Node, Service, ServiceAccount};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use proxy_agent::cli::{Cli, Command};
use proxy_agent::watch::api;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// The objects of `deploy/sixfour.yaml`, by kind.
fn objects() -> Result<BTreeMap<String, Value>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/sixfour.yaml");
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let documents: Vec<Value> = serde_saphyr::from_multiple(&text)?;
    let mut objects = BTreeMap::new();
    for object in documents {
        let kind = object["kind"].as_str().context("an object without kind")?.to_owned();
        ensure!(objects.insert(kind.clone(), object).is_none(), "two objects of kind {kind}");
    }
    Ok(objects)
}

/// An object must be the same after it has been one of the API: a field that the API does not
/// know would be gone.
fn is_known<T: DeserializeOwned + Serialize>(object: &Value) -> Result<()> {
    let read: T = serde_json::from_value(object.clone())?;
    let written = serde_json::to_value(read)?;
    ensure!(written == *object, "{object:#}\nis to the API\n{written:#}");
    Ok(())
}

#[test]
fn every_field_is_known_to_the_api() -> Result<()> {
    for (kind, object) in objects()? {
        match kind.as_str() {
            "ServiceAccount" => is_known::<ServiceAccount>(&object),
            "ClusterRole" => is_known::<ClusterRole>(&object),
            "ClusterRoleBinding" => is_known::<ClusterRoleBinding>(&object),
            "DaemonSet" => is_known::<DaemonSet>(&object),
            other => bail!("nobody knows {other}"),
        }
        .with_context(|| kind)?;
    }
    Ok(())
}

#[test]
fn a_field_that_is_not_known_is_noticed() -> Result<()> {
    let mut account = objects()?.remove("ServiceAccount").context("a service account")?;
    account["metadata"]["labls"] = json!({});
    ensure!(is_known::<ServiceAccount>(&account).is_err());
    Ok(())
}

/// The group and the name of a kind, and what the agent does with its objects, as JSON has them.
fn used(group: &str, plural: &str, verbs: [&str; 2]) -> (String, String, String) {
    (json!(group).to_string(), json!(plural).to_string(), json!(verbs).to_string())
}

/// A kind that the agent lists and watches.
fn followed<K: api::Resource>() -> (String, String, String) {
    let group = K::API_VERSION.rsplit_once('/').map_or("", |(group, _)| group);
    used(group, K::PLURAL, ["list", "watch"])
}

#[test]
fn the_pod_has_no_more_rights_than_it_needs() -> Result<()> {
    let objects = objects()?;
    let pod = &objects["DaemonSet"]["spec"]["template"]["spec"];
    let container = &pod["containers"][0]["securityContext"];
    ensure!(container["capabilities"]["drop"] == json!(["ALL"]));
    ensure!(container["capabilities"]["add"] == json!(["BPF", "NET_ADMIN", "PERFMON"]));
    ensure!(container["readOnlyRootFilesystem"] == json!(true));
    ensure!(container["privileged"].is_null());
    // The usual profile denies writing below /sys/fs/bpf.
    ensure!(container["appArmorProfile"]["type"] == "Unconfined");
    ensure!(pod["hostPID"].is_null() && pod["hostIPC"].is_null());
    let (role, binding) = (&objects["ClusterRole"], &objects["ClusterRoleBinding"]);
    let mut allowed = BTreeSet::new();
    for rule in role["rules"].as_array().context("rules")? {
        let (group, verbs) = (rule["apiGroups"][0].to_string(), rule["verbs"].to_string());
        for resource in rule["resources"].as_array().context("resources")? {
            let _ = allowed.insert((group.clone(), resource.to_string(), verbs.clone()));
        }
    }
    let used = [
        followed::<api::Service>(),
        followed::<api::EndpointSlice>(),
        followed::<api::Node>(),
        followed::<api::ServiceCidr>(),
        // Made, and made a series of.
        used(Event::GROUP, Event::URL_PATH_SEGMENT, ["create", "patch"]),
    ];
    ensure!(allowed == used.into(), "{allowed:?}");
    ensure!(binding["roleRef"]["name"] == role["metadata"]["name"]);
    let account = &objects["ServiceAccount"]["metadata"];
    ensure!(pod["serviceAccountName"] == account["name"]);
    ensure!(binding["subjects"][0]["name"] == account["name"]);
    ensure!(binding["subjects"][0]["namespace"] == account["namespace"]);
    Ok(())
}

/// The image that is built has the name that is asked for.
#[test]
fn the_image_is_that_of_this_version() -> Result<()> {
    let pod = &objects()?["DaemonSet"]["spec"]["template"]["spec"];
    let image = concat!("sixfour:", env!("CARGO_PKG_VERSION"));
    ensure!(pod["containers"][0]["image"] == image, "{}", pod["containers"][0]["image"]);
    Ok(())
}

/// A file of the workspace.
fn file(path: &str) -> Result<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    fs::read_to_string(&path).with_context(|| path.display().to_string())
}

/// What the unit of the load balancer starts is a command line that the agent takes, with the capabilities that it
/// asks for.
#[test]
fn the_unit_starts_what_there_is() -> Result<()> {
    let unit = file("deploy/sixfour-load-balancer.service")?;
    let value = |key: &str| {
        let mut lines = unit.lines().filter_map(|line| line.split_once('='));
        lines.find(|(name, _)| *name == key).map(|(_, value)| value).with_context(|| key.to_owned())
    };
    let words = value("ExecStart")?.split_whitespace();
    let Command::Run(arguments) = Cli::try_parse_from(words)?.command else {
        bail!("it does not run")
    };
    ensure!(arguments.manifests == Some("/etc/sixfour/manifests".into()), "{arguments:?}");
    for set in ["AmbientCapabilities", "CapabilityBoundingSet"] {
        ensure!(value(set)? == "CAP_BPF CAP_NET_ADMIN CAP_PERFMON", "{}", value(set)?);
    }
    Ok(())
}

/// What the page on it has to be written into files is what the API takes, and the agent serves.
#[test]
fn the_page_on_the_load_balancer_has_objects_that_are_served() -> Result<()> {
    let page = file("docs/load-balancer.md")?;
    let (_, rest) = page.split_once("```yaml\n").context("no objects")?;
    let (text, _) = rest.split_once("```").context("no end of the objects")?;
    let lines = text.lines().map(|line| line.strip_prefix("   ").unwrap_or(line));
    let text = lines.collect::<Vec<_>>().join("\n");
    let objects: Vec<Value> = serde_saphyr::from_multiple(&text)?;
    for object in &objects {
        match object["kind"].as_str() {
            Some("Node") => is_known::<Node>(object),
            Some("Service") => is_known::<Service>(object),
            Some("EndpointSlice") => is_known::<EndpointSlice>(object),
            other => bail!("{other:?}"),
        }?;
    }
    ensure!(objects.len() == 3, "{} objects", objects.len());
    Ok(())
}
