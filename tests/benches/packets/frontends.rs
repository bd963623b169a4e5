// SPDX-License-Identifier: Apache-2.0

//! The same in drivers with few frontends and with many, all of which are asked: each size has tables of its own, and
//! all sizes are measured in the same rounds.

use std::net::SocketAddr;

use anyhow::Result;
use proxy_common::backend::{Backend, BackendId};
use proxy_common::frontend::ServiceIndex;
use proxy_common::{Family, V4, V6};

use crate::Args;
use crate::drivers;
use crate::figures::Figures;
use crate::peers::{address, endpoint_of, last_word, one_of_many, port};
use crate::scenario::Scenario;
use crate::stand::Stand;
use crate::turns::{self, Contest};

/// Endpoints of each Service.
const ENDPOINTS: u32 = 10;

/// Measures all scenarios of both families with each number of frontends.
pub(crate) fn run(args: &Args, figures: &mut Figures) -> Result<()> {
    let names = scenarios::<V4>(1, 1)?.map(|scenario| scenario.name);
    // As many flows at all sizes, and each frontend of the largest has one.
    let Some(most) = args.frontends.iter().max() else { return Ok(()) };
    if names.iter().all(|name| !name.contains(&args.only)) {
        return Ok(());
    }
    let flows = most.next_power_of_two();
    let mut v4 = stands::<V4>(args, flows)?;
    let mut v6 = stands::<V6>(args, flows)?;
    for (place, name) in names.into_iter().enumerate() {
        if name.contains(&args.only) {
            let mut contests = prepare(args, &mut v4, place)?;
            contests.extend(prepare(args, &mut v6, place)?);
            turns::measure(args, name, &mut contests, figures)?;
        }
    }
    Ok(())
}

/// The tables with each number of frontends.
fn stands<F: Family>(args: &Args, flows: u32) -> Result<Vec<(u32, Stand<F>)>> {
    let stand = |frontends: &u32| {
        let mut stand = Stand::<F>::new(args, flows, Some(*frontends))?;
        for number in 0..*frontends {
            let (service, backends) = service::<F>(number);
            stand.put_service(one_of_many::<F>(number), service, number * ENDPOINTS, &backends)?;
        }
        let [request, _] = scenarios::<F>(flows, *frontends)?;
        let recipe = request.packets.recipe;
        stand.put_flows(drivers::entries::<F>(flows, |client| ends::<F>(recipe.asked(client))))?;
        drivers::equip(&mut stand.subject)?;
        Ok((*frontends, stand))
    };
    args.frontends.iter().map(stand).collect()
}

/// One of many Services, with its endpoints.
fn service<F: Family>(number: u32) -> (ServiceIndex, Vec<(BackendId, Backend<F>)>) {
    let service = ServiceIndex(ServiceIndex::FIRST.0 + number);
    let backends = (0..ENDPOINTS).map(|endpoint| {
        let socket = endpoint_of::<F>(number, endpoint);
        let id = BackendId(BackendId::FIRST.0 + number * ENDPOINTS + endpoint);
        (id, Backend::new(address::<F>(socket), port(socket), 1, service))
    });
    (service, backends.collect())
}

/// The frontend of one of many Services, and an endpoint of it.
fn ends<F: Family>(number: u32) -> (SocketAddr, SocketAddr) {
    (one_of_many::<F>(number), endpoint_of::<F>(number, 0))
}

/// The scenario at a place with each number of frontends, prepared.
fn prepare<'a, F: Family>(
    args: &Args,
    stands: &'a mut [(u32, Stand<F>)],
    place: usize,
) -> Result<Vec<Box<dyn Contest + 'a>>> {
    let prepare = |(frontends, stand): &'a mut (u32, Stand<F>)| {
        let scenarios = scenarios::<F>(stand.flows, *frontends)?;
        let scenario = scenarios.into_iter().nth(place).expect("all have as many");
        Ok(Box::new(stand.prepare(args, scenario)?) as Box<dyn Contest>)
    };
    stands.iter_mut().map(prepare).collect()
}

/// What is sent to so many frontends: packets of known flows, and new ones.
fn scenarios<F: Family>(flows: u32, frontends: u32) -> Result<[Scenario; 2]> {
    let [request, _, new] = drivers::scenarios::<F>(flows)?;
    let among = |name, scenario: Scenario| {
        let mut scenario = Scenario { name, ..scenario };
        scenario.packets.recipe.frontends = frontends;
        scenario.packets.recipe.frontend = last_word(one_of_many::<F>(0).ip());
        // Anywhere.
        scenario.to.set_port(0);
        scenario
    };
    Ok([
        among("in the driver, request to any frontend", request),
        among("in the driver, new flow to any frontend", new),
    ])
}
