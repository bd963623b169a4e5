// SPDX-License-Identifier: Apache-2.0

//! Plays histories: each packet goes through a program, and the model judges what comes out.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use proxy_agent::reconcile::Rows;
use proxy_agent::reconcile::allocator::REST;
use proxy_common::counter::Reason;
use proxy_common::device::Device;
use proxy_tests::family::IpFamily;
use proxy_tests::model::{Hook, Model, Route, Rule, Strays, Verdict};

use super::frame::{self, BRIDGE_MAC, endpoint, frontend};
use super::step::{Flow, Receiver, Sent, Step, Who};
use super::uplink::Uplink;
use crate::cluster::Cluster;
use crate::frames::NODE_MAC;
use crate::loaded::SOURCE_PORTS;
use crate::outside::node;
use crate::programs::{At, Outcome, Verdict as Seen};
use crate::rig::{DEVICE, Rig, Tabled};

/// An index that no device has: nobody is found on this bridge.
const BRIDGE: u32 = 99;
/// After so many refusals a processor's budget is filled up, long before it is spent.
const REFUSALS: u32 = 500;

/// What happened in histories: how often each rule was used, and how many packets were judged.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    pub(super) packets: usize,
    pub(super) rules: BTreeMap<Rule, usize>,
    /// How many of them have left from a driver.
    pub(super) from_driver: u64,
}

/// The programs and the model, side by side.
pub(super) struct Player<'a, F: Tabled> {
    pub(super) rig: &'a mut Rig<F>,
    cluster: Cluster<F>,
    pub(super) model: Model,
    begin: Instant,
    /// Where the flows of clients led when they were last seen.
    routes: BTreeMap<Flow, Route>,
    refusals: u32,
    /// The MAC address that the node's own frames have where they leave.
    own_mac: [u8; 6],
    uplink: Option<Uplink>,
    /// How many packets have come by the uplink.
    came: usize,
}

/// Plays a history from its beginning; the number of the step that made the difference is in the
/// error.
pub(super) fn play<F: Tabled>(
    rig: &mut Rig<F>,
    strays: Strays,
    uplink: Option<Uplink>,
    steps: &[Step],
    tally: &mut Tally,
) -> Result<(), Difference> {
    let failed = |step| move |error| Difference { step, error };
    let mut player = Player::new(rig, strays, uplink).map_err(failed(0))?;
    for (number, step) in steps.iter().enumerate() {
        let rule = player.take(step).map_err(failed(number))?;
        if let Some(rule) = rule {
            tally.packets += 1;
            *tally.rules.entry(rule).or_default() += 1;
        }
    }
    let last = steps.len().saturating_sub(1);
    tally.from_driver += player.rig.count(Reason::XdpSent).map_err(failed(last))?;
    player.compare_counters().map_err(failed(last))
}

/// Where the programs did something else than the model asks for.
#[derive(Debug)]
pub(super) struct Difference {
    pub(super) step: usize,
    pub(super) error: anyhow::Error,
}

impl<'a, F: Tabled> Player<'a, F> {
    fn new(rig: &'a mut Rig<F>, strays: Strays, uplink: Option<Uplink>) -> Result<Self> {
        rig.clear()?;
        let mut model = Model::new(strays);
        model.set_source_ports(SOURCE_PORTS);
        let cluster = Cluster::new(Rows { services: 64, slots: 512, backends: 256 });
        let routes = BTreeMap::new();
        let mut player = Self {
            rig,
            cluster,
            model,
            begin: Instant::now(),
            routes,
            refusals: 0,
            own_mac: NODE_MAC,
            uplink,
            came: 0,
        };
        if let Some(uplink) = uplink {
            player.model.set_device(NODE_MAC, None);
            player.model.set_uplink(node::<F>());
            uplink.equip(player.rig)?;
            return Ok(player);
        }
        player.set_bridge_port(false)?;
        player.set_host_address(true)?;
        Ok(player)
    }

