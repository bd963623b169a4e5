// SPDX-License-Identifier: Apache-2.0

//! What the packets are, and which programs they go through.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use aya::programs::ProgramFd;
use proxy_agent::bpf::FlowCapacity;
use proxy_agent::bpf::object::{EGRESS, INGRESS, UPLINK_EGRESS, UPLINK_INGRESS};
use proxy_common::counter::Reason;
use proxy_common::flow::{MAX_FLOWS, PLACES};
use proxy_common::frontend::{Frontend, FrontendKey, FrontendKind, ServiceIndex};
use proxy_common::gauge::{MAX_FRAME, Recipe};
use proxy_common::{Family, Protocol, reject};
use proxy_tests::packet::{Packet, TcpFlags};

use crate::Args;
use crate::drivers::{self, SENT_BACK};
use crate::entries::entries;
use crate::figures::{Figure, Figures};
use crate::gauge::{Gauge, fill};
use crate::measure::Packets;
use crate::opened;
use crate::peers::{address, backend, client, destination, endpoint, last_word, port, vip};
use crate::subject::Subject;

/// `TCX_NEXT` and `TC_ACT_REDIRECT`.
const PASS: i32 = -1;
const REDIRECT: i32 = 7;
const SHOT: i32 = 2;

/// The Service with endpoints, and the one without.
pub(crate) const SERVICE: ServiceIndex = ServiceIndex(ServiceIndex::FIRST.0 + 1);
const EMPTY: ServiceIndex = ServiceIndex(ServiceIndex::FIRST.0 + 2);

/// The part of a run that others may have of the processor, or the round is repeated.
const TOLERATED: f64 = 0.05;
/// For how many rounds each wanted one is tried.
const ATTEMPTS: usize = 10;

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
    /// What the proxy counts of each of the packets.
    pub(crate) counted: Option<Reason>,
    /// Where the last packet must have gone.
    pub(crate) to: SocketAddr,
    /// At most so many packets in a run.
    pub(crate) most: u32,
}

/// Measures all scenarios of a family with so many flows in the table.
pub(crate) fn run<F: Family>(args: &Args, flows: u32, figures: &mut Figures) -> Result<()> {
    let room = MAX_FLOWS.max(8 * flows.next_power_of_two());
    let capacity = FlowCapacity { entries: room, places: PLACES };
    let mut subject = Subject::<F>::load(capacity)?;
    let mut gauge = Gauge::<F>::load(&args.gauge, capacity)?;
    let backends: Vec<_> = (0..ENDPOINTS).map(|number| backend::<F>(number, SERVICE)).collect();
    for (frontend, service, backends) in
        [(vip::<F>(10), SERVICE, &backends[..]), (vip::<F>(11), EMPTY, &[])]
    {
        let key = frontend_key::<F>(frontend);
        let frontend = (key, Frontend::new(service, FrontendKind::ClusterIp));
        subject.put_service(frontend, backends)?;
        gauge.put_service(frontend, backends)?;
    }
    fill(&mut subject.flows, entries::<F>(flows))?;
    fill(&mut gauge.flows, entries::<F>(flows))?;

    let mut measure_all = |scenarios: Vec<Scenario>, subject: &mut _, gauge: &mut _| {
        let mut scenarios = scenarios.into_iter().filter(|it| it.name.contains(&args.only));
        scenarios.try_for_each(|mut scenario| {
            measure(args, flows, &mut scenario, subject, gauge, figures)
                .with_context(|| format!("{} {} at {flows} flows", F::NAME, scenario.name))
        })
    };
    measure_all(scenarios::<F>(flows)?, &mut subject, &mut gauge)?;
    let key = frontend_key::<F>(drivers::frontend::<F>());
    let frontend = (key, Frontend::new(SERVICE, FrontendKind::ClusterIp));
    subject.put_service(frontend, &backends)?;
    gauge.put_service(frontend, &backends)?;
    // Others would meet them in the tables.
    fill(&mut subject.flows, drivers::entries::<F>(flows))?;
    fill(&mut gauge.flows, drivers::entries::<F>(flows))?;
    drivers::equip(&mut subject)?;
    measure_all(drivers::scenarios::<F>(flows)?, &mut subject, &mut gauge)
}

