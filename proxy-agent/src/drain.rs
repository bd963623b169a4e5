// SPDX-License-Identifier: Apache-2.0
//! `sixfour drain`: what begins is left to another proxy, and what is known goes on being served, until `sixfour
//! cleanup` ends it.
//!
//! Only what programs choose new flows by goes: frontends, and the programs that give sockets backends. Flows know their
//! backends by themselves. Marks of endpoints stay, so that direct connections keep out of the way of flows, and so does the
//! guard, for what another proxy translates is nothing to it.

use std::path::Path;

use anyhow::{Context as _, bail};
use proxy_common::{
    Family, V4, V6,
    flow::Kind,
    foreign_nat::ForeignNat,
    frontend::{FrontendKey, ServiceIndex},
};

use crate::{
    bpf::{ForeignNatTable, Pins, Tables, Version, clock, object::map_directory},
    cli::DrainArgs,
    foreign_nat::place_of_rules,
    sockets::SocketPrograms,
};

/// Does so with what agents of this version have left, and says what is left to do.
///
/// # Errors
///
/// If an agent is running or none has been, if kube-proxy's rules are missing, or something cannot be removed.
pub fn run(arguments: &DrainArgs) -> anyhow::Result<()> {
    let pin_root = &arguments.pin_root.pin_root;
    let root = pin_root.display();
    let maps = map_directory(pin_root);
    if !maps.exists() {
        bail!("no sixfour of this version has left anything with the pin root {root}");
    }
    let Some(_pins) = Pins::try_claim(pin_root)? else {
        bail!("sixfour is running with the pin root {root}: stop it first");
    };
    if !arguments.force {
        ensure_rules::<V4>(&maps)?;
        ensure_rules::<V6>(&maps)?;
    }
    let versions = Version::all(pin_root).with_context(|| format!("cannot read {root}"))?;
    if let Some(other) = versions.iter().find(|version| version.is_other(pin_root)) {
        bail!(
            "{other} serves as well, as an upgrade was interrupted: start an agent, which ends that, or say sixfour cleanup"
        );
    }
    for version in versions {
        let _: usize = SocketPrograms::take_requests_off(&version.links())?;
    }
    let [v4, v6] = [drain::<V4>(&maps)?, drain::<V6>(&maps)?];
    println!(
        "new connections and datagrams are left to another proxy; flows that go on: {v4} of {}, {v6} of {} (sixfour list flows); sixfour cleanup ends them",
        V4::NAME,
        V6::NAME,
    );
    Ok(())
}

/// That there are kube-proxy's rules for a family, if it has Services.
fn ensure_rules<F: Family>(maps: &Path) -> anyhow::Result<()> {
    let has_services = !frontends(&mut Tables::<F>::open(maps)?)?.is_empty();
    if has_services && place_of_rules::<F>().context("cannot look for rules")?.is_none() {
        let family = F::NAME;
        bail!(
            "there are no rules of kube-proxy for {family}, so that nobody would serve what is new: start it first, or say --force if another proxy does"
        );
    }
    Ok(())
}

/// Removes a family's frontends, and says how many flows go on.
fn drain<F: Family>(maps: &Path) -> anyhow::Result<usize> {
    // Connections that the other proxy has begun meanwhile.
    ForeignNatTable::<F>::open(maps)?.put(ForeignNat::POSSIBLE)?;
    let mut tables = Tables::<F>::open(maps)?;
    for frontend in frontends(&mut tables)? {
        tables.remove_frontend(&frontend)?;
    }
    let now = clock::now();
    let mut flows = 0;
    for entry in tables.flows() {
        let (key, flow) = entry?;
        let is_served = !flow.kind.has(Kind::REPLY) && flow.service != ServiceIndex::DIRECT;
        flows += usize::from(is_served && !flow.is_expired(key.protocol, now));
    }
    Ok(flows)
}

/// What new flows are chosen by: whole addresses first, which would refuse what is for a port that is gone.
fn frontends<F: Family>(tables: &mut Tables<F>) -> anyhow::Result<Vec<FrontendKey<F>>> {
    let entries = tables.take_over()?.frontends.into_iter();
    let of_services = entries.filter(|(_, frontend)| frontend.service() != ServiceIndex::DIRECT);
    let mut keys: Vec<_> = of_services.map(|(key, _)| key).collect();
    keys.sort_by_key(|key| *key != FrontendKey::whole(key.address));
    Ok(keys)
}
