// SPDX-License-Identifier: Apache-2.0

//! Programs of somebody else's on the client's device.

mod program;

use std::mem;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use aya::programs::links::Link as _;
use aya::programs::tc::{NlOptions, SchedClassifierLink, TcAttachOptions, qdisc_add_clsact};
use aya::programs::{LinkOrder, SchedClassifier, TcAttachType};
use proxy_tests::both_families;
use proxy_tests::family::TestFamily;
use proxy_tests::netns::Namespace;
use proxy_tests::protocol::Protocol;
use proxy_tests::topology::{BetweenNodes, PodNetwork, pod_device};
use proxy_tests::traffic::Client;

use crate::rig::{CLIENT, NODE, Place, Rig, TARGET, vip};
use program::{DROP, Foreign, NEXT, OK, Seen};

both_families!(programs_by_tcx, verdicts_by_tcx, programs_by_clsact);

const INGRESS: TcAttachType = TcAttachType::Ingress;
const EGRESS: TcAttachType = TcAttachType::Egress;

/// Attaches a program to a side of the client's device.
fn attach(
    rig: &Rig,
    foreign: &mut Foreign,
    side: TcAttachType,
    options: TcAttachOptions,
) -> Result<SchedClassifierLink> {
    node(rig).run(|| {
        let device = pod_device(CLIENT);
        let link = foreign.program.attach_with_options(&device, side, options)?;
        Ok(foreign.program.take_link(link)?)
    })
}

fn node(rig: &Rig) -> &Namespace {
    rig.topology.node(NODE).host().namespace()
}

const fn tcx(order: LinkOrder) -> TcAttachOptions {
    TcAttachOptions::TcxOrder(order)
}

/// Makes a program a filter on both sides of the client's device.
fn add_filters(rig: &Rig, foreign: &mut Foreign, priority: u16) -> Result<()> {
    for side in [INGRESS, EGRESS] {
        let options = NlOptions { priority, ..NlOptions::default() };
        let link = attach(rig, foreign, side, TcAttachOptions::Netlink(options))?;
        // Dropped, it would look for its filter in the namespace of this thread. It goes with its
        // device.
        mem::forget(link);
    }
    Ok(())
}

/// The place of a program among those on a side of the client's device, and how many there are.
fn place(rig: &Rig, foreign: &Foreign, side: TcAttachType) -> Result<(usize, usize)> {
    let own = foreign.program.info()?.id();
    let (_, programs) =
        node(rig).run(|| Ok(SchedClassifier::query_tcx(&pod_device(CLIENT), side)?))?;
    let place = programs.iter().position(|program| program.id() == own);
    Ok((place.context("it is not there")?, programs.len()))
}

fn serves<F: TestFamily>(rig: &Rig) -> Result<()> {
    rig.serves::<F>(Place::Near, false)?;
    rig.serves::<F>(Place::Far, false)
}

/// Connects to a backend itself, which needs no agent.
fn direct<F: TestFamily>(rig: &Rig) -> Result<()> {
    let target = rig.host(Place::Far).socket::<F>(TARGET);
    let _ = Client::new(rig.client()).ask(Protocol::Tcp, target)?;
    Ok(())
}

/// Whether a program has seen requests with a destination, and answers with a source, of one kind
/// each: what is true of the Service's address, or of the endpoint's.
fn saw(seen: Seen, requests_to_service: bool, answers_from_service: bool) -> bool {
    (seen.to_service > 0) == requests_to_service
        && (seen.to_endpoint > 0) != requests_to_service
        && (seen.from_service > 0) == answers_from_service
        && (seen.from_endpoint > 0) != answers_from_service
}

