// SPDX-License-Identifier: Apache-2.0
//! Whether another proxy's NAT may own connections to frontends: on a node that kube-proxy has served, the kernel's
//! connection tracking goes on translating those that it began with. Programs leave packets of theirs to it
//! as long as that may be ([ADR 25](../../../docs/adr/0025-foreign-nat.md)).
//!
//! It may be as long as kube-proxy's rules are there: they translate what a pod sends whose device has no programs
//! yet. And when these are gone, as long as connection tracking has a TCP or SCTP connection whose destination it
//! has translated and that programs would refuse. Whether there are rules is looked at for as long as the
//! agent runs, for kube-proxy may come back; connections are gone through only until none is found.

use std::{convert::Infallible, path::Path, time::Duration};

use proxy_common::{Family, V4, V6, foreign_nat::ForeignNat};
use tokio::{
    task::{JoinError, JoinSet, spawn_blocking},
    time::{MissedTickBehavior, interval},
};
use tracing::{debug, info, warn};

use crate::{
    bpf::{self, ForeignNatTable},
    chain::chain,
    netlink::AskError,
    preflight::Families,
};

mod connections;
mod legacy;
mod rules;

pub use rules::place as place_of_rules;

/// How often it is looked at.
const PERIOD: Duration = Duration::from_secs(10);

/// What was found in a family.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Found {
    /// kube-proxy's rules are there; where.
    Rules(&'static str),
    /// So many connections are left.
    Connections(usize),
    Nothing,
}

/// Why it cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel has not told it.
    #[error(transparent)]
    Asked(#[from] AskError),
    /// A file of procfs.
    #[error("cannot read {0}")]
    Read(&'static str, #[source] std::io::Error),
    /// A table of legacy iptables.
    #[error("cannot read the table {0} of legacy iptables")]
    Legacy(&'static str, #[source] std::io::Error),
    /// The programs' frontends.
    #[error("cannot look connections up among the frontends")]
    Frontends(#[source] bpf::Error),
}

/// Has the programs of the families that are served leave packets to another proxy, and looks from then on in the
/// calling thread's network namespace whether that must be so. Tables must have been written, and devices not
/// have programs yet.
///
/// # Errors
///
/// If a table cannot be opened or written.
pub fn begin(
    pins: &Path,
    families: Families,
    tasks: &mut JoinSet<Result<Infallible, JoinError>>,
) -> Result<(), bpf::Error> {
    if families.has::<V4>() {
        let _ = tasks.spawn(run(open::<V4>(pins)?));
    }
    if families.has::<V6>() {
        let _ = tasks.spawn(run(open::<V6>(pins)?));
    }
    Ok(())
}

fn open<F: Family>(pins: &Path) -> Result<ForeignNatTable<F>, bpf::Error> {
    let mut table = ForeignNatTable::open(pins)?;
    table.put(ForeignNat::POSSIBLE)?;
    Ok(table)
}

/// Looks now and then, beside everything else.
async fn run<F>(mut table: ForeignNatTable<F>) -> Result<Infallible, JoinError>
where
    F: Family<Addr: Send> + Send,
{
    let mut looks = interval(PERIOD);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut told = None;
    let mut has_failed = false;
    loop {
        let _ = looks.tick().await;
        let is_over = told == Some(Found::Nothing);
        let looked;
        (table, looked) = spawn_blocking(move || {
            let looked = look(&table, is_over);
            (table, looked)
        })
        .await?;
        match looked {
            Ok(found) => {
                has_failed = false;
                let said = said(&found);
                // It says so anew each time: another agent may have ended amid a change.
                if let Err(error) = table.put(said) {
                    warn!(family = F::NAME, error = chain(&error), "cannot tell the programs");
                } else if told.as_ref() != Some(&found) {
                    tell::<F>(told.as_ref(), &found);
                    told = Some(found);
                }
            }
            // What has been said stays.
            Err(error) if !has_failed => {
                has_failed = true;
                let error = chain(&error);
                warn!(
                    family = F::NAME,
                    error, "cannot tell whether another proxy translates connections to Services"
                );
            }
            Err(_) => {}
        }
    }
}

const fn said(found: &Found) -> ForeignNat {
    match found {
        Found::Nothing => ForeignNat::NONE,
        Found::Rules(_) | Found::Connections(_) => ForeignNat::POSSIBLE,
    }
}

/// Rules come first: once there are none, connections become fewer only.
fn look<F: Family>(table: &ForeignNatTable<F>, is_over: bool) -> Result<Found, Error> {
    if let Some(place) = rules::place::<F>()? {
        return Ok(Found::Rules(place));
    }
    if is_over {
        return Ok(Found::Nothing);
    }
    match connections::count(table)? {
        0 => Ok(Found::Nothing),
        count => Ok(Found::Connections(count)),
    }
}

/// Logs a change. Where there is nothing from the start, there is nothing to be told of.
fn tell<F: Family>(before: Option<&Found>, found: &Found) {
    let family = F::NAME;
    match (before, found) {
        (None, Found::Nothing) => debug!(family, "no other proxy translates connections"),
        (Some(Found::Connections(_)), Found::Connections(count)) => {
            debug!(family, connections = count, "connections of another proxy are left");
        }
        (_, Found::Rules(place)) => info!(
            family,
            rules = place,
            "kube-proxy's rules are here: connections that are not known are left to them"
        ),
        (_, Found::Connections(count)) => info!(
            family,
            connections = count,
            "kube-proxy's rules are gone, and connections of theirs are left to the kernel's connection tracking"
        ),
        (_, Found::Nothing) => info!(
            family,
            "no connections of another proxy are left: what is amid one that is not known is refused"
        ),
    }
}
