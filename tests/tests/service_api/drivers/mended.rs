// SPDX-License-Identifier: Apache-2.0

//! Programs that others take off drivers come back, unless somebody else's stands there.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use proxy_common::counter::Reason;
use proxy_tests::agent::Agent;
use proxy_tests::both_families;
use proxy_tests::family::TestFamily;
use proxy_tests::protocol::Protocol;
use proxy_tests::topology::DEVICE;
use proxy_tests::traffic::Client;
use serde_json::Value;

use super::stacked::refusals;
use super::{count, detach_from_drivers, with_cards};
use crate::rig::{Frontend, REMOTE};
use crate::uplinks::nodes;

both_families!(
    a_program_that_is_taken_off_comes_back,
    a_program_in_the_place_of_ours_is_nothing_mended,
);

/// How long it may take: the agent looks every ten seconds.
const MENDED: Duration = Duration::from_secs(15);

/// What the agent says that it has mended of the driver's device: what it was, and which number it has.
fn mended(agent: &Agent<'_>) -> Result<Vec<(String, u64)>> {
    let log = agent.log()?;
    let entries = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let fields = entries.map(|entry| entry["fields"].clone());
    let told = fields.filter(|fields| {
        fields["message"] == "had gone, and is there again" && fields["of"] == DEVICE
    });
    told.map(|fields| {
        let what = fields["what"].as_str().context("no text")?.to_owned();
        Ok((what, fields["mended"].as_u64().context("no number")?))
    })
    .collect()
}

fn wait(agent: &Agent<'_>, mut condition: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + MENDED;
    while !condition()? {
        ensure!(Instant::now() < deadline, "{}", agent.log()?);
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

fn a_program_that_is_taken_off_comes_back<F: TestFamily>() -> Result<()> {
    let (rig, _cards) = with_cards(nodes())?;
    rig.cluster.manifests.apply(&rig.service(&[REMOTE]))?;
    let mut agent = rig.agent().argument("--xdp").argument(format!("native={DEVICE}")).start()?;
    let target = Frontend::LoadBalancer.target(F::FAMILY);
    let client = Client::new(rig.outsider());
    let mut stream = client.stay(target)?;
    let sent = || count::<F>(&agent, Reason::XdpSent);
    for number in 1..=2 {
        detach_from_drivers(&agent)?;
        let before = sent()?;
        let _ = stream.exchange()?;
        let _ = client.ask(Protocol::Udp, target)?;
        ensure!(sent()? == before, "the program is there still");
        wait(&agent, || Ok(mended(&agent)?.len() >= number))?;
        let told = mended(&agent)?;
        let expected = ("the program in the driver".to_owned(), u64::try_from(number)?);
        ensure!(told.last() == Some(&expected), "{told:?}");
        wait(&agent, || {
            let before = sent()?;
            let _ = stream.exchange()?;
            let _ = client.ask(Protocol::Udp, target)?;
            Ok(sent()? > before)
        })
        .context("nothing leaves from the driver")?;
    }
    ensure!(agent.stop()?.success());
    Ok(())
}

fn a_program_in_the_place_of_ours_is_nothing_mended<F: TestFamily>() -> Result<()> {
    let (rig, _cards) = with_cards(nodes())?;
    rig.cluster.manifests.apply(&rig.service(&[REMOTE]))?;
    let spec = || rig.agent().argument("--xdp").argument(format!("native={DEVICE}"));
    let mut agent = spec().start()?;
    let process = agent.process().context("it runs")?;
    // Or it may look between the two.
    process.signal(Signal::SIGSTOP)?;
    detach_from_drivers(&agent)?;
    let somebody = spec().start();
    process.signal(Signal::SIGCONT)?;
    let mut somebody = somebody?;
    wait(&agent, || Ok(!refusals(&agent)?.is_empty()))?;
    let refused = refusals(&agent)?;
    ensure!(refused.len() == 1 && refused[0].0 == DEVICE, "{refused:?}");
    // It would have been told right after.
    let said = "packets are handled in the driver no more";
    ensure!(agent.log()?.contains(said), "{}", agent.log()?);
    thread::sleep(Duration::from_millis(200));
    ensure!(mended(&agent)?.is_empty(), "{}", agent.log()?);
    let _ =
        Client::new(rig.outsider()).ask(Protocol::Tcp, Frontend::LoadBalancer.target(F::FAMILY))?;
    ensure!(somebody.stop()?.success());
    ensure!(agent.stop()?.success());
    Ok(())
}
