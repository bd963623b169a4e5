// SPDX-License-Identifier: Apache-2.0

//! What network plugins and policies put into the netfilter of a node.

use anyhow::{Context as _, Result};
use proxy_tests::netns::Namespace;
use proxy_tests::topology::{DEVICE, POD_BRIDGE, VXLAN_DEVICE};
use serde_json::Value;

/// All pods of the cluster.
const PODS: [&str; 2] = ["ip {} 10.244.0.0/16", "ip6 {} fd00:10:244::/56"];

/// What may be forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Policy {
    /// Everything.
    Accept,
    /// What comes from devices of pods, from other nodes' pods, and answers.
    Devices,
    /// What comes from addresses of pods, and answers.
    Addresses,
    /// As with addresses, but each connection must begin under the eyes of the rules.
    Beginnings,
}

/// The rules of a node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// For people.
    pub(crate) name: &'static str,
    drop_invalid: bool,
    policy: Policy,
    /// Whether a packet must come by the device that leads back to its source, as with firewalld.
    reverse_path: bool,
    /// Whether pods have the node's address for whom is no pod.
    pub(crate) masquerade: bool,
}

/// None.
pub(crate) const NONE: Rules = Rules {
    name: "no rules",
    drop_invalid: false,
    policy: Policy::Accept,
    reverse_path: false,
    masquerade: true,
};

/// All at once.
pub(crate) const WORST: Rules = Rules {
    name: "from their beginning",
    drop_invalid: true,
    policy: Policy::Beginnings,
    reverse_path: true,
    masquerade: true,
};

/// From none to the worst.
pub(crate) const ALL: [Rules; 5] = [
    NONE,
    Rules { name: "INVALID dropped", drop_invalid: true, masquerade: false, ..NONE },
    Rules { name: "by device", policy: Policy::Devices, ..NONE },
    Rules { name: "by address", policy: Policy::Addresses, ..WORST },
    WORST,
];

/// How many packets the rules have met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Forwarded ones.
    pub(crate) forwarded: u64,
    /// Of TCP and UDP, dropped since they came by the wrong device.
    pub(crate) astray: u64,
    /// Dropped since no connection is known that they belong to.
    pub(crate) invalid: u64,
    /// Of TCP and UDP, dropped since nothing accepts them.
    pub(crate) refused: u64,
}

impl Rules {
    fn text(self) -> String {
        let both = |what: &str| PODS.map(|pods| pods.replace("{}", what));
        let mut forward = Vec::new();
        forward.push("counter name forwarded".to_owned());
        if self.drop_invalid {
            forward.push("ct state invalid counter name invalid drop".to_owned());
        }
        let accepts = |matches: &str| format!("{matches} accept");
        match self.policy {
            Policy::Accept => {}
            Policy::Devices => {
                let pods = format!("{{ \"{POD_BRIDGE}\", \"veth-*\" }}");
                let others = format!("iifname {{ \"{DEVICE}\", \"{VXLAN_DEVICE}\" }}");
                forward.push(accepts(&format!("iifname {pods}")));
                forward.push(accepts(&format!("oifname {pods} ct state established,related")));
                forward.extend(both("saddr").map(|pods| accepts(&format!("{others} {pods}"))));
            }
            Policy::Addresses => {
                forward.extend(both("saddr").map(|pods| accepts(&pods)));
                let answers = |pods| accepts(&format!("{pods} ct state established,related"));
                forward.extend(both("daddr").map(answers));
            }
            Policy::Beginnings => {
                forward.push(accepts("ct state established,related"));
                // Neighbour discovery on a bridge whose packets pass here.
                forward.push(accepts("meta l4proto icmpv6 ct state untracked"));
                forward.extend(both("saddr").map(|pods| accepts(&format!("{pods} ct state new"))));
            }
        }
        let mut policy = "accept";
        if self.policy != Policy::Accept {
            // Bridges also have the neighbour discovery of link-local addresses pass here.
            forward.push("meta l4proto { tcp, udp } counter name refused".to_owned());
            policy = "drop";
        }
        let reverse_path = if self.reverse_path {
            "meta l4proto { tcp, udp } fib saddr . iif oif missing counter name astray drop"
        } else {
            ""
        };
        let masquerade = if self.masquerade {
            let [v4, v6] = both("saddr");
            let [not_v4, not_v6] = both("daddr !=");
            format!("{v4} {not_v4} masquerade\n{v6} {not_v6} masquerade")
        } else {
            String::new()
        };
        format!(
            "table inet plugin {{
                counter astray {{ }}
                counter forwarded {{ }}
                counter invalid {{ }}
                counter refused {{ }}
                chain prerouting {{
                    type filter hook prerouting priority raw; policy accept;
                    {reverse_path}
                }}
                chain forward {{
                    type filter hook forward priority filter; policy {policy};
                    {}
                }}
                chain postrouting {{
                    type nat hook postrouting priority srcnat; policy accept;
                    {masquerade}
                }}
            }}",
            forward.join("\n")
        )
    }

    /// Puts them in the place of those that a node has.
    pub(crate) fn apply(self, node: &Namespace) -> Result<()> {
        let text = format!("flush ruleset\n{}", self.text());
        let _: String = node.output("nft", "-f -", &text)?;
        Ok(())
    }
}

/// What the rules of a node have counted since they were applied.
pub(crate) fn counts(node: &Namespace) -> Result<Counts> {
    let output = node.output("nft", "-j list counters", "")?;
    let all: Value = serde_json::from_str(&output).context("what nft says")?;
    let of = |name: &str| {
        let entries = all["nftables"].as_array();
        let mut counters = entries.into_iter().flatten().map(|entry| &entry["counter"]);
        let found = counters.find(|counter| counter["name"] == name);
        found.and_then(|counter| counter["packets"].as_u64()).context("a counter is missing")
    };
    Ok(Counts {
        astray: of("astray")?,
        forwarded: of("forwarded")?,
        invalid: of("invalid")?,
        refused: of("refused")?,
    })
}

impl Counts {
    /// Whether the rules have dropped anything that they are to let pass.
    pub(crate) fn has_drops(self) -> bool {
        self.astray + self.invalid + self.refused > 0
    }
}
