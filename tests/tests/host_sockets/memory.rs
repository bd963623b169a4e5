// SPDX-License-Identifier: Apache-2.0

//! Sockets for which the kernel has no memory left (`net.core.optmem_max`, which network namespaces have to themselves
//! since Linux 6.8).

use anyhow::{Context as _, Result, ensure};
use nix::libc::ENOBUFS;
use proxy_common::counter::Reason;
use proxy_tests::both_families;
use proxy_tests::cluster::WEB;
use proxy_tests::family::TestFamily;

use super::rig::{NODE, PODS, Rig, Way, count, target};

both_families!(a_udp_socket_without_memory_is_refused_and_counted);

fn a_udp_socket_without_memory_is_refused_and_counted<F: TestFamily>() -> Result<()> {
    let rig = Rig::new()?;
    rig.cluster.serve_web(&PODS[..2])?;
    let mut agent = rig.agent()?;
    let (client, at) = (rig.client(), target::<F>(WEB));
    let mut stream = client.stay(at)?;
    let mut connected = client.datagrams(at)?;
    let mut unconnected = client.unconnected(F::FAMILY)?;
    let _ = (stream.exchange()?, connected.ask()?, unconnected.ask_at(at)?);
    let memory = |bytes| rig.node(NODE).namespace().sysctl([("core/optmem_max", bytes)]);
    memory("0")?;
    // A TCP connection goes without: its process only sees the backend as its peer.
    let answer = Way::Stream.ask(&client, at)?;
    ensure!(PODS[..2].contains(&answer.server.as_str()), "{answer:?}");
    for (number, way) in [(1, Way::Connected), (2, Way::Unconnected)] {
        let failure = way.ask(&client, at).err().with_context(|| format!("{way:?} is served"))?;
        ensure!(failure.error.raw_os_error() == Some(ENOBUFS), "{way:?}: {failure}");
        ensure!(count::<F>(&agent, Reason::DropSocketMemory)? == number, "{way:?}");
    }
    // Who has some goes on, and who asks nobody of ours needs none.
    let _ = (stream.exchange()?, connected.ask()?, unconnected.ask_at(at)?);
    for way in Way::ALL {
        let _ = way.ask(&client, rig.pod(PODS[0]).socket::<F>(proxy_tests::cluster::TARGET))?;
    }
    memory("131072")?;
    for way in Way::ALL {
        let _ = way.ask(&client, at)?;
    }
    ensure!(count::<F>(&agent, Reason::DropSocketMemory)? == 2);
    ensure!(agent.stop()?.success());
    Ok(())
}
