// SPDX-License-Identifier: Apache-2.0

//! The fast path is refused where netfilter may drop what is forwarded, and nowhere else.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::process::Output;

use anyhow::{Context as _, Result, ensure};
use flate2::read::GzDecoder;
use proxy_agent::fast_path;
use proxy_tests::agent::cgroup_root;
use proxy_tests::both_families;
use proxy_tests::cluster::{Cluster, PORT, WEB};
use proxy_tests::family::{IpFamily, TestFamily};
use proxy_tests::netns::Namespace;
use proxy_tests::protocol::Protocol;
use proxy_tests::scratch::Scratch;
use proxy_tests::topology::NodeSpec;
use proxy_tests::traffic::Client;

use super::lifecycle::binary;

both_families!(
    rules_of_nftables_are_followed,
    rules_of_iptables_are_followed,
    tables_of_legacy_iptables_are_found,
    the_rules_of_kube_proxy_are_found,
    the_agent_refuses_and_can_be_forced,
);

/// What nftables calls a family.
fn table<F: TestFamily>() -> &'static str {
    if F::FAMILY == IpFamily::V4 { "ip" } else { "ip6" }
}

/// `iptables` or `ip6tables`, with an ending.
fn iptables<F: TestFamily>(ending: &str) -> String {
    format!("{}tables-{ending}", table::<F>())
}

fn found(namespace: &Namespace) -> Result<Vec<String>> {
    namespace.run(|| Ok(fast_path::may_drop()?.iter().map(ToString::to_string).collect()))
}

/// Loads rules in the place of those that a namespace has, and compares what is found.
fn expect(namespace: &Namespace, rules: &str, expected: &[&str]) -> Result<()> {
    let text = format!("flush ruleset\n{rules}");
    let _: String = namespace.output("nft", "-f -", &text).context(text)?;
    let found = found(namespace)?;
    ensure!(found == expected, "{rules}\n{found:?} and not {expected:?}");
    Ok(())
}

fn rules_of_nftables_are_followed<F: TestFamily>() -> Result<()> {
    let node = Namespace::new("node")?;
    ensure!(found(&node)?.is_empty(), "a new namespace has no rules");
    for family in [table::<F>(), "inet"] {
        let base = |hook: &str, rest: &str| {
            format!("chain base {{ type filter hook {hook} priority 0; {rest}\n}}")
        };
        let forward = base("forward", "meta mark 1 jump own;");
        let case = |chains: &[&str], end: Option<&str>| {
            let rules = format!("table {family} t {{\n{}\n}}", chains.join("\n"));
            let end = end.map(|end| format!("chain {family} t {end}"));
            let expected: Vec<_> = end.iter().map(String::as_str).collect();
            expect(&node, &rules, &expected)
        };
        case(&[&base("forward", "accept;")], None)?;
        case(&["chain own { accept; }", &forward], None)?;
        for hook in ["input", "output"] {
            case(&["chain own { drop; }", &base(hook, "policy drop; jump own;")], None)?;
        }
        for hook in ["prerouting", "forward", "postrouting"] {
            case(&[&base(hook, "policy drop; accept;")], Some("base: policy drop"))?;
            case(&[&base(hook, "meta mark 1 drop;")], Some("base: drop"))?;
        }
        case(&["chain own { drop; }", &forward], Some("own: drop"))?;
        case(&["chain own { reject; }", &forward], Some("own: reject"))?;
        let deep = "chain deep { drop; }\nchain own { goto deep; }";
        case(&[deep, &forward], Some("deep: drop"))?;
        case(&["chain own { drop; }", &base("forward", "accept;")], None)?;
        let known =
            |invalid: &str| format!("ct state vmap {{ new : accept, invalid : {invalid} }};");
        case(&[&base("forward", &known("drop"))], Some("base: drop"))?;
        case(&[&base("forward", &known("continue"))], None)?;
        let own = "chain own { drop; }";
        case(&[own, &base("forward", &known("jump own"))], Some("own: drop"))?;
        let map = "map m { type mark : verdict; }";
        case(&[own, map, &base("forward", "meta mark vmap @m;")], None)?;
        let map = "map m { type mark : verdict; elements = { 1 : goto own } }";
        case(&[own, map, &base("forward", "meta mark vmap @m;")], Some("own: drop"))?;
        case(&[own, map, &base("forward", "accept;")], None)?;
    }
    Ok(())
}

