// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What leaves the node for an address of a Service CIDR, and so has been translated by nobody. It
//! would wander about outside, and come back to a router that sends the range here.
//!
//! This stands at the egress of uplinks and tunnels: there, other proxies of the node have had
//! their chance, and pods whose device has no programs yet are covered, too.

use aya_ebpf::{bindings::BPF_F_INGRESS, maps::lpm_trie::Key, programs::TcContext};
use proxy_common::{counter::Reason, frontend::ServiceIndex, service_cidr::address_bits};

use crate::{
    blame::{self, blame},
    family::Datapath,
    flow,
    frame::{pull, read},
    open::look_up,
    packet::{Parsed, Part, tcp},
    reject,
    verdict::Verdict,
    work::Work,
};

/// Handles a frame that leaves the node, with its network header at `network`.
#[inline(never)]
pub(crate) fn run<F: Datapath>(context: &TcContext, network: usize) -> i32 {
    if !is_for_service_cidr::<F>(context, network) {
        return Verdict::Pass.to_action();
    }
    blame::decide(context, |context, work| decide::<F>(context, work, network))
}

#[inline(always)]
fn is_for_service_cidr<F: Datapath>(context: &TcContext, network: usize) -> bool {
    if pull(context, network + F::HEADER).is_none() {
        return false;
    }
    let destination = network + F::ADDRESSES + size_of::<F::Addr>();
    let destination: Option<F::Addr> = read(context, destination);
    destination.is_some_and(|destination| {
        let key = Key::new(address_bits::<F>(), destination);
        F::tables().service_cidrs.get(key).is_some()
    })
}

/// A VIP refuses what comes here, as it does at a client's device. Other addresses are nobody's,
/// and kube-proxy's nftables mode drops what goes there.
#[inline(always)]
fn decide<F: Datapath>(context: &TcContext, work: &mut Work<F>, network: usize) -> Verdict {
    let parsed = work.packet.parse(context, network);
    work.now = flow::now();
    let packet = &work.packet;
    let is_answered = match parsed {
        Parsed::Transport => packet.part != Part::LATER && packet.segment.flags & tcp::RST == 0,
        Parsed::Other => true,
        Parsed::Error | Parsed::Nothing => false,
    };
    let is_vip = look_up(packet).is_some_and(|service| service != ServiceIndex::DIRECT);
    if is_answered && is_vip {
        // Its sender is on this side: the answer comes in as if from there where it went to.
        return reject::refuse(context, work, Reason::RejectServiceCidr, BPF_F_INGRESS.into());
    }
    blame(work, Reason::DropServiceCidr);
    Verdict::Drop
}
