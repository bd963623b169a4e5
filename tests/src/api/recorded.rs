// SPDX-License-Identifier: Apache-2.0

//! What a real kube-apiserver has sent: lists, and what changed after them.

use anyhow::{Context as _, Result};
use serde_json::Value;

/// Services, EndpointSlices, Nodes and Service CIDRs, at version 586.
pub const LISTS: [&str; 4] = [
    include_str!("../../fixtures/api/services.list.json"),
    include_str!("../../fixtures/api/endpointslices.list.json"),
    include_str!("../../fixtures/api/nodes.list.json"),
    include_str!("../../fixtures/api/servicecidrs.list.json"),
];

/// The version of the lists (that of Service CIDRs was taken later).
pub const REVISION: u64 = 586;

/// The Node that a kube-proxy ran on.
pub const NODE: &str = "anc-node";

/// The event by which a stream ends whose version is gone.
pub const GONE: &str = include_str!("../../fixtures/watch/services.410.jsonl");

/// Streams from the lists' version on, without selectors.
const STREAMS: [&str; 2] = [
    include_str!("../../fixtures/watch/services.from-586.jsonl"),
    include_str!("../../fixtures/watch/endpointslices.from-586.jsonl"),
];

/// The events after the lists, in the order in which things happened.
pub fn events() -> Result<Vec<Value>> {
    let mut events = Vec::new();
    for line in STREAMS.iter().flat_map(|stream| stream.lines()) {
        let event: Value = serde_json::from_str(line).context("a recorded event")?;
        if event["type"] != "BOOKMARK" {
            let version = event["object"]["metadata"]["resourceVersion"].as_str();
            let version: u64 = version.context("a version")?.parse()?;
            events.push((version, event));
        }
    }
    events.sort_by_key(|(version, _)| *version);
    Ok(events.into_iter().map(|(_, event)| event).collect())
}