#[test]
fn rules_of_devices_and_of_frames_are_followed() -> Result<()> {
    let node = Namespace::new("node")?;
    for (hook, verdict) in [("ingress", "drop"), ("egress", "drop"), ("ingress", "accept")] {
        let rules = format!(
            "table netdev t {{ chain c {{ type filter hook {hook} device lo priority 0; \
             {verdict};\n}}\n}}"
        );
        let end = (verdict == "drop").then_some("chain netdev t c: drop");
        expect(&node, &rules, &Vec::from_iter(end))?;
    }
    let inet =
        "table inet t { chain c { type filter hook ingress device lo priority 0; drop;\n}\n}";
    expect(&node, inet, &["chain inet t c: drop"])?;
    for (hook, found) in [("forward", true), ("input", false)] {
        let rules = format!(
            "table bridge t {{ chain c {{ type filter hook {hook} priority 0; policy drop;\n}}\n}}"
        );
        let end = found.then_some("chain bridge t c: policy drop");
        expect(&node, &rules, &Vec::from_iter(end))?;
    }
    let arp = "table arp t { chain c { type filter hook input priority 0; policy drop;\n}\n}";
    expect(&node, arp, &[])
}

fn rules_of_iptables_are_followed<F: TestFamily>() -> Result<()> {
    let (program, family) = (iptables::<F>("nft"), table::<F>());
    for (lines, end) in [
        (&["-A FORWARD -p tcp -j ACCEPT"][..], None),
        (&["-P INPUT DROP", "-A OUTPUT -p tcp -j REJECT"], None),
        (&["-P FORWARD DROP"], Some("filter FORWARD: policy drop")),
        (&["-A FORWARD -p tcp -j REJECT"], Some("filter FORWARD: reject")),
        (&["-A FORWARD -p tcp -j NFQUEUE"], Some("filter FORWARD: queue")),
        (&["-t raw -A PREROUTING -p udp -j DROP"], Some("raw PREROUTING: drop")),
        (&["-N OWN", "-A OWN -j DROP", "-A INPUT -j OWN"], None),
        (&["-N OWN", "-A OWN -j DROP", "-A FORWARD -j OWN"], Some("filter OWN: drop")),
        (&["-N OWN", "-A OWN -j DROP", "-A FORWARD -g OWN"], Some("filter OWN: drop")),
    ] {
        let node = Namespace::new("node")?;
        for line in lines {
            let _: String = node.output(&program, line, "")?;
        }
        let expected = Vec::from_iter(end.map(|end| format!("chain {family} {end}")));
        let found = found(&node)?;
        ensure!(found == expected, "{lines:?}: {found:?} and not {expected:?}");
    }
    Ok(())
}

fn tables_of_legacy_iptables_are_found<F: TestFamily>() -> Result<()> {
    for (line, table) in [
        ("-t nat -A POSTROUTING -j MASQUERADE", None),
        ("-A FORWARD -j ACCEPT", Some("filter")),
        ("-t raw -A PREROUTING -j DROP", Some("raw")),
    ] {
        let node = Namespace::new("node")?;
        let _: String = node.output(&iptables::<F>("legacy"), line, "")?;
        let family = self::table::<F>();
        let name = |table| format!("table {family} {table} of legacy iptables: not looked into");
        let (expected, found) = (Vec::from_iter(table.map(name)), found(&node)?);
        ensure!(found == expected, "{line}: {found:?} and not {expected:?}");
    }
    Ok(())
}

/// Rules as kube-proxy wrote them.
fn recorded(name: &str) -> Result<String> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/kube-proxy");
    let mut text = String::new();
    let _ = GzDecoder::new(File::open(directory.join(name))?).read_to_string(&mut text)?;
    Ok(text)
}

