// SPDX-License-Identifier: Apache-2.0

//! Tables that are full: what is there goes on, what is new is told of with the flag that makes room for it, in the log
//! and in the listing, and served as soon as there is some.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use proxy_common::map_names;
use proxy_tests::agent::Agent;
use proxy_tests::both_families;
use proxy_tests::cluster::{PORT, TARGET, WEB, eventually, web};
use proxy_tests::family::{DualAddress, IpFamily, TestFamily};
use proxy_tests::manifests::{Endpoint, Service};
use proxy_tests::protocol::Protocol;
use proxy_tests::topology::{NodeSpec, TopologySpec};
use proxy_tests::traffic::Client;
use serde_json::{Value, json};

use super::rig::{EXTERNAL, Frontend, LOCAL, NODE, Rig};

both_families!(
    a_service_without_room_waits_for_it,
    a_frontend_that_another_has_is_listed,
    established_flows_outlast_floods,
);

/// The Service that comes when there is no room.
const LATE: DualAddress = DualAddress::cluster_ip(77);
/// The one that takes all the room there is.
const LARGE: DualAddress = DualAddress::cluster_ip(78);
/// The room in the tables.
const ROOM: &str = "16";

fn nodes() -> TopologySpec {
    TopologySpec::new().node(NodeSpec::bridge(NODE).pod(LOCAL, 12).pod("client", 13))
}

/// What makes a table too small, and what takes all of it.
struct Table {
    flag: &'static str,
    ports: u16,
    endpoints: u8,
    told: &'static str,
    /// Its map, without the family's ending.
    map: &'static str,
}

fn a_service_without_room_waits_for_it<F: TestFamily>() -> Result<()> {
    let tables = [
        Table {
            flag: "--max-services",
            ports: 14,
            endpoints: 0,
            told: "of Service ports",
            map: map_names::SERVICES,
        },
        Table {
            flag: "--max-endpoints",
            ports: 1,
            endpoints: 14,
            told: "of backends",
            map: map_names::BACKENDS,
        },
        Table {
            flag: "--max-frontends",
            ports: 10,
            endpoints: 0,
            told: "map FRONTENDS_V",
            map: map_names::FRONTENDS,
        },
    ];
    for table in &tables {
        holds::<F>(table).with_context(|| table.flag.to_owned())?;
    }
    Ok(())
}

/// What the listing says to be missing in a family, without an agent, too.
fn missing<F: TestFamily>(agent: &Agent<'_>) -> Result<Vec<Value>> {
    let listed = agent.list("frontends")?;
    let rows = listed.as_array().context("no array")?.iter();
    let is_missing =
        |row: &&Value| row.get("problem").is_some() && row["family"] == F::FAMILY.name();
    Ok(rows.filter(is_missing).cloned().collect())
}

/// The text of a field.
fn text<'a>(row: &'a Value, field: &str) -> &'a str {
    row[field].as_str().unwrap_or_default()
}

fn holds<F: TestFamily>(table: &Table) -> Result<()> {
    let &Table { flag, ports, endpoints, told, map } = table;
    let rig = Rig::of_one_node(nodes())?;
    let client = Client::new(rig.pod("client"));
    let at = |address: DualAddress| SocketAddr::new(address.of(F::FAMILY), PORT);
    let serve = |address, name| web(address, name).pods([rig.pod(LOCAL)]);
    let nobody = |host| {
        let address = DualAddress::pod(9, host);
        Endpoint::at([address.v4.into(), address.v6.into()])
    };
    let mut large = Service::dual("large", LARGE);
    for port in 0..ports {
        large = large.port(&format!("p{port}"), Protocol::Tcp, 1000 + port, TARGET);
    }
    let large = large.endpoints((1..=endpoints).map(nobody));
    rig.cluster.manifests.apply(&serve(WEB, "web"))?;
    rig.cluster.manifests.apply(&large)?;
    let mut agent = rig.agent().argument(flag).argument(ROOM).start()?;
    let mut stream = client.stay(at(WEB))?;
    rig.cluster.manifests.apply(&serve(LATE, "late"))?;
    let is_told = || {
        agent.log().is_ok_and(|log| {
            let family = F::FAMILY.name();
            log.lines().any(|line| {
                line.contains("late")
                    && line.contains(family)
                    && line.contains(told)
                    && line.contains(flag)
            })
        })
    };
    ensure!(eventually(is_told), "the log does not say what is too small:\n{}", agent.log()?);
    ensure!(client.ask(Protocol::Tcp, at(LATE)).is_err(), "there was room");
    let is_listed = |agent: &Agent<'_>| -> Result<()> {
        let rows = missing::<F>(agent)?;
        let is_late = |row: &Value| {
            text(row, "service").contains("/late:")
                && text(row, "state") == "full"
                && text(row, "table").starts_with(map)
                && text(row, "problem").contains(flag)
        };
        ensure!(rows.iter().any(is_late), "{map}: {rows:?}");
        Ok(())
    };
    is_listed(&agent)?;
    agent.kill();
    is_listed(&agent).context("without an agent")?;
    let _ = client.ask(Protocol::Tcp, at(WEB))?;
    let _ = stream.exchange()?;
    agent.start()?;
    is_listed(&agent).context("from the next agent")?;
    // Room that is made is used.
    rig.cluster.manifests.remove(large.name())?;
    ensure!(
        within(Duration::from_secs(20), || client.ask(Protocol::Tcp, at(LATE)).is_ok()),
        "it is not served"
    );
    ensure!(
        within(Duration::from_secs(20), || missing::<F>(&agent).is_ok_and(|rows| rows.is_empty())),
        "still listed: {:?}",
        missing::<F>(&agent)?
    );
    let _ = stream.exchange()?;
    ensure!(agent.stop()?.success());
    Ok(())
}

