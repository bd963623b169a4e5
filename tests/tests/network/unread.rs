// SPDX-License-Identifier: Apache-2.0

//! A start at which no object can be read, and Services were found: nothing is taken off before all is known.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use aya::programs::loaded_programs;
use proxy_agent::bpf::object::{INGRESS, UPLINK_INGRESS};
use proxy_tests::agent::{Agent, AgentSpec};
use proxy_tests::both_families;
use proxy_tests::cluster::{PORT, WEB, eventually};
use proxy_tests::family::{DualAddress, TestFamily};
use proxy_tests::manifests::{Service, node_object};
use proxy_tests::netns::{Namespace, Prefix, Veth};
use proxy_tests::protocol::Protocol;
use proxy_tests::traffic::Client;
use serde_json::{Value, json};

use super::api::{Fixture, OTHER};
use super::inherited::{WAYS, ids};

both_families!(nothing_is_taken_off_before_all_is_known, without_services_objects_are_waited_for);

/// By what the agent says that objects cannot be read, and that they have been.
const UNREAD: &str =
    "not all objects can be read: what an agent before has left serves on, and new pods, too";
const READ: &str = "all objects have been read, and hold from now on";
/// How long it may take to say so.
const SOON: Duration = Duration::from_mins(1);
/// Longer than an answer takes on a machine that does other things, too.
const PATIENCE: Duration = Duration::from_secs(3);
/// After how long it would have said so.
const LONG: Duration = Duration::from_secs(5);

/// What an agent has said.
fn said(agent: &Agent<'_>, message: &str) -> Result<Vec<Value>> {
    let log = agent.log()?;
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let fields = lines.map(|line| line["fields"].clone());
    Ok(fields.filter(|fields| fields["message"] == message).collect())
}

/// The program at the ingress of a node's device: its name, and its id.
fn program(node: &Namespace, agent: &Agent<'_>, device: &str) -> Result<(String, u32)> {
    let shown = node.output("ip", &format!("-o link show {device}"), "")?;
    let index = shown.split(':').next().context("it has an index")?;
    let id = if let Some(link) = ids(agent)?.get(&format!("{index}-ingress")) {
        link.program
    } else {
        let shown = node.output("tc", &format!("filter show dev {device} ingress"), "")?;
        let mut words = shown.split_whitespace().skip_while(|word| *word != "id");
        words.nth(1).with_context(|| format!("{device} has no program"))?.parse()?
    };
    let mut loaded = loaded_programs().filter_map(Result::ok);
    let program = loaded.find(|program| program.id() == id).context("it is loaded")?;
    Ok((program.name_as_str().unwrap_or_default().to_owned(), id))
}

