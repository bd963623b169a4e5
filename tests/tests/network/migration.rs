// SPDX-License-Identifier: Apache-2.0

//! A node that kube-proxy serves is moved to Sixfour, with all that goes on on it.

use std::io::ErrorKind;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use proxy_tests::both_families;
use proxy_tests::cluster::WEB;
use proxy_tests::family::TestFamily;
use proxy_tests::protocol::Protocol;
use proxy_tests::topology::{NodeSpec, pod_device};
use proxy_tests::traffic::{Client, CountedStream, DatagramSocket};

mod back;
mod rig;

use rig::{CLIENT, Kind, LATE, ONE, Rig, Sent, vip};

both_families!(
    from_nftables,
    from_iptables,
    from_legacy_iptables,
    what_comes_before_the_programs_does_not_leave,
);

/// What clients send from ports that stay the same.
const SAME: [Sent; 3] =
    [(Protocol::Tcp, 40_080, ONE), (Protocol::Udp, 40_053, WEB), (Protocol::Udp, 40_054, ONE)];

/// Longer than it takes the agent to look twice.
const TWO_LOOKS: Duration = Duration::from_secs(30);

/// Long enough for an answer, and short enough to wait for none.
const BRIEFLY: Duration = Duration::from_millis(300);

/// What the agent says of rules, of connections without rules, and of neither.
const RULES: &str = "kube-proxy's rules are here: connections that are not known are left to them";
const LEFT: &str = "kube-proxy's rules are gone, and connections of theirs are left to the kernel's connection tracking";
const OVER: &str =
    "no connections of another proxy are left: what is amid one that is not known is refused";

fn from_nftables<F: TestFamily>() -> Result<()> {
    moves::<F>(NodeSpec::routed("anc-node"), Kind::Nftables)
}

fn from_iptables<F: TestFamily>() -> Result<()> {
    moves::<F>(NodeSpec::bridge_with_netfilter("anc-node"), Kind::Iptables)
}

fn from_legacy_iptables<F: TestFamily>() -> Result<()> {
    moves::<F>(NodeSpec::routed("anc-node"), Kind::LegacyIptables)
}

/// What goes on from before.
struct Old {
    streams: Vec<CountedStream>,
    datagrams: Vec<DatagramSocket>,
}

impl Old {
    /// Long connections, and sockets that send datagrams from ports of their own, to a Service with several
    /// endpoints and to one with a single one: there, new flows have the old ones' backend.
    fn begin<F: TestFamily>(client: Client<'_>) -> Result<Self> {
        let mut streams = Vec::new();
        for address in [WEB, WEB, WEB, ONE] {
            streams.push(client.stay(vip::<F>(address))?);
        }
        let [_, udp @ ..] = SAME;
        let mut datagrams = Vec::new();
        for (_, port, to) in udp {
            let mut socket = client.source_port(port).datagrams(vip::<F>(to))?;
            let _ = socket.ask()?;
            datagrams.push(socket);
        }
        Ok(Self { streams, datagrams })
    }

    /// Each has an answer.
    fn goes_on(&mut self) -> Result<()> {
        for stream in &mut self.streams {
            let _ = stream.exchange().with_context(|| format!("to {}", stream.server()))?;
        }
        for socket in &mut self.datagrams {
            let answer = socket.ask().context("a datagram")?;
            ensure!(answer.peer == socket.peer()?, "{answer:?}");
        }
        Ok(())
    }
}

/// Does something again and again, at least once.
fn again_until(is_over: &AtomicBool, mut each: impl FnMut() -> Result<()>) -> Result<()> {
    loop {
        each()?;
        if is_over.load(Ordering::Relaxed) {
            return Ok(());
        }
    }
}

