// SPDX-License-Identifier: Apache-2.0

//! Maps from one agent to the next.

use anyhow::{Result, ensure};
use aya::maps::MapInfo;
use proxy_agent::bpf::{Capacity, FlowCapacity, Object, Settings, Tables};
use proxy_common::flow::all_places;
use proxy_common::frontend::ServiceIndex;
use proxy_common::map_names;
use proxy_tests::both_families;
use proxy_tests::scratch::Scratch;

use crate::rig::Tabled;

both_families!(maps_are_the_same_and_as_large);

fn maps_are_the_same_and_as_large<F: Tabled>() -> Result<()> {
    let scratch = Scratch::new("adopted")?;
    let root = scratch.mount_bpffs()?;
    let ending = map_names::family_ending::<F::Abi>();
    let info = |object: &Object, name: &str| MapInfo::from_pin(object.pins().join(name));
    let of_family = |base: &str| format!("{base}{ending}");
    let [flows, waiting] = [map_names::FLOWS, map_names::WAITING].map(of_family);
    let others =
        [of_family("FRAGMENTS"), of_family("OUTSIDERS"), "CONNECTED".into(), "SENT".into()];
    let of_flows = FlowCapacity::of_flows(48);
    let capacity = Capacity { flows: of_flows, services: 20, ..Capacity::default() };
    let small = Settings { capacity, ..Settings::default() };
    let mut object = Object::load(&root, &small)?;
    object.keep()?;
    let ids = |object: &Object| -> Result<Vec<u32>> {
        let names = [&flows, &waiting].into_iter().chain(&others);
        names.map(|name| Ok(info(object, name)?.id())).collect()
    };
    let before = ids(&object)?;
    drop(object);
    let mut object = Object::load(&root, &Settings::default())?;
    ensure!(ids(&object)? == before, "they are others");
    ensure!(info(&object, &flows)?.max_entries() == 96);
    let places = all_places(of_flows.places, of_flows.endless);
    ensure!(info(&object, &waiting)?.max_entries() == places);
    let services = of_family(map_names::SERVICES);
    ensure!(info(&object, &services)?.max_entries() == 20);
    // The reconciler, too.
    let contents = Tables::<F::Abi>::open(object.pins())?.take_over()?;
    ensure!(contents.rows.services == 20 - ServiceIndex::FIRST.0);
    // The programs go by these sizes.
    object.verify()?;
    Ok(())
}
