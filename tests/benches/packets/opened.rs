// SPDX-License-Identifier: Apache-2.0

//! The flows that a run has opened. They are forgotten after it, or each run would find a fuller table than the one
//! before, until there is no room: the proxy makes some, floors do not.

use std::net::SocketAddr;
use std::ops::Range;

use anyhow::Result;
use aya::maps::{Array, HashMap, MapData, MapError};
use proxy_common::flow::{Flow, FlowKey, Hook, PLACES, Tuple, Waiting};
use proxy_common::gauge::Recipe;
use proxy_common::{Family, Protocol};

use crate::peers::{address, client_of, port};

/// The most of a run: few enough for each to have a place of its own among the half-open ones.
pub(crate) const MOST: u32 = PLACES / 4;

/// Removes the entries of flows that a recipe's clients have opened to the frontends that they ask.
pub(crate) fn forget<F: Family>(
    flows: &mut HashMap<MapData, FlowKey<F>, Flow<F>>,
    recipe: &Recipe,
    frontend: impl Fn(u32) -> SocketAddr,
    clients: Range<u32>,
) -> Result<()> {
    for number in clients {
        let (source, frontend) = (client_of::<F>(recipe, number), frontend(number));
        let tuple = Tuple {
            source: address::<F>(source),
            destination: address::<F>(frontend),
            source_port: port(source),
            destination_port: port(frontend),
        };
        let own = FlowKey::new(tuple, Protocol::TCP, Hook::INGRESS);
        match flows.get(&own, 0) {
            Ok(flow) => {
                let hook = flow.kind.reply_hook();
                flows.remove(&FlowKey::new(flow.to.reversed(), Protocol::TCP, hook))?;
                flows.remove(&own)?;
            }
            Err(MapError::KeyNotFound) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Gives up all places of half-open flows.
pub(crate) fn vacate<F: Family>(places: &mut Array<MapData, Waiting<F>>) -> Result<()> {
    for place in 0..PLACES {
        let row = Waiting { is_taken: 0, ..places.get(&place, 0)? };
        places.set(place, row, 0)?;
    }
    Ok(())
}
