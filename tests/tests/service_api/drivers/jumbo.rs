// SPDX-License-Identifier: Apache-2.0

//! Uplinks that take jumbo frames, which are in several buffers.

use anyhow::{Context as _, Result, ensure};
use proxy_common::counter::Reason;
use proxy_tests::both_families;
use proxy_tests::family::TestFamily;
use proxy_tests::topology::DEVICE;
use proxy_tests::traffic::Client;

use super::{count, with_cards};
use crate::rig::{Frontend, REMOTE};
use crate::uplinks::nodes;

both_families!(
    large_datagrams_in_drivers,
    large_datagrams_behind_drivers,
    large_segments_in_drivers,
    large_segments_behind_drivers,
);

const MTU: u32 = 9_000;
/// What datagrams carry, in bytes: with the answer's line and all headers no more than the MTU, and most more than a
/// page.
const LENGTHS: [usize; 5] = [3_300, 4_096, 5_000, 8_000, 8_800];
/// How often each is sent.
const TIMES: usize = 20;

/// Does something with an agent in this mode where the other node serves: how many packets have left from the driver
/// meanwhile.
fn sent_by<F: TestFamily>(
    mode: &str,
    happens: impl FnOnce(&Client<'_>) -> Result<()>,
) -> Result<u64> {
    let (rig, _cards) = with_cards(nodes().mtu(MTU))?;
    rig.cluster.manifests.apply(&rig.service(&[REMOTE]))?;
    let mut agent = rig.agent().argument("--xdp").argument(format!("{mode}={DEVICE}")).start()?;
    happens(&Client::new(rig.outsider()))?;
    let sent = count::<F>(&agent, Reason::XdpSent)?;
    ensure!(agent.stop()?.success());
    Ok(sent)
}

/// They come back as they were.
fn large_datagrams<F: TestFamily>(mode: &str) -> Result<()> {
    let target = Frontend::LoadBalancer.target(F::FAMILY);
    let sent = sent_by::<F>(mode, |client| {
        let socket = client.udp_socket(target)?;
        let mut answer = vec![0; 65_536];
        for number in 0..TIMES {
            for length in LENGTHS {
                let question: Vec<u8> = (0..=250).cycle().skip(number).take(length).collect();
                let _: usize = socket.send(&question)?;
                let got = socket.recv(&mut answer);
                let got = got.with_context(|| format!("{length} bytes for the {number}th time"))?;
                let got = &answer[..got];
                ensure!(got.ends_with(&question), "something else than {length} bytes came back");
                let line = &got[..got.len() - length];
                ensure!(line.starts_with(REMOTE.as_bytes()), "{line:?} has answered");
            }
        }
        Ok(())
    })?;
    // The stack gets a few, and all fragments.
    let all = u64::try_from(2 * TIMES * LENGTHS.len())?;
    ensure!(sent > all - all / 10, "{sent} of {all} packets have left from the driver");
    Ok(())
}

fn large_datagrams_in_drivers<F: TestFamily>() -> Result<()> {
    large_datagrams::<F>("native")
}

fn large_datagrams_behind_drivers<F: TestFamily>() -> Result<()> {
    large_datagrams::<F>("generic")
}

/// A connection with much to say, in segments that are as large as its ends can have them.
fn large_segments<F: TestFamily>(mode: &str) -> Result<()> {
    const LENGTH: u64 = 8 << 20;
    let target = Frontend::LoadBalancer.target(F::FAMILY);
    let sent = sent_by::<F>(mode, |client| Ok(client.transfer(target, usize::try_from(LENGTH)?)?))?;
    ensure!(sent > 2 * LENGTH / u64::from(MTU), "{sent} packets have left from the driver");
    // No more than half of them are acknowledgements alone.
    ensure!(sent < 2 * LENGTH / 3_000, "{sent} packets are too many for large segments");
    Ok(())
}

fn large_segments_in_drivers<F: TestFamily>() -> Result<()> {
    large_segments::<F>("native")
}

fn large_segments_behind_drivers<F: TestFamily>() -> Result<()> {
    large_segments::<F>("generic")
}