fn nothing_is_taken_off_before_all_is_known<F: TestFamily>() -> Result<()> {
    for way in WAYS {
        let fixture = Fixture::new::<F>(false)?;
        let topology = &fixture.cluster.topology;
        let _servers = fixture.cluster.servers(&["web-1"])?;
        for (address, name) in [(WEB, "web"), (OTHER, "other")] {
            fixture.serve(address, name, "web-1")?;
        }
        // What looks like a pod's, but has an address that the Node object names.
        let (host, other) = (topology.node("anc-node").host(), Namespace::new("other")?);
        let node = host.namespace().netlink()?;
        node.add_veth(Veth::named("up1"), Veth::named("eth0"), &other)?;
        let address = DualAddress::pod(77, 1).of(F::FAMILY);
        node.add_address(node.link("up1")?, Prefix(address, F::FAMILY.host_prefix_length()))?;
        let mut object = node_object(topology.node("anc-node"), None);
        let addresses = object["status"]["addresses"].as_array_mut().context("it has some")?;
        addresses.push(json!({ "type": "InternalIP", "address": address }));
        fixture.server.apply(&object)?;

        let pins = fixture.scratch.mount_bpffs()?.join("sixfour");
        let kubeconfig = fixture.scratch.path().join("kubeconfig");
        let spec = || AgentSpec::following(host, &kubeconfig).argument(way).pin_root(&pins);
        let devices = ["up1", "veth-client", "veth-web-2"];
        let programs = |agent: &Agent<'_>| -> Result<Vec<_>> {
            devices.iter().map(|device| program(host.namespace(), agent, device)).collect()
        };
        let mut former = spec().start()?;
        let before = programs(&former)?;
        let names: Vec<_> = before.iter().map(|(name, _)| &**name).collect();
        ensure!(names == [UPLINK_INGRESS, INGRESS, INGRESS], "{way}: {names:?}");
        let listed = former.list("frontends")?;
        let rows = listed.as_array().context("a list")?;
        let names = rows.iter().filter_map(|row| row["service"].as_str()?.split(':').next());
        let services: BTreeSet<_> = names.collect();
        former.kill();
        fixture.server.down();
        fixture.server.remove(&Service::dual("other", OTHER).objects()[0])?;

        // One that is to leave a pod alone that the other one has served.
        let mut agent = spec().argument("--exclude-device=veth-web-2").begin()?;
        agent.wait_for(UNREAD, SOON)?;
        let unread = &said(&agent, UNREAD)?[0];
        ensure!(
            unread["services"] == services.len() && unread["frontends"] == rows.len(),
            "{unread}"
        );
        let error = unread["error"].as_str().context("it says why")?;
        ensure!(error.starts_with("cannot reach the API ("), "{error}");
        let is_replaced = |device: usize| {
            let now = programs(&agent);
            now.is_ok_and(|now| {
                now[device].1 != before[device].1 && now[device].0 == before[device].0
            })
        };
        for device in [0, 1] {
            let name = devices[device];
            ensure!(eventually(|| is_replaced(device)), "{way}, {name}: {:?}", programs(&agent));
        }
        ensure!(programs(&agent)?[2] == before[2], "{way}: {:?}", programs(&agent));
        let asks = |pod: &str, service: DualAddress| {
            let client = Client::new(topology.pod(pod)).patience(PATIENCE);
            client.ask(Protocol::Tcp, SocketAddr::new(service.of(F::FAMILY), PORT))
        };
        for pod in ["client", "web-2"] {
            ensure!(asks(pod, WEB)?.server == "web-1", "{way}, {pod}");
            ensure!(asks(pod, OTHER)?.server == "web-1", "{way}, {pod}");
        }
        ensure!(said(&agent, READ)?.is_empty() && said(&agent, "ready")?.is_empty(), "{way}");

        fixture.server.up()?;
        agent.wait_until_ready()?;
        agent.wait_for(READ, SOON)?;
        ensure!(said(&agent, UNREAD)?.len() == 1, "{}", agent.log()?);
        ensure!(program(host.namespace(), &agent, "veth-web-2").is_err(), "{way}: it is there");
        ensure!(asks("client", WEB)?.server == "web-1", "{way}");
        ensure!(eventually(|| asks("client", OTHER).is_err()), "{way}: a Service that is gone");
        ensure!(agent.stop()?.success());
    }
    Ok(())
}

fn without_services_objects_are_waited_for<F: TestFamily>() -> Result<()> {
    let fixture = Fixture::new::<F>(false)?;
    let _servers = fixture.cluster.servers(&["web-1"])?;
    fixture.serve(WEB, "web", "web-1")?;
    let node = fixture.cluster.topology.node("anc-node").host();
    let kubeconfig = fixture.scratch.path().join("kubeconfig");
    fixture.server.down();
    let mut agent = AgentSpec::following(node, &kubeconfig).begin()?;
    thread::sleep(LONG);
    ensure!(said(&agent, UNREAD)?.is_empty(), "{}", agent.log()?);
    ensure!(program(node.namespace(), &agent, "veth-client").is_err(), "it has a program");
    fixture.server.up()?;
    agent.wait_until_ready()?;
    ensure!(program(node.namespace(), &agent, "veth-client").is_ok(), "it has no program");
    ensure!(said(&agent, READ)?.is_empty(), "{}", agent.log()?);
    ensure!(agent.stop()?.success());
    Ok(())
}
