// SPDX-License-Identifier: Apache-2.0

//! What the packets are, and which programs they go through.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use proxy_agent::bpf::object::{EGRESS, INGRESS, UPLINK_EGRESS, UPLINK_INGRESS};
use proxy_common::backend::{Backend, BackendId};
use proxy_common::counter::Reason;
use proxy_common::frontend::ServiceIndex;
use proxy_common::gauge::Recipe;
use proxy_common::{Family, V4, V6, reject};
use proxy_tests::packet::{Packet, TcpFlags};

use crate::Args;
use crate::drivers;
use crate::entries::entries;
use crate::figures::Figures;
use crate::live;
use crate::measure::Packets;
use crate::opened;
use crate::peers::{backend, client, endpoint, last_word, vip};
use crate::stand::Stand;
use crate::turns::{self, Contest};

/// `TCX_NEXT` and `TC_ACT_REDIRECT`.
pub(crate) const PASS: i32 = -1;
const REDIRECT: i32 = 7;
const SHOT: i32 = 2;
/// `XDP_TX`.
pub(crate) const SENT_BACK: i32 = 3;

/// The Service with endpoints, and the one without.
pub(crate) const SERVICE: ServiceIndex = ServiceIndex(ServiceIndex::FIRST.0 + 1);
const EMPTY: ServiceIndex = ServiceIndex(ServiceIndex::FIRST.0 + 2);

/// Endpoints of the Service.
const ENDPOINTS: u8 = 10;

/// A kind of packets.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) packets: Packets,
    /// The proxy's program.
    pub(crate) program: &'static str,
    /// Whether that is in a driver.
    pub(crate) in_driver: bool,
    /// What it is compared with: the floor, and the floor's return code.
    pub(crate) floors: &'static [(&'static str, i32)],
    /// Which frontend is asked, if it is one.
    pub(crate) frontend: SocketAddr,
    /// What the proxy counts of each of the packets.
    pub(crate) counted: Option<Reason>,
    /// Where the last packet must have gone.
    pub(crate) to: SocketAddr,
    /// At most so many packets in a run.
    pub(crate) most: u32,
}

/// Measures all scenarios of both families with so many flows in the tables.
pub(crate) fn run(args: &Args, flows: u32, figures: &mut Figures) -> Result<()> {
    let mut v4 = Stand::<V4>::new(args, flows, None)?;
    let mut v6 = Stand::<V6>::new(args, flows, None)?;
    serve(&mut v4)?;
    serve(&mut v6)?;
    let scenarios = (self::scenarios::<V4>(flows)?, self::scenarios::<V6>(flows)?);
    measure_all(args, scenarios, (&mut v4, &mut v6), figures)?;
    // Others would meet their flows in the tables.
    serve_drivers(&mut v4)?;
    serve_drivers(&mut v6)?;
    let scenarios = (drivers::scenarios::<V4>(flows)?, drivers::scenarios::<V6>(flows)?);
    measure_all(args, scenarios, (&mut v4, &mut v6), figures)?;
    live::run(args, (&mut v4, &mut v6), figures)
}

/// Writes the Service with endpoints, the one without, and flows to the former.
fn serve<F: Family>(stand: &mut Stand<F>) -> Result<()> {
    stand.put_service(vip::<F>(10), SERVICE, 0, &backends::<F>())?;
    stand.put_service(vip::<F>(11), EMPTY, 0, &[])?;
    stand.put_flows(entries::<F>(stand.flows))
}

/// The same for drivers, which need more.
fn serve_drivers<F: Family>(stand: &mut Stand<F>) -> Result<()> {
    let frontend = drivers::frontend::<F>();
    stand.put_service(frontend, SERVICE, 0, &backends::<F>())?;
    let flows = stand.flows;
    stand.put_flows(drivers::entries::<F>(flows, |_| (frontend, endpoint::<F>(0))))?;
    drivers::equip(&mut stand.subject)
}

fn backends<F: Family>() -> Vec<(BackendId, Backend<F>)> {
    (0..ENDPOINTS).map(|number| backend::<F>(number, SERVICE)).collect()
}

