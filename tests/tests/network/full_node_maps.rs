// SPDX-License-Identifier: Apache-2.0

//! The tables of what is said of the node itself: routes that take smaller packets, and the Node's addresses.

use std::net::IpAddr;

use anyhow::{Result, ensure};
use aya::maps::lpm_trie::Key;
use aya::maps::{HashMap, LpmTrie, MapData};
use proxy_agent::bpf::object::pinned;
use proxy_common::map_names;
use proxy_common::node_address::{MAX_NODE_ADDRESSES, NodeAddress};
use proxy_common::route_mtu::{MAX_ROUTE_MTUS, RouteMtu};
use proxy_common::service_cidr::address_bits;
use proxy_common::{Address as _, Family};
use proxy_tests::both_families;
use proxy_tests::cluster::eventually;
use proxy_tests::family::{DualAddress, IpFamily};
use proxy_tests::netns::Prefix;
use proxy_tests::topology::{DEVICE, subnet_length};
use serde_json::{Value, json};

use super::full_maps::{NODE, Scene, Tabled, fill, filler, is_told, of_family, pins, within};

both_families!(
    the_mtu_of_a_route_without_room_waits_for_it,
    former_addresses_of_the_node_make_room,
    more_addresses_than_there_is_room_for_are_told_of,
);

/// The networks of routes.
const FAR: [DualAddress; 2] = [DualAddress::pod(77, 0), DualAddress::pod(78, 0)];
const MTU: u32 = 1300;

fn the_mtu_of_a_route_without_room_waits_for_it<F: Tabled>() -> Result<()> {
    Scene::with::<F>(&["--fast-path=on"], |scene| {
        let name = of_family::<F>(map_names::ROUTE_MTUS);
        let map = pinned(&pins(scene.agent), &name)?;
        let mut mtus: LpmTrie<MapData, <F::Abi as Family>::Addr, RouteMtu> = map.try_into()?;
        let key = |number| Key::new(address_bits::<F::Abi>(), filler::<F>(number));
        let [first, second] = FAR.map(|far| Prefix(far.of(F::FAMILY), subnet_length(F::FAMILY)));
        let node = scene.cluster.topology.node(NODE).host().namespace();
        let option = if F::FAMILY == IpFamily::V4 { "-4" } else { "-6" };
        let route = |network: Prefix, mtu: u32| {
            node.ip(&format!("{option} route replace {network} dev {DEVICE} mtu {mtu}"))
        };
        route(first, MTU)?;
        let said = |network: Prefix, mtus: &LpmTrie<MapData, _, RouteMtu>| -> Option<u32> {
            let address = <F::Abi as Family>::Addr::from_ip(network.0)?;
            Some(mtus.get(&Key::new(network.1.into(), address), 0).ok()?.0)
        };
        ensure!(eventually(|| said(first, &mtus) == Some(MTU)), "{}", scene.agent.log()?);
        let count = fill(MAX_ROUTE_MTUS, |number| mtus.insert(&key(number), RouteMtu(MTU), 0))?;
        route(second, MTU)?;
        is_told(scene.agent, &["how much routes take", &second.to_string(), &name, "is full"])?;
        // What is there can change.
        route(first, MTU - 20)?;
        ensure!(eventually(|| said(first, &mtus) == Some(MTU - 20)), "{}", scene.agent.log()?);
        ensure!(said(second, &mtus).is_none());
        scene.goes_on()?;
        // Nothing is heard of routes meanwhile: it is tried again by itself.
        for number in 0..count {
            mtus.remove(&key(number))?;
        }
        ensure!(within(|| said(second, &mtus) == Some(MTU)), "{}", scene.agent.log()?);
        is_told(scene.agent, &["the programs know again how much routes take"])?;
        scene.goes_on()
    })
}

/// The Node of the scene with these addresses beside its own, which stand first.
fn apply_node(scene: &Scene<'_>, more: impl Iterator<Item = IpAddr>) -> Result<()> {
    let own = scene.cluster.topology.node(NODE).host().addresses();
    let addresses: Vec<Value> =
        own.chain(more).map(|ip| json!({ "type": "InternalIP", "address": ip })).collect();
    let object = json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": { "name": NODE },
        "status": { "addresses": addresses },
    });
    scene.cluster.manifests.write_list(NODE, &[object])
}

type Addresses<F> = HashMap<MapData, <<F as Tabled>::Abi as Family>::Addr, NodeAddress>;

fn addresses<F: Tabled>(scene: &Scene<'_>) -> Result<Addresses<F>> {
    let name = of_family::<F>(map_names::NODE_ADDRESSES);
    Ok(pinned(&pins(scene.agent), &name)?.try_into()?)
}

/// Those that are left to the next agent.
fn left<F: Tabled>(table: &Addresses<F>) -> Vec<IpAddr> {
    let mut left: Vec<IpAddr> = table.keys().filter_map(Result::ok).map(Into::into).collect();
    left.sort_unstable();
    left
}

fn former_addresses_of_the_node_make_room<F: Tabled>() -> Result<()> {
    Scene::with::<F>(&[], |scene| {
        let mut table = addresses::<F>(scene)?;
        let own = scene.cluster.topology.node(NODE).host().address(F::FAMILY);
        ensure!(eventually(|| left::<F>(&table) == [own]), "{:?}", left::<F>(&table));
        let _: u32 = fill(MAX_NODE_ADDRESSES, |number| {
            table.insert(filler::<F>(number), NodeAddress::YES, 0)
        })?;
        let late = DualAddress::pod(77, 1).of(F::FAMILY);
        apply_node(scene, [late].into_iter())?;
        let mut expected = [own, late];
        expected.sort_unstable();
        ensure!(eventually(|| left::<F>(&table) == expected), "{:?}", left::<F>(&table));
        ensure!(!scene.agent.log()?.contains("is full"), "{}", scene.agent.log()?);
        scene.goes_on()
    })
}

fn more_addresses_than_there_is_room_for_are_told_of<F: Tabled>() -> Result<()> {
    Scene::with::<F>(&[], |scene| {
        let table = addresses::<F>(scene)?;
        let own = scene.cluster.topology.node(NODE).host().address(F::FAMILY);
        apply_node(scene, (0..MAX_NODE_ADDRESSES).map(|number| filler::<F>(number).into()))?;
        let name = of_family::<F>(map_names::NODE_ADDRESSES);
        is_told(scene.agent, &["cannot leave the Node's addresses", &name, "is full"])?;
        ensure!(left::<F>(&table).len() == MAX_NODE_ADDRESSES as usize);
        scene.goes_on()?;
        apply_node(scene, std::iter::empty())?;
        ensure!(eventually(|| left::<F>(&table) == [own]), "{:?}", left::<F>(&table));
        scene.goes_on()
    })
}