fn a_frontend_that_another_has_is_listed<F: TestFamily>() -> Result<()> {
    let rig = Rig::of_one_node(nodes())?;
    let external = Frontend::ExternalIp.target(F::FAMILY);
    let addresses = json!(IpFamily::ALL.map(|family| EXTERNAL.of(family)));
    let rivals = [("first", WEB), ("second", LATE)].map(|(name, address)| {
        let service = web(address, name).pods([rig.pod(LOCAL)]);
        service.field("externalIPs", addresses.clone())
    });
    for service in &rivals {
        rig.cluster.manifests.apply(service)?;
    }
    let mut agent = rig.start()?;
    let rows = missing::<F>(&agent)?;
    ensure!(!rows.is_empty(), "nothing is listed");
    let frontend = format!("{external}/TCP");
    for row in &rows {
        ensure!(text(row, "service").contains("/second:"), "{row}");
        ensure!(
            text(row, "state") == "contested" && text(row, "problem").ends_with("/first"),
            "{row}"
        );
    }
    ensure!(rows.iter().any(|row| text(row, "problem").contains(&frontend)), "{rows:?}");
    rig.cluster.manifests.remove(rivals[0].name())?;
    let is_clean = || missing::<F>(&agent).is_ok_and(|rows| rows.is_empty());
    ensure!(within(Duration::from_secs(20), is_clean), "{:?}", missing::<F>(&agent)?);
    let _ = Client::new(rig.outsider()).ask(Protocol::Tcp, external)?;
    ensure!(agent.stop()?.success());
    Ok(())
}

fn within(patience: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let started = Instant::now();
    std::iter::from_fn(|| (started.elapsed() < patience).then(&mut condition)).any(|holds| holds)
}

/// Flows that there is room for in these tests, and as many clients again.
const FLOWS: &str = "1024";
const FLOOD: u16 = 2048;

/// Sends datagrams from so many ports, whose answers nobody waits for: none of these clients proves that it is there.
fn flood(client: &Client<'_>, target: SocketAddr, ports: std::ops::Range<u16>) -> Result<()> {
    for port in ports {
        let socket = client.source_port(port).udp_socket(target)?;
        let _ = socket.send(b"spray")?;
    }
    Ok(())
}

fn established_flows_outlast_floods<F: TestFamily>() -> Result<()> {
    let rig = Rig::of_one_node(nodes())?;
    rig.cluster.manifests.apply(&rig.service(&[LOCAL]))?;
    let mut agent = rig.agent().argument("--max-flows").argument(FLOWS).start()?;
    for (who, host, frontend) in [
        ("a pod", rig.pod("client"), Frontend::ClusterIp),
        ("outside", rig.outsider(), Frontend::NodePort),
    ] {
        let target = frontend.target(F::FAMILY);
        let client = Client::new(host);
        let mut stream = client.stay(target)?;
        let mut datagrams = client.datagrams(target)?;
        for _ in 0..3 {
            let _ = datagrams.ask()?;
        }
        let started = Instant::now();
        let mut served = 0_u32;
        for first in (20_000..20_000 + FLOOD).step_by(256) {
            flood(&client, target, first..first + 256)?;
            served += u32::from(client.ask(Protocol::Tcp, target).is_ok());
            let _ = stream.exchange()?;
            let _ = datagrams.ask()?;
        }
        let took = started.elapsed();
        println!("{who}: {FLOOD} first datagrams in {took:?}; {served} of 8 new connections");
        ensure!(served >= 4, "{who}: {served} of 8 new connections got through");
    }
    ensure!(agent.stop()?.success());
    Ok(())
}
