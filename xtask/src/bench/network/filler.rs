// SPDX-License-Identifier: Apache-2.0
//! Flows of clients that are not there: copies of the entries that a real connection has made.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Context as _, Result};
use aya::{
    Pod,
    maps::{HashMap, Map, MapData},
};
use proxy_common::{
    Address as _, Family, Port, Protocol, V4, V6,
    flow::{Flow, FlowKey, Hook, Tuple},
    map_names,
};
use proxy_tests::{agent::Agent, family::IpFamily};

use crate::bench::evidence;

/// How many connections a client of the copies has; its ports begin with the first.
const OF_A_CLIENT: u32 = 1 << 15;
const FIRST_PORT: u16 = 1 << 14;

/// Fills the agent's table of flows with copies of the flow of an open connection, from
/// `client` to `frontend`.
///
/// # Errors
///
/// If it is not in the table, or the kernel does not take the copies.
pub(super) fn fill(
    agent: &Agent<'_>,
    client: SocketAddr,
    frontend: SocketAddr,
    flows: u32,
) -> Result<()> {
    match IpFamily::of(client.ip()) {
        IpFamily::V4 => fill_table::<V4>(agent, client, frontend, flows),
        IpFamily::V6 => fill_table::<V6>(agent, client, frontend, flows),
    }
}

fn fill_table<F: Family>(
    agent: &Agent<'_>,
    client: SocketAddr,
    frontend: SocketAddr,
    flows: u32,
) -> Result<()>
where
    FlowKey<F>: Pod,
    Flow<F>: Pod,
{
    let name = format!("{}{}", map_names::FLOWS, map_names::family_ending::<F>());
    let map = MapData::from_pin(evidence::table(agent, &name)).context("opening the flows")?;
    let mut table: HashMap<_, FlowKey<F>, Flow<F>> = Map::HashMap(map).try_into()?;
    let address = |ip| F::Addr::from_ip(ip).context("it is of the other family");
    let tuple = Tuple {
        source: address(client.ip())?,
        destination: address(frontend.ip())?,
        source_port: Port::new(client.port()),
        destination_port: Port::new(frontend.port()),
    };
    let forward_key = FlowKey::new(tuple, Protocol::TCP, Hook::INGRESS);
    let forward = table.get(&forward_key, 0).context("looking for the connection's flow")?;
    let reply_key = FlowKey::new(forward.to.reversed(), Protocol::TCP, Hook::EGRESS);
    let reply = table.get(&reply_key, 0).context("looking for the flow of its replies")?;
    for number in 0..flows {
        let client = address(nobody(IpFamily::of(client.ip()), number / OF_A_CLIENT))?;
        let port = Port::new(FIRST_PORT + u16::try_from(number % OF_A_CLIENT)?);
        let from = |tuple| Tuple { source: client, source_port: port, ..tuple };
        let to = |tuple| Tuple { destination: client, destination_port: port, ..tuple };
        let copies = [
            (from(forward_key.tuple), Hook::INGRESS, Flow { to: from(forward.to), ..forward }),
            (to(reply_key.tuple), Hook::EGRESS, Flow { to: to(reply.to), ..reply }),
        ];
        for (tuple, hook, mut flow) in copies {
            let key = FlowKey::new(tuple, Protocol::TCP, hook);
            flow.label(&key);
            table.insert(key, flow, 0).with_context(|| format!("adding flow {number}"))?;
        }
    }
    Ok(())
}

/// An address that nobody has: of the ranges for benchmarks (RFC 2544, RFC 5180).
fn nobody(family: IpFamily, number: u32) -> IpAddr {
    match family {
        IpFamily::V4 => Ipv4Addr::from_bits(Ipv4Addr::new(198, 18, 0, 1).to_bits() + number).into(),
        IpFamily::V6 => {
            let first = Ipv6Addr::new(0x2001, 2, 0, 0, 0, 0, 0, 1);
            Ipv6Addr::from_bits(first.to_bits() + u128::from(number)).into()
        }
    }
}
