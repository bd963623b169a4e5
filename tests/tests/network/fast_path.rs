// SPDX-License-Identifier: Apache-2.0

//! Which rules keep the fast path off: those that drop or translate what is forwarded, and no others.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use flate2::read::GzDecoder;
use proxy_agent::fast_path;
use proxy_tests::both_families;
use proxy_tests::family::{IpFamily, TestFamily};
use proxy_tests::netns::Namespace;

both_families!(
    rules_of_nftables_are_followed,
    rules_that_translate_are_found,
    rules_of_iptables_are_followed,
    tables_of_legacy_iptables_are_found,
    the_rules_of_kube_proxy_are_found,
    policies_of_ipsec_are_found,
);

/// What nftables calls a family.
pub(super) fn table<F: TestFamily>() -> &'static str {
    if F::FAMILY == IpFamily::V4 { "ip" } else { "ip6" }
}

/// `iptables` or `ip6tables`, with an ending.
pub(super) fn iptables<F: TestFamily>(ending: &str) -> String {
    format!("{}tables-{ending}", table::<F>())
}

fn found(namespace: &Namespace) -> Result<Vec<String>> {
    namespace.run(|| Ok(fast_path::look()?.iter().map(ToString::to_string).collect()))
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

fn rules_that_translate_are_found<F: TestFamily>() -> Result<()> {
    let node = Namespace::new("node")?;
    let family = table::<F>();
    let ip = family;
    let address = if F::FAMILY == IpFamily::V4 { "192.0.2.1" } else { "2001:db8::1" };
    let snat = format!("snat {ip} to {address}");
    let dnat = format!("dnat {ip} to {address}");
    let set = format!("{ip} daddr set {address}");
    let sets = "sets an address or a port";
    for (base, rule, action) in [
        ("nat hook postrouting", "masquerade", Some("masquerade")),
        ("nat hook postrouting", snat.as_str(), Some("snat")),
        ("nat hook prerouting", &dnat, Some("dnat")),
        ("nat hook prerouting", "redirect", Some("redirect")),
        ("nat hook output", &dnat, None),
        ("filter hook prerouting", "meta l4proto tcp tproxy to :1", Some("tproxy")),
        ("filter hook forward", "meta l4proto tcp synproxy mss 1460", Some("synproxy")),
        ("filter hook forward", &set, Some(sets)),
        ("filter hook forward", "tcp dport set 1", Some(sets)),
        ("filter hook forward", "meta mark set 1", None),
        ("filter hook forward", "tcp option maxseg size set 1400", None),
    ] {
        for family in [family, "inet"] {
            let chain = format!("chain c {{ type {base} priority 0; meta mark 1 {rule};\n}}");
            let found = action.map(|action| format!("chain {family} t c: {action}"));
            let found: Vec<_> = found.iter().map(String::as_str).collect();
            expect(&node, &format!("table {family} t {{ {chain}\n}}"), &found)?;
        }
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
    let fwd = "table netdev t { chain c { type filter hook ingress device lo priority 0; fwd to lo;\n}\n}";
    expect(&node, fwd, &["chain netdev t c: fwd"])?;
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
        (&["-t nat -A POSTROUTING -j MASQUERADE"], Some("nat POSTROUTING: masquerade")),
        (&["-t nat -A PREROUTING -p tcp -j REDIRECT"], Some("nat PREROUTING: redirect")),
        (&["-t nat -A OUTPUT -p tcp -j REDIRECT"], None),
        (&["-t mangle -A PREROUTING -j MARK --set-mark 1"], None),
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
        ("-t nat -A POSTROUTING -j MASQUERADE", "nat"),
        ("-A FORWARD -j ACCEPT", "filter"),
        ("-t raw -A PREROUTING -j DROP", "raw"),
    ] {
        let node = Namespace::new("node")?;
        let _: String = node.output(&iptables::<F>("legacy"), line, "")?;
        let family = self::table::<F>();
        let expected = format!("table {family} {table} of legacy iptables: not looked into");
        let found = found(&node)?;
        ensure!(found == [expected], "{line}: {found:?}");
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
    // Beside these, those of the endpoints.
    let has = |all: &[String], expected: &[&str]| {
        let missing = expected.iter().find(|line| !all.iter().any(|found| found == *line));
        ensure!(missing.is_none(), "{missing:?} is not in {all:?}");
        let dnat = all.iter().filter(|found| found.ends_with(": dnat")).count();
        ensure!(dnat >= 10, "{dnat} rules of endpoints: {all:?}");
        Ok(())
    };
    has(
        &nftables,
        &[
            "kube-proxy cluster-ips-check: drop",
            "kube-proxy masquerading: masquerade",
            "kube-proxy reject-chain: reject",
        ],
    )?;

    let node = Namespace::new("node")?;
    let rules = recorded(&format!("iptables.10.{}.gz", if family == "ip" { "v4" } else { "v6" }))?;
    // Whose counter there would have to be.
    let rules = rules.replace("-m nfacct --nfacct-name  ct_state_invalid_dropped_pkts", "");
    let _: String = node.output(&iptables::<F>("nft-restore"), "", &rules)?;
    let iptables = of_family(found(&node)?);
    has(
        &iptables,
        &[
            "filter KUBE-FORWARD: drop",
            "filter KUBE-SERVICES: reject",
            "nat KUBE-POSTROUTING: masquerade",
        ],
    )
}

fn policies_of_ipsec_are_found<F: TestFamily>() -> Result<()> {
    let v4 = F::FAMILY == IpFamily::V4;
    let (from, to) =
        if v4 { ("192.0.2.1", "198.51.100.1") } else { ("2001:db8::1", "2001:db8::2") };
    let policy = |direction: &str, rest: &str| {
        format!("xfrm policy add src {from} dst {to} dir {direction} {rest}")
    };
    let template = format!("tmpl src {from} dst {to} proto esp mode tunnel");
    for (direction, rest, expected) in [
        ("out", template.as_str(), Some("IPsec policies out: 1")),
        ("fwd", &template, Some("IPsec policies fwd: 1")),
        ("out", "action block", Some("IPsec policies out: 1")),
        ("in", &template, None),
        ("out", "action allow", None),
    ] {
        let node = Namespace::new("node")?;
        let _: String = node.output("ip", &policy(direction, rest), "")?;
        let found = found(&node)?;
        ensure!(found == Vec::from_iter(expected), "{direction} {rest}: {found:?}");
    }
    Ok(())
}
