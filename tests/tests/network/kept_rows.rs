// SPDX-License-Identifier: Apache-2.0

//! Rows of Service ports that have gone, from one version of the tables to another.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use proxy_agent::bpf::Tables;
use proxy_agent::bpf::object::map_directory;
use proxy_common::{Family, V4, V6};
use proxy_tests::agent::{Agent, AgentSpec, other_abi};
use proxy_tests::cluster::{PORT, eventually};
use proxy_tests::family::{self, DualAddress, IpFamily};
use proxy_tests::manifests::Service;
use proxy_tests::traffic::{Client, CountedStream};
use serde_json::Value;

use super::api::{Fixture, OTHER};
use super::inherited::ids;

/// How many Service ports there is room for.
const ROWS: usize = 48;
/// What the agent says of each family that it has walked through.
const WALKED: &str = "collected silent flows";
/// Longer than it takes from one walk to the next.
const WALK: Duration = Duration::from_secs(50);

/// The Service that a connection's flow belongs to, as `sixfour list flows` names it.
fn service_of(agent: &Agent<'_>, stream: &CountedStream) -> Result<String> {
    let (client, frontend) = (stream.local()?.to_string(), stream.peer()?.to_string());
    let flows = agent.list("flows")?;
    let mut rows = flows.as_array().context("a list")?.iter();
    let row = rows.find(|row| row["client"] == *client && row["frontend"] == *frontend);
    let row: &Value = row.with_context(|| format!("no flow {client} {frontend}: {flows}"))?;
    Ok(row["service"].as_str().context("a name")?.to_owned())
}

/// Removes all flows of a family, as if they had been silent for long.
fn forget_flows<F: Family>(agent: &Agent<'_>) -> Result<()> {
    let mut tables = Tables::<F>::open(&map_directory(agent.pin_root()))?;
    let keys = tables.flows().map(|entry| Ok(entry?.0)).collect::<Result<Vec<_>>>()?;
    ensure!(!keys.is_empty(), "{} has no flows", F::NAME);
    keys.iter().try_for_each(|key| Ok(tables.remove_flow(key)?))
}

/// How many rows of a family are some Service port's.
fn named<F: Family>(agent: &Agent<'_>) -> Result<usize> {
    Ok(Tables::<F>::open(&map_directory(agent.pin_root()))?.names().count())
}

fn within(patience: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let started = Instant::now();
    while started.elapsed() < patience {
        if holds() {
            return true;
        }
        thread::sleep(Duration::from_millis(100));
    }
    false
}

/// In both families at once: it takes as long as the agent waits between two walks. Copies of flows with which the other
/// version goes on grow old meanwhile.
#[test]
fn rows_of_services_that_have_gone_are_kept_while_another_version_has_their_flows() -> Result<()> {
    let fixture = Fixture::new::<family::V4>(false)?;
    let topology = &fixture.cluster.topology;
    let _servers = fixture.cluster.servers(&["web-1"])?;
    fixture.serve(OTHER, "other", "web-1")?;
    let kubeconfig = fixture.scratch.path().join("kubeconfig");
    let spec = AgentSpec::following(topology.node("anc-node").host(), &kubeconfig);
    let spec = spec.argument(format!("--max-services={ROWS}")).binary(other_abi()?);
    // They are read in no time.
    let spec = spec.argument("--max-flows=8192").argument("--max-endpoints=1024");
    let mut agent = spec.start()?;
    let client = Client::new(topology.pod("client"));
    let connect = |family| client.stay(SocketAddr::new(OTHER.of(family), PORT));
    let mut streams = IpFamily::ALL.map(connect).into_iter().collect::<Result<Vec<_>, _>>()?;
    for stream in &streams {
        let service = service_of(&agent, stream)?;
        ensure!(service.ends_with("/other:tcp"), "{service}");
    }
    fixture.server.remove(&Service::dual("other", OTHER).objects()[0])?;
    let is_gone = |stream| service_of(&agent, stream).is_ok_and(|service| service.starts_with('#'));
    ensure!(eventually(|| streams.iter().all(is_gone)), "{}", agent.list("flows")?);
    let names: Vec<_> =
        streams.iter().map(|stream| service_of(&agent, stream)).collect::<Result<_>>()?;
    let before = ids(&agent)?;
    agent.kill();
    fixture.server.down();

    agent.change_abi(false)?;
    agent.begin()?;
    let walks = || agent.log().map_or(0, |log| log.matches(WALKED).count());
    ensure!(within(WALK, || walks() == 2), "{}", agent.log()?);
    // Flows have been copied by then.
    thread::sleep(Duration::from_secs(2));
    forget_flows::<V4>(&agent)?;
    forget_flows::<V6>(&agent)?;
    ensure!(within(WALK, || walks() == 4), "{}", agent.log()?);
    ensure!(ids(&agent)? == before, "the other version's programs are not what they were");
    for number in 0..ROWS {
        let address = DualAddress::cluster_ip(100 + u8::try_from(number)?);
        fixture.serve(address, &format!("late-{number}"), "web-1")?;
    }
    fixture.server.up()?;
    agent.wait_until_ready()?;
    for (stream, name) in streams.iter_mut().zip(&names) {
        let _ = stream.exchange()?;
        let service = service_of(&agent, stream)?;
        ensure!(service == *name, "the flow is {service}'s now, and was {name}'s");
    }
    let is_full = || {
        let full = [named::<V4>(&agent), named::<V6>(&agent)];
        full.into_iter().all(|named| named.is_ok_and(|named| named == ROWS))
    };
    ensure!(!is_full(), "their rows are another's");
    // The last references go.
    drop(streams);
    forget_flows::<V4>(&agent)?;
    forget_flows::<V6>(&agent)?;
    ensure!(within(WALK, is_full), "rows are kept for nobody: {}", agent.log()?);
    ensure!(agent.stop()?.success());
    Ok(())
}