    /// Does what a step says, if that is possible; says by which rule its packet was judged.
    fn take(&mut self, step: &Step) -> Result<Option<Rule>> {
        self.model.set_time(self.begin.elapsed());
        match step {
            Step::Send(sent) => return self.send(sent).with_context(|| format!("{sent:?}")),
            Step::Silence { flow, seconds } => self.fall_silent(*flow, *seconds)?,
            Step::AgeFragments { seconds } => self.age_fragments(*seconds)?,
            Step::Serve { service, protocol, endpoints, local } => {
                let to = frontend::<F>(*service, 80);
                let sockets = |numbers: &[u8]| {
                    let mut sockets: Vec<_> =
                        numbers.iter().map(|number| endpoint::<F>(*number)).collect();
                    sockets.sort_unstable();
                    sockets.dedup();
                    sockets
                };
                let serving = sockets(endpoints);
                if let Some(local) = local {
                    let mut local = sockets(local);
                    local.retain(|socket| serving.contains(socket));
                    self.cluster.put_local(to, *protocol, &serving, &local);
                    self.model.set_local_backends(*protocol, to, serving, local);
                } else {
                    self.cluster.put(to, *protocol, &serving);
                    self.model.set_backends(*protocol, to, serving);
                }
                self.write()?;
            }
            Step::Remove { service, protocol } => {
                let to = frontend::<F>(*service, 80);
                self.cluster.remove(to, *protocol);
                self.model.remove_frontend(*protocol, to);
                self.write()?;
            }
            Step::BridgePort(_) | Step::HostAddress(_) if self.uplink.is_some() => {}
            Step::BridgePort(is_port) => self.set_bridge_port(*is_port)?,
            Step::HostAddress(has) => self.set_host_address(*has)?,
            Step::ServiceCidr(has) => self.set_service_cidr(*has)?,
        }
        Ok(None)
    }

    fn write(&mut self) -> Result<()> {
        // Long enough for rows to be used again.
        self.cluster.now += REST;
        self.cluster.write(&mut self.rig.tables)
    }

    fn set_bridge_port(&mut self, is_port: bool) -> Result<()> {
        self.model.set_device(NODE_MAC, is_port.then_some(BRIDGE_MAC));
        let port = Device::bridge_port(BRIDGE, BRIDGE_MAC);
        self.own_mac = if is_port { BRIDGE_MAC } else { NODE_MAC };
        self.rig.set_device(if is_port { port } else { Device::routed() })
    }

    fn set_host_address(&mut self, has: bool) -> Result<()> {
        let host = F::pod(1, 1);
        self.model.clear_hairpin_sources();
        if has {
            self.model.add_hairpin_source(host);
            return self.rig.set_host_address(host);
        }
        let _: Result<_, _> = self.rig.host_addresses.remove(&DEVICE);
        Ok(())
    }

    fn set_service_cidr(&mut self, has: bool) -> Result<()> {
        self.model.clear_service_cidrs();
        for prefix in std::mem::take(&mut self.rig.service_cidrs) {
            self.rig.tables.remove_service_cidr(prefix)?;
        }
        if has {
            let (range, length) = match F::FAMILY {
                IpFamily::V4 => (F::cluster_ip(0), 16),
                IpFamily::V6 => (F::cluster_ip(0), 112),
            };
            self.model.add_service_cidr(range, length);
            self.rig.guard(range, length.into())?;
        }
        Ok(())
    }

    /// Sends a packet and judges what becomes of it.
    fn send(&mut self, sent: &Sent) -> Result<Option<Rule>> {
        let flow = sent.who.flow();
        let Some((at, frame)) = self.frame(sent)? else { return Ok(None) };
        let Outcome { verdict, frame: left } = match self.uplink {
            Some(_) if at == At::Ingress => {
                if !Uplink::takes::<F>(flow.protocol, &frame) {
                    return Ok(None);
                }
                // Any packet may take either way.
                self.came += 1;
                Uplink::pass(&self.rig.programs, &frame, !self.came.is_multiple_of(3))?
            }
            // What leaves depends on what has come in, which is judged elsewhere.
            Some(_) => return Ok(None),
            None => self.rig.programs.run(at, &frame)?,
        };
        let (hook, verdict) = (hook(at), in_models_words(verdict));
        let rule = self
            .model
            .judge(hook, &frame, verdict, &left)
            .with_context(|| format!("at {at:?}: {frame:02x?}\n{verdict:?}: {left:02x?}"))?;
        let (client, target) = (flow.client::<F>(), flow.target::<F>());
        if let Some(route) = self.model.route(flow.protocol, client, target) {
            let _ = self.routes.insert(flow, route);
        }
        if verdict == Verdict::SendBack {
            self.refusals += 1;
            if self.refusals.is_multiple_of(REFUSALS) {
                self.rig.refill()?;
            }
        }
        Ok(Some(rule))
    }

