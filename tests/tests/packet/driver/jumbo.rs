// SPDX-License-Identifier: Apache-2.0

//! Jumbo frames, which are in several buffers: the program sees the first one only.

use anyhow::{Context as _, Result, ensure};
use proxy_common::counter::Reason;
use proxy_common::service::Policy;
use proxy_tests::both_families;

use super::{CLIENT_MAC, Flow, Node, OUT, PROTOCOLS, ROUTER_MAC, elsewhere};
use crate::programs::Verdict;
use crate::rig::Tabled;

both_families!(large_frames_leave_whole, large_frames_that_are_cut_short);

/// What packets carry, in bytes: about as much as a buffer holds, and more.
const LENGTHS: [usize; 6] = [3_300, 3_700, 4_096, 7_700, 8_000, 8_900];

/// Bytes of which no two pages are alike.
fn payload(length: usize) -> Vec<u8> {
    (0..=250).cycle().take(length).collect()
}

/// Does something on a node whose devices take jumbo frames.
fn with_jumbo_frames<F: Tabled>(
    work: impl FnOnce(&mut Node<'_, F>) -> Result<()> + Send,
) -> Result<()> {
    Node::<F>::run(&elsewhere::<F>(), Policy::default(), |node| {
        for device in ["lo", OUT] {
            node.namespace.ip(&format!("link set {device} mtu 9000"))?;
        }
        node.use_hops()?;
        work(node)
    })
}

fn large_frames_leave_whole<F: Tabled>() -> Result<()> {
    with_jumbo_frames::<F>(|node| {
        for (protocol, port) in PROTOCOLS.into_iter().zip(40_000..) {
            let flow = Flow::open(node, protocol, port)?;
            flow.is_sent(node)?;
            let before = node.rig.count(Reason::XdpSent)?;
            for (length, sent) in LENGTHS.into_iter().zip(1..) {
                let request = flow.request().payload(&payload(length));
                node.sends(&request, &flow.translated(&request), ROUTER_MAC)?;
                let reply = flow.reply().payload(&payload(length));
                node.sends(&reply, &flow.restored(&reply), CLIENT_MAC)?;
                ensure!(node.rig.count(Reason::XdpSent)? == before + 2 * sent, "not counted");
            }
        }
        Ok(())
    })
}

/// However much of it is in the first buffer.
fn large_frames_that_are_cut_short<F: Tabled>() -> Result<()> {
    with_jumbo_frames::<F>(|node| {
        for (protocol, port) in PROTOCOLS.into_iter().zip(40_000..) {
            let flow = Flow::open(node, protocol, port)?;
            flow.is_sent(node)?;
            for length in LENGTHS {
                let frame = flow.request().payload(&payload(length)).build()?;
                let cut = frame.split_last().context("a frame")?.1;
                let before = node.rig.count(Reason::XdpUpUnusual)?;
                let left = node.rig.programs.run_in_driver(cut)?;
                ensure!(left.verdict == Verdict::Pass, "{length} bytes without the last are sent");
                ensure!(left.frame == cut, "{length} bytes are changed");
                ensure!(node.rig.count(Reason::XdpUpUnusual)? == before + 1, "another reason");
            }
        }
        Ok(())
    })
}
