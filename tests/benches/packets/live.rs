// SPDX-License-Identifier: Apache-2.0

//! Frames that really leave: the kernel does to each what the program in the driver says, in live-frames mode. They
//! come by a veth, and leave by it to another driver, which drops them.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use aya::programs::{ProgramFd, Xdp, XdpMode};
use aya::{Ebpf, EbpfLoader};
use nix::net::if_::if_nametoindex;
use proxy_agent::bpf::object::XDP;
use proxy_common::counter::Reason;
use proxy_common::{Family, V4, V6};

use crate::Args;
use crate::drivers::{self, OUT, OUT_MAC, OUT_PEER};
use crate::figures::{Figure, Figures};
use crate::measure::{Packets, Run};
use crate::stand::Stand;
use crate::turns::{self, Contest};

/// What is measured.
const NAME: &str = "sent from the driver, request";

/// The floor.
const FLOOR: &str = "swap_xdp";

/// The fewest packets of a turn: a few batches would be too short for the clock.
const FEWEST: u32 = 100_000;

/// As many frames of the kernel's own may arrive beside those of a turn: it looks for routers and duplicate addresses.
const OWN: u64 = 8;

/// Drops, in its driver, what the other end of the veth sends, as long as it lives.
pub(crate) struct Sink {
    _ebpf: Ebpf,
}

impl Sink {
    /// Attaches the program of an object.
    pub(crate) fn new(object: &Path) -> Result<Self> {
        let mut ebpf = EbpfLoader::new()
            .load_file(object)
            .with_context(|| format!("loading {}", object.display()))?;
        let program: &mut Xdp =
            ebpf.program_mut("drop_xdp").context("there is no drop_xdp")?.try_into()?;
        program.load()?;
        let _ = program.attach(OUT_PEER, XdpMode::Driver).context("attaching drop_xdp")?;
        Ok(Self { _ebpf: ebpf })
    }
}

/// Measures both families, whose flows of drivers are in the tables.
pub(crate) fn run(
    args: &Args,
    (v4, v6): (&mut Stand<V4>, &mut Stand<V6>),
    figures: &mut Figures,
) -> Result<()> {
    if !NAME.contains(&args.only) {
        return Ok(());
    }
    let mut contests: [Box<dyn Contest>; 2] =
        [Box::new(Live::new(args, v4)?), Box::new(Live::new(args, v6)?)];
    turns::measure(args, NAME, &mut contests, figures)
}

/// Packets of known flows that come by the veth: sent back by the floor, and by the proxy's program.
struct Live<'a, F: Family> {
    stand: &'a mut Stand<F>,
    packets: Packets,
    programs: [(&'static str, ProgramFd); 2],
    count: u32,
}

impl<'a, F: Family> Live<'a, F> {
    fn new(args: &Args, stand: &'a mut Stand<F>) -> Result<Self> {
        let [request, ..] = drivers::scenarios::<F>(stand.flows)?;
        let mut packets = request.packets;
        packets.recipe.frame[..OUT_MAC.len()].copy_from_slice(&OUT_MAC);
        let floor = stand.gauge.program(FLOOR)?;
        let programs = [(FLOOR, floor), (XDP, stand.subject.program(XDP)?)];
        let count = args.packets.max(stand.flows).max(FEWEST);
        Ok(Self { stand, packets, programs, count })
    }

    fn run(&mut self, number: usize) -> Result<Run> {
        let Self { stand: Stand { subject, gauge, flows, .. }, packets, programs, count } = self;
        let (name, program) = &programs[number];
        let device = if_nametoindex(OUT)?;
        // Each flow is asked for its way.
        let _ = gauge.send(program, packets, *flows, device)?;
        let (sent, arrived) = (subject.count(Reason::XdpSent)?, arrived()?);
        let run = gauge.send(program, packets, *count, device)?;
        let (sent, arrived) = (subject.count(Reason::XdpSent)? - sent, self::arrived()? - arrived);
        let wanted = u64::from(*count);
        let is_all = (wanted..=wanted + OWN).contains(&arrived);
        ensure!(is_all, "{arrived} of {wanted} frames of {name} have arrived");
        let is_own = *name != FLOOR;
        ensure!(!is_own || sent == wanted, "the proxy has sent {sent} of {wanted} frames");
        Ok(run)
    }
}

impl<F: Family> Contest for Live<'_, F> {
    fn programs(&self) -> usize {
        self.programs.len()
    }

    fn is_net(&self) -> bool {
        false
    }

    fn turn(&mut self, number: usize) -> Result<Run> {
        self.run(number)
            .with_context(|| format!("{} {NAME} at {} flows", F::NAME, self.stand.flows))
    }

    fn figure(&self, number: usize, nanoseconds: Vec<f64>) -> Figure {
        let program = self.programs[number].0;
        Figure {
            family: F::NAME,
            scenario: NAME,
            flows: self.stand.flows,
            frontends: None,
            program,
            floor: (program != FLOOR).then_some(FLOOR),
            nanoseconds,
        }
    }
}

/// How many packets have arrived at the other end of the veth.
fn arrived() -> Result<u64> {
    let devices = fs::read_to_string("/proc/thread-self/net/dev")?;
    let lines = devices.lines().filter_map(|line| line.trim().split_once(':'));
    let (_, counters) =
        { lines }.find(|(device, _)| *device == OUT_PEER).context("the veth has no other end")?;
    // Bytes received, and packets.
    Ok(counters.split_whitespace().nth(1).context("it has no counters")?.parse()?)
}