/// Measures scenarios, both families of each in the same rounds.
fn measure_all(
    args: &Args,
    (v4, v6): (impl IntoIterator<Item = Scenario>, impl IntoIterator<Item = Scenario>),
    (stand_v4, stand_v6): (&mut Stand<V4>, &mut Stand<V6>),
    figures: &mut Figures,
) -> Result<()> {
    let both = v4.into_iter().zip(v6).filter(|(it, _)| it.name.contains(&args.only));
    for (v4, v6) in both {
        let name = v4.name;
        let mut contests: [Box<dyn Contest>; 2] =
            [Box::new(stand_v4.prepare(args, v4)?), Box::new(stand_v6.prepare(args, v6)?)];
        turns::measure(args, name, &mut contests, figures)?;
    }
    Ok(())
}

/// All scenarios.
fn scenarios<F: Family>(flows: u32) -> Result<Vec<Scenario>> {
    let (client, backend) = (client::<F>(0), endpoint::<F>(0));
    let elsewhere = SocketAddr::new(endpoint::<F>(200).ip(), 443);
    let data = |from, to| Packet::tcp(from, to, TcpFlags::ACK).payload(b"").numbers(1, 1);
    let request = |to| packets::<F>(&data(client, to), false, flows, PASS);
    let reply = |from| packets::<F>(&data(from, client), true, flows, PASS);
    let opening = |to| {
        packets::<F>(&Packet::tcp(client, to, TcpFlags::SYN).numbers(1, 0), false, flows, PASS)
    };
    let mut refused = opening(vip::<F>(11))?;
    refused.code = REDIRECT;
    let mut new = opening(vip::<F>(10))?;
    // Of clients that have no flows yet, and none twice.
    new.recipe.address = new.recipe.address.wrapping_add(1 << 10);
    new.recipe.clients = u32::MAX;
    // To as many clients. Nothing is remembered of such a packet.
    let first = Packet::tcp(elsewhere, client, TcpFlags::SYN).numbers(1, 0);
    let first = packets::<F>(&first, true, u32::MAX, PASS)?;
    let anywhere = |socket: SocketAddr| SocketAddr::new(socket.ip(), 0);
    let scenario = |name, program, packets, floors, to| Scenario {
        name,
        packets,
        program,
        in_driver: false,
        floors,
        frontend: vip::<F>(10),
        counted: None,
        to,
        most: u32::MAX,
    };
    let follow: &[_] = &[("follow", PASS), ("plain", PASS)];
    let open: &[_] = &[("open", PASS), ("alone", PASS)];
    let miss: &[_] = &[("miss", PASS)];
    Ok(vec![
        scenario("established request", INGRESS, request(vip::<F>(10))?, follow, backend),
        scenario("established reply", EGRESS, reply(backend)?, &[], anywhere(client)),
        scenario("from outside", UPLINK_INGRESS, request(vip::<F>(10))?, follow, backend),
        scenario("to outside", UPLINK_EGRESS, reply(backend)?, &[], anywhere(client)),
        // Before others leave flows in the tables, whose entries it would meet.
        scenario("no Service, first", INGRESS, first, miss, anywhere(client)),
        Scenario {
            counted: Some(Reason::FlowCreated),
            // Warm by themselves.
            most: opened::MOST,
            ..scenario("new flow", INGRESS, new, open, anywhere(backend))
        },
        scenario("no Service, sent", INGRESS, request(elsewhere)?, miss, elsewhere),
        scenario("no Service, received", EGRESS, reply(elsewhere)?, miss, anywhere(client)),
        Scenario {
            counted: Some(Reason::RejectNoEndpoints),
            most: reject::BURST,
            ..scenario("refused", INGRESS, refused, &[("refuse", SHOT)], anywhere(client))
        },
    ])
}

/// Packets like this one, from or to clients.
pub(crate) fn packets<F: Family>(
    packet: &Packet,
    is_reply: bool,
    clients: u32,
    code: i32,
) -> Result<Packets> {
    // To the loopback device's own address, so that it is for the node.
    let mut packet = packet.clone();
    packet.link.destination = [0; 6];
    let frame = packet.build()?;
    let length = frame.len();
    let is_reply = u32::from(is_reply);
    let mut recipe = Recipe { clients, is_reply, ..Recipe::new(last_word(client::<F>(0).ip())) };
    recipe.frame.get_mut(..length).context("the frame is too long")?.copy_from_slice(&frame);
    Ok(Packets { recipe, length, in_driver: false, code })
}