fn the_rules_of_kube_proxy_are_found<F: TestFamily>() -> Result<()> {
    let family = table::<F>();
    let node = Namespace::new("node")?;
    let rules = recorded("nftables.10.nft.gz")?;
    let _: String = node.output("nft", "-f -", &rules)?;
    let of_family = |all: Vec<String>| -> Vec<_> {
        let own = format!("chain {family} ");
        all.into_iter().filter_map(|found| Some(found.strip_prefix(&own)?.to_owned())).collect()
    };
    let nftables = of_family(found(&node)?);
    let expected = ["kube-proxy cluster-ips-check: drop", "kube-proxy reject-chain: reject"];
    ensure!(nftables == expected, "{nftables:?}");

    let node = Namespace::new("node")?;
    let rules = recorded(&format!("iptables.10.{}.gz", if family == "ip" { "v4" } else { "v6" }))?;
    // Whose counter there would have to be.
    let rules = rules.replace("-m nfacct --nfacct-name  ct_state_invalid_dropped_pkts", "");
    let _: String = node.output(&iptables::<F>("nft-restore"), "", &rules)?;
    let iptables = of_family(found(&node)?);
    let expected = ["filter KUBE-FORWARD: drop", "filter KUBE-SERVICES: reject"];
    ensure!(iptables == expected, "{iptables:?}");
    Ok(())
}

/// `sixfour run` with `--fast-path` and this value, which is to end by itself.
fn run(cluster: &Cluster, value: &str) -> Result<Output> {
    let namespace = cluster.topology.node("anc-node").host().namespace();
    let scratch = Scratch::new("fast-path")?;
    let pin_root = scratch.mount_bpffs()?.join("sixfour");
    let mut command = namespace.command(binary()?);
    let _ = command.args(["run", "--fast-path", value, "--hostname-override", "anc-node"]);
    let _ = command.arg("--manifests").arg(cluster.manifests.directory());
    let _ = command.arg("--pin-root").arg(&pin_root).args(cgroup_root(namespace)?);
    let output = namespace.run(|| Ok(command.output()?))?;
    ensure!(!pin_root.exists(), "it has been made");
    Ok(output)
}

fn the_agent_refuses_and_can_be_forced<F: TestFamily>() -> Result<()> {
    let cluster = Cluster::of(NodeSpec::routed("anc-node"))?;
    let _servers = cluster.servers(&["web-1"])?;
    cluster.serve_web(&["web-1"])?;
    let client = Client::new(cluster.topology.pod("client"));
    let is_served = || -> Result<()> {
        let answer = client.ask(Protocol::Tcp, (WEB.of(F::FAMILY), PORT).into())?;
        ensure!(answer.server == "web-1");
        Ok(())
    };
    let namespace = cluster.topology.node("anc-node").host().namespace();
    let family = table::<F>();
    let rules = |verdict: &str| {
        format!(
            "flush ruleset\ntable {family} policies {{ chain pods {{ type filter hook forward \
             priority 0; meta mark 7 {verdict};\n}}\n}}"
        )
    };

    let _: String = namespace.output("nft", "-f -", &rules("accept"))?;
    let mut agent = cluster.agent("anc-node").argument("--fast-path=on").start()?;
    ensure!(agent.log()?.contains("the fast path is on"), "{}", agent.log()?);
    is_served()?;
    ensure!(agent.stop()?.success());

    let _: String = namespace.output("nft", "-f -", &rules("drop"))?;
    let output = run(&cluster, "on")?;
    let said = String::from_utf8_lossy(&output.stderr);
    let named = format!("(chain {family} policies pods: drop)");
    ensure!(output.status.code() == Some(1), "{}: {said}", output.status);
    ensure!(said.contains(&named) && said.contains("--fast-path force"), "{said}");
    ensure!(said.trim_end().lines().count() == 1, "one sentence: {said}");

    for (value, told) in [("force", true), ("off", false)] {
        let argument = format!("--fast-path={value}");
        let mut agent = cluster.agent("anc-node").argument(argument).start()?;
        let log = agent.log()?;
        let warnings = log.lines().filter(|line| line.contains("the fast path"));
        let warnings: Vec<_> = warnings.filter(|line| line.contains("WARN")).collect();
        ensure!(warnings.len() == usize::from(told), "{value}: {warnings:?}");
        let chain = format!("chain {family} policies pods: drop");
        ensure!(warnings.iter().all(|line| line.contains(&chain)), "{warnings:?}");
        is_served()?;
        ensure!(agent.stop()?.success());
    }
    Ok(())
}