/// Ours is closest to the pod when it comes, and programs that let packets go on see each other's
/// work, wherever they stand.
fn programs_by_tcx<F: TestFamily>() -> Result<()> {
    let pods = PodNetwork::Bridge { netfilter: false };
    let rig = Rig::joined(pods, BetweenNodes::Direct)?;
    let mut before = Foreign::load::<F>(NEXT, NEXT)?;
    let _before = [
        attach(&rig, &mut before, INGRESS, tcx(LinkOrder::first()))?,
        attach(&rig, &mut before, EGRESS, tcx(LinkOrder::last()))?,
    ];
    let mut agent = rig.start()?;
    ensure!(place(&rig, &before, INGRESS)? == (1, 2), "ours is not first on ingress");
    ensure!(place(&rig, &before, EGRESS)? == (0, 2), "ours is not last on egress");
    let mut after = Foreign::load::<F>(NEXT, NEXT)?;
    let _after = [
        attach(&rig, &mut after, INGRESS, tcx(LinkOrder::default()))?,
        attach(&rig, &mut after, EGRESS, tcx(LinkOrder::default()))?,
    ];
    let mut closest = Foreign::load::<F>(NEXT, NEXT)?;
    let _closest = [
        attach(&rig, &mut closest, INGRESS, tcx(LinkOrder::first()))?,
        attach(&rig, &mut closest, EGRESS, tcx(LinkOrder::last()))?,
    ];
    serves::<F>(&rig)?;
    let seen = before.take()?;
    ensure!(saw(seen, false, false), "before ours: {seen:?}");
    // What is attached without an order comes last, on both sides.
    let seen = after.take()?;
    ensure!(saw(seen, false, true), "after ours: {seen:?}");
    let seen = closest.take()?;
    ensure!(saw(seen, true, true), "closest to the pod: {seen:?}");
    ensure!(agent.stop()?.success());
    for foreign in [&mut before, &mut after, &mut closest] {
        ensure!(place(&rig, foreign, INGRESS)?.1 == 3 && place(&rig, foreign, EGRESS)?.1 == 3);
        let _: Seen = foreign.take()?;
    }
    direct::<F>(&rig)?;
    for foreign in [&mut before, &mut after, &mut closest] {
        let seen = foreign.take()?;
        ensure!(saw(seen, false, false), "without ours: {seen:?}");
    }
    Ok(())
}

/// Programs that end what comes after them: ours has translated by then, and not on egress.
fn verdicts_by_tcx<F: TestFamily>() -> Result<()> {
    let rig = Rig::joined(PodNetwork::Routed, BetweenNodes::Direct)?;
    let mut ends = Foreign::load::<F>(OK, OK)?;
    let ingress = attach(&rig, &mut ends, INGRESS, tcx(LinkOrder::first()))?;
    let mut agent = rig.start()?;
    serves::<F>(&rig)?;
    let seen = ends.take()?;
    ensure!(seen.to_service == 0 && seen.to_endpoint > 0, "{seen:?}");
    ingress.detach()?;
    // A policy is for endpoints, not for Services.
    let patience = Duration::from_millis(300);
    let fails = |target: SocketAddr| {
        Protocol::OF_SOCKETS.into_iter().all(|protocol| {
            let client = Client::new(rig.client()).patience(patience);
            client.ask(protocol, target).is_err_and(|failure| failure.is_timeout())
        })
    };
    let mut drops = Foreign::load::<F>(NEXT, DROP)?;
    let policy = attach(&rig, &mut drops, INGRESS, tcx(LinkOrder::default()))?;
    ensure!(fails(vip::<F>(Place::Far)), "it reaches what it may not");
    policy.detach()?;
    serves::<F>(&rig)?;
    // What ours is not asked about is not translated.
    let egress = attach(&rig, &mut ends, EGRESS, tcx(LinkOrder::first()))?;
    ensure!(fails(vip::<F>(Place::Far)), "who has translated the answers?");
    egress.detach()?;
    serves::<F>(&rig)?;
    ensure!(agent.stop()?.success());
    Ok(())
}

/// Filters come after ours on both sides, whichever way ours is attached, and end nothing for it.
fn programs_by_clsact<F: TestFamily>() -> Result<()> {
    let pods = PodNetwork::Bridge { netfilter: true };
    for mode in ["--attach=tcx", "--attach=clsact"] {
        let rig = Rig::joined(pods, BetweenNodes::Direct)?;
        node(&rig).run(|| Ok(qdisc_add_clsact(&pod_device(CLIENT))?))?;
        let mut before = Foreign::load::<F>(OK, OK)?;
        add_filters(&rig, &mut before, 10)?;
        let mut agent = rig.agent().argument(mode).start()?;
        let mut after = Foreign::load::<F>(NEXT, NEXT)?;
        add_filters(&rig, &mut after, 5)?;
        serves::<F>(&rig)?;
        for foreign in [&mut before, &mut after] {
            let seen = foreign.take()?;
            ensure!(saw(seen, false, true), "{mode}: {seen:?}");
        }
        ensure!(agent.stop()?.success());
        direct::<F>(&rig)?;
        for foreign in [&mut before, &mut after] {
            let seen = foreign.take()?;
            ensure!(saw(seen, false, false), "{mode}, without ours: {seen:?}");
        }
    }
    Ok(())
}
