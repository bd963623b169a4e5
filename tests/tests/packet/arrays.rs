// SPDX-License-Identifier: Apache-2.0

//! Arrays that are written through memory, piece by piece: rows are where the kernel has them.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use anyhow::{Result, ensure};
use aya::maps::{Array, MapData};
use proxy_agent::bpf::object::pinned;
use proxy_agent::bpf::{Object, Settings, Tables};
use proxy_agent::dataplane::Dataplane as _;
use proxy_common::backend::{Backend, BackendId, MAX_BACKENDS};
use proxy_common::frontend::ServiceIndex;
use proxy_common::service::{BackendSet, MAX_SERVICES, Service};
use proxy_common::{Port, map_names};
use proxy_tests::both_families;
use proxy_tests::scratch::Scratch;

use crate::rig::{Tabled, address};

both_families!(rows_are_where_the_kernel_has_them, rows_are_written_after_a_rest);

/// Rows on both sides of where pieces may meet, whatever their size, and the last one.
fn rows(count: u32) -> impl Iterator<Item = u32> {
    let powers = (0..count.ilog2()).map(|power| 1 << power);
    powers.flat_map(|power: u32| [power - 1, power, power + 1]).chain([count - 1])
}

fn rows_are_where_the_kernel_has_them<F: Tabled>() -> Result<()> {
    let scratch = Scratch::new("arrays")?;
    let object = Object::load(&scratch.mount_bpffs()?, &Settings::default())?;
    let named = |base| format!("{base}{}", map_names::family_ending::<F::Abi>());
    let backends: Array<MapData, Backend<F::Abi>> =
        pinned(object.pins(), &named(map_names::BACKENDS))?.try_into()?;
    let services: Array<MapData, Service> =
        pinned(object.pins(), &named(map_names::SERVICES))?.try_into()?;
    let mut tables = Tables::<F::Abi>::open(object.pins())?;
    let nobody = address::<F>(SocketAddr::new(F::FAMILY.unspecified(), 0));
    let backend = |row| Backend::new(nobody, Port::new(80), row, ServiceIndex(row));
    for row in rows(MAX_BACKENDS) {
        tables.put_backend(BackendId(row), backend(row))?;
    }
    for row in rows(MAX_SERVICES) {
        tables.publish_local(ServiceIndex(row), BackendSet::new(row, 1))?;
    }
    for row in rows(MAX_BACKENDS) {
        ensure!(backends.get(&row, 0)? == backend(row), "row {row}");
        ensure!(tables.backend(BackendId(row))? == backend(row), "row {row}");
    }
    for row in rows(MAX_SERVICES) {
        let service = Service { local: BackendSet::new(row, 1), ..Service::default() };
        ensure!(services.get(&row, 0)? == service, "row {row}");
        ensure!(tables.service(ServiceIndex(row))? == service, "row {row}");
    }
    ensure!(tables.backend(BackendId(MAX_BACKENDS)).is_err(), "a row that is not there");
    ensure!(tables.clear_service(ServiceIndex(MAX_SERVICES)).is_err(), "a row that is not there");
    Ok(())
}

fn rows_are_written_after_a_rest<F: Tabled>() -> Result<()> {
    let scratch = Scratch::new("arrays")?;
    let object = Object::load(&scratch.mount_bpffs()?, &Settings::default())?;
    let name = format!("{}{}", map_names::BACKENDS, map_names::family_ending::<F::Abi>());
    let kernel: Array<MapData, Backend<F::Abi>> = pinned(object.pins(), &name)?.try_into()?;
    let mut tables = Tables::<F::Abi>::open(object.pins())?;
    let nobody = address::<F>(SocketAddr::new(F::FAMILY.unspecified(), 0));
    let backend = |row, port| Backend::new(nobody, Port::new(port), row, ServiceIndex(row));
    for row in rows(MAX_BACKENDS) {
        tables.put_backend(BackendId(row), backend(row, 80))?;
    }
    for port in [81, 82] {
        tables.rest();
        // What was written before stays, and every second row is written anew.
        for row in rows(MAX_BACKENDS).step_by(2) {
            ensure!(kernel.get(&row, 0)? == tables.backend(BackendId(row))?, "row {row}");
            tables.put_backend(BackendId(row), backend(row, port))?;
        }
        let mut expected: BTreeMap<u32, u16> = rows(MAX_BACKENDS).map(|row| (row, 80)).collect();
        expected.extend(rows(MAX_BACKENDS).step_by(2).map(|row| (row, port)));
        for (row, port) in expected {
            ensure!(kernel.get(&row, 0)? == backend(row, port), "row {row} has not {port}");
            ensure!(tables.backend(BackendId(row))? == backend(row, port), "row {row}");
        }
    }
    Ok(())
}