fn moves<F: TestFamily>(node: NodeSpec, kind: Kind) -> Result<()> {
    let rig = Rig::<F>::new(node, kind)?;
    let client = Client::new(rig.cluster.topology.pod(CLIENT));
    let mut old = Old::begin::<F>(client)?;
    let [(_, port, to), ..] = SAME;
    let same = client.source_port(port);
    let ended = same.stay(vip::<F>(to))?;
    for sent in SAME {
        ensure!(rig.translates(sent)?, "{sent:?} not by kube-proxy's rules");
    }

    // Nothing is missed while the agent comes.
    let is_over = AtomicBool::new(false);
    let agent = thread::scope(|scope| {
        let steady = scope.spawn(|| again_until(&is_over, || old.goes_on()));
        let short = scope.spawn(|| {
            again_until(&is_over, || {
                let _ = client.ask(Protocol::Tcp, vip::<F>(WEB)).context("a short connection")?;
                client.ask(Protocol::Udp, vip::<F>(WEB)).context("a short exchange").map(drop)
            })
        });
        let agent = rig.cluster.agent("anc-node").start();
        thread::sleep(BRIEFLY);
        is_over.store(true, Ordering::Relaxed);
        for traffic in [steady, short] {
            traffic.join().map_err(|_| anyhow!("a client has panicked"))??;
        }
        agent
    });
    let mut agent = agent?;
    agent.wait_for(RULES, TWO_LOOKS)?;

    // What is new is Sixfour's, with the same ports and, of one Service, the same backend.
    drop(ended);
    let mut new = same.stay(vip::<F>(to))?;
    old.goes_on()?;
    let flows = agent.list("flows")?.to_string();
    for sent in SAME {
        ensure!(flows.contains(&format!(":{}\"", sent.1)), "{sent:?}: {flows}");
        rig.forget(sent).context("what was translated before was remembered until now")?;
    }
    old.goes_on()?;
    let _ = new.exchange()?;
    for sent in SAME {
        ensure!(!rig.translates(sent)?, "{sent:?} by kube-proxy's rules still");
    }

    // Connections are left without rules, as long as connection tracking translates.
    rig.keep_translating()?;
    rig.remove_rules()?;
    agent.wait_for(LEFT, TWO_LOOKS)?;
    old.goes_on()?;
    let _ = new.exchange()?;

    // One is forgotten, which its client cannot know, and the others end.
    let mut forgotten = old.streams.pop().context("a connection")?;
    rig.forget((Protocol::Tcp, forgotten.local()?.port(), ONE))?;
    old.streams.clear();
    agent.wait_for(OVER, TWO_LOOKS)?;
    let reset = forgotten.exchange().expect_err("nobody knows it");
    ensure!(reset.kind() == ErrorKind::ConnectionReset, "{reset}");
    let _ = new.exchange()?;
    old.goes_on()?;
    ensure!(agent.stop()?.success());
    Ok(())
}

/// Between a pod's first packet and the moment at which its device gets programs, kube-proxy's rules translate as long
/// as they are there, and then nothing leaves: the nodes' gateway has the cluster IP, and would refuse.
fn what_comes_before_the_programs_does_not_leave<F: TestFamily>() -> Result<()> {
    let rig = Rig::<F>::new(NodeSpec::routed("anc-node").pod(LATE, 30), Kind::Nftables)?;
    rig.cluster.topology.give_gateway(WEB)?;
    let exclude = format!("--exclude-device={}", pod_device(LATE));
    let mut agent = rig.cluster.agent("anc-node").argument(exclude).start()?;
    let late = Client::new(rig.cluster.topology.pod(LATE));
    let mut stream = late.stay(vip::<F>(WEB))?;
    let _ = late.ask(Protocol::Udp, vip::<F>(WEB))?;
    rig.keep_translating()?;
    rig.remove_rules()?;
    let _ = stream.exchange()?;
    for protocol in Protocol::OF_SOCKETS {
        let asked = late.patience(BRIEFLY).ask(protocol, vip::<F>(WEB));
        let failure = asked.expect_err("nobody translates it");
        ensure!(failure.is_timeout(), "{protocol} gets out: {failure}");
    }
    ensure!(agent.log()?.contains("drop-service-cidr"), "nobody says so");
    ensure!(agent.stop()?.success());
    // It is the gateway that would refuse.
    let failure = late.ask(Protocol::Tcp, vip::<F>(WEB)).expect_err("nobody serves it");
    ensure!(failure.is_refusal(), "{failure}");
    Ok(())
}