    /// The frame of a packet, and where it is seen; nothing if there is no such flow, or if the
    /// kernel would not take the frame.
    fn frame(&self, sent: &Sent) -> Result<Option<(At, Vec<u8>)>> {
        let flow = sent.who.flow();
        let (client, target) = (flow.client::<F>(), flow.target::<F>());
        let route = self.routes.get(&flow);
        let is_error = sent.error.is_some();
        let (due, between) = match (sent.who, route) {
            // As it is on its way when something happens to it.
            (Who::Request(_), Some(route)) if is_error => {
                let at = if route.is_hairpin { At::Ingress } else { At::Egress };
                (at, (route.source, route.backend))
            }
            (Who::Reply(_), Some(_)) if is_error => (At::Ingress, (target, client)),
            (Who::Reply(_), Some(route)) => {
                let at = if route.is_hairpin { At::Ingress } else { At::Egress };
                (at, (route.backend, route.source))
            }
            (Who::Request(_), _) => (At::Ingress, (client, target)),
            (Who::Reply(_), None) => return Ok(None),
            (Who::Untranslated(_), _) => (At::Egress, (target, client)),
        };
        let mut packet = frame::packet::<F>(flow.protocol, &sent.what, sent.dress, between);
        if let Some(error) = sent.error {
            packet = frame::error::<F>(error, &packet)?;
        }
        let mut frame = packet.build()?;
        for change in &sent.changes {
            frame::change::<F>(&mut frame, change);
        }
        let at = sent.at.unwrap_or(due);
        // What is for the node where it arrives, is the node's own where it leaves.
        if at == At::UplinkEgress && sent.dress.to == Receiver::Node && frame.len() >= 12 {
            frame[6..12].copy_from_slice(&self.own_mac);
        }
        Ok(can_run(&frame).then_some((at, frame)))
    }

    /// What operators see must be what happened.
    fn compare_counters(&self) -> Result<()> {
        for reason in Reason::ALL {
            let name = reason.name();
            let expected = self.model.counts().get(name).copied().unwrap_or_default();
            let counted = self.rig.count(*reason)?;
            let is_right = match reason {
                // Which of its headers makes a malformed packet untouchable is not told apart.
                Reason::PassExtensionHeaders => true,
                // Which way a packet takes is not the model's to say.
                _ if name.starts_with("xdp-") => true,
                // What is over is over, whether or not its entries have made room.
                Reason::FlowExpired => true,
                // In a hairpin, where the port always changes, a second attempt is counted too.
                Reason::SourcePortTranslated => counted >= expected,
                _ => counted == expected,
            };
            ensure!(is_right, "{name} is counted {counted} times, and happened {expected} times");
        }
        Ok(())
    }
}

/// Whether the kernel runs programs on such a frame: there must be a network header.
fn can_run(frame: &[u8]) -> bool {
    match frame.get(12..14) {
        Some([0x08, 0x00]) => frame.len() >= 34,
        Some([0x86, 0xdd]) => frame.len() >= 54,
        _ => frame.len() > 14,
    }
}

/// # Panics
///
/// At the hook where nothing is decided: no history asks for it.
fn hook(at: At) -> Hook {
    match at {
        At::Ingress => Hook::Ingress,
        At::Egress => Hook::Egress,
        At::UplinkEgress => Hook::UplinkEgress,
        At::UplinkIngress => panic!("nothing is decided there"),
    }
}

const fn in_models_words(verdict: Seen) -> Verdict {
    match verdict {
        Seen::Pass => Verdict::Pass,
        Seen::Drop => Verdict::Drop,
        Seen::Redirect => Verdict::SendBack,
    }
}
