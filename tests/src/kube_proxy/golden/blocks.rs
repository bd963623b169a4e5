// SPDX-License-Identifier: Apache-2.0
//! Rules as text, cut into blocks: one for each set, map and chain.

use std::collections::BTreeMap;

/// The lines of each block, by the table and the block's own name.
pub(super) type Blocks = BTreeMap<(String, String), Vec<String>>;

/// Reads what nft or iptables prints, or reads.
pub(super) fn of(text: &str) -> Blocks {
    let is_iptables = text.lines().any(|line| line.starts_with('*'));
    if is_iptables { of_iptables(text) } else { of_nftables(text) }
}

fn of_nftables(text: &str) -> Blocks {
    let mut blocks = Blocks::new();
    let (mut table, mut block, mut in_elements) = (String::new(), String::new(), false);
    for line in text.lines() {
        let words = line.trim();
        let elements = words.strip_prefix("elements = { ");
        if let Some(header) = words.strip_suffix(" {") {
            let is_table = header.starts_with("table");
            (table, block) =
                if is_table { (header.into(), String::new()) } else { (table, header.into()) };
            let _ = blocks.entry((table.clone(), block.clone())).or_default();
        } else if words == "}" {
            block.clear();
        } else if !words.is_empty() {
            let lines = blocks.entry((table.clone(), block.clone())).or_default();
            in_elements |= elements.is_some();
            if in_elements {
                let elements = elements.unwrap_or(words);
                in_elements = !elements.ends_with('}');
                let elements = elements.trim_end_matches('}').split(',').map(str::trim);
                lines.extend(elements.filter(|one| !one.is_empty()).map(|one| format!("= {one}")));
            } else {
                lines.push(words.to_owned());
            }
        }
    }
    for ((_, block), lines) in &mut blocks {
        if !block.starts_with("chain") {
            lines.sort();
            lines.dedup();
        }
    }
    blocks
}

fn of_iptables(text: &str) -> Blocks {
    let mut blocks = Blocks::new();
    let mut table = String::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('*') {
            name.clone_into(&mut table);
        } else if let Some(chain) = line.strip_prefix(':') {
            let (chain, policy) = chain.split_once(' ').unwrap();
            let lines = blocks.entry((table.clone(), chain.to_owned())).or_default();
            if policy != "- [0:0]" {
                lines.push(policy.to_owned());
            }
        } else if let Some(rule) = line.strip_prefix("-A ") {
            let (chain, rule) = rule.split_once(' ').unwrap();
            let key = (table.clone(), chain.to_owned());
            blocks.get_mut(&key).expect("a declared chain").push(rule.to_owned());
        } else {
            assert!(line == "COMMIT" || line.starts_with('#'), "{line}");
        }
    }
    for ((table, chain), rules) in &mut blocks {
        if chain == "KUBE-SERVICES" {
            // Only the last rule of this one has its place.
            let last = if table == "nat" { rules.pop() } else { None };
            rules.sort();
            rules.extend(last);
        }
    }
    blocks
}