fn frontend_key<F: Family>(frontend: SocketAddr) -> FrontendKey<F> {
    FrontendKey::new(address::<F>(frontend), port(frontend), Protocol::TCP)
}

/// Measures a scenario: all programs in each round, each after having seen each flow once.
fn measure<F: Family>(
    args: &Args,
    flows: u32,
    scenario: &mut Scenario,
    subject: &mut Subject<F>,
    gauge: &mut Gauge<F>,
    figures: &mut Figures,
) -> Result<()> {
    scenario.packets.in_driver = scenario.in_driver;
    let nothing = if scenario.in_driver { SENT_BACK } else { PASS };
    let mut programs: Vec<(&'static str, ProgramFd, i32)> =
        vec![("nothing", gauge.nothing(scenario.in_driver)?, nothing)];
    for (floor, code) in scenario.floors {
        programs.push((floor, gauge.floor(floor)?, *code));
    }
    let own = (scenario.program, subject.program(scenario.program)?, scenario.packets.code);
    programs.push(own);
    let count = args.packets.max(flows).min(scenario.most);
    let mut values = vec![Vec::new(); programs.len()];
    for round in 0..ATTEMPTS * args.rounds {
        if values[0].len() == args.rounds {
            break;
        }
        let mut raw = vec![0.0; programs.len()];
        let mut disturbed = 0.0_f64;
        for turn in 0..programs.len() {
            let number = (round + turn) % programs.len();
            let (name, program, code) = &programs[number];
            scenario.packets.code = *code;
            let is_own = number + 1 == programs.len();
            if scenario.most == u32::MAX {
                let _ = gauge.run(program, &mut scenario.packets, flows)?;
            }
            subject.refill()?;
            let before = scenario.counted.map(|reason| subject.count(reason)).transpose()?;
            let first = scenario.packets.recipe.next;
            let run = gauge.run(program, &mut scenario.packets, count)?;
            if scenario.counted == Some(Reason::FlowCreated) && number > 0 {
                let clients = first..scenario.packets.recipe.next;
                let flows = if is_own { &mut subject.flows } else { &mut gauge.flows };
                let frontend =
                    if scenario.in_driver { drivers::frontend::<F>() } else { vip::<F>(10) };
                opened::forget(flows, &scenario.packets.recipe, frontend, clients)?;
                opened::vacate(&mut subject.places)?;
            }
            raw[number] = run.nanoseconds;
            disturbed = disturbed.max(run.disturbed);
            if number == 0 {
                continue;
            }
            let to = destination::<F>(&run.frame)?;
            ensure!(to == scenario.to || scenario.to.port() == 0, "{name} sent a packet to {to}");
            if let (true, Some(reason), Some(before)) = (is_own, scenario.counted, before) {
                let counted = subject.count(reason)? - before;
                ensure!(
                    counted == u64::from(count),
                    "{} was counted {counted} times instead of {count}",
                    reason.name()
                );
            }
        }
        if disturbed > TOLERATED {
            *figures.dropped.entry(scenario.name).or_default() += 1;
            continue;
        }
        for (values, own) in values.iter_mut().zip(&raw) {
            values.push(own - raw[0]);
        }
    }
    ensure!(values[0].len() == args.rounds, "others had the processor all the time");
    for ((program, _, _), nanoseconds) in programs.iter().zip(values).skip(1) {
        let is_own = *program == scenario.program;
        let floor = scenario.floors.first().map(|(floor, _)| *floor).filter(|_| is_own);
        let (family, scenario) = (F::NAME, scenario.name);
        figures.add(Figure { family, scenario, flows, program, floor, nanoseconds });
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
    let mut recipe = Recipe {
        written: 0,
        frame: [0; MAX_FRAME],
        next: 0,
        clients,
        address: last_word(client::<F>(0).ip()),
        is_reply: u32::from(is_reply),
    };
    recipe.frame.get_mut(..length).context("the frame is too long")?.copy_from_slice(&frame);
    Ok(Packets { recipe, length, in_driver: false, code })
}
