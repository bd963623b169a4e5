// SPDX-License-Identifier: Apache-2.0
//! Taking over from an agent of another version of the ABI, whose programs serve until these do.

use std::{convert::Infallible, mem};

use anyhow::Context as _;
use proxy_common::{Family, V4, V6};
use tokio::{
    sync::watch,
    task::{JoinError, JoinSet, spawn_blocking},
    time::Instant,
};
use tracing::{info, warn};

use crate::{
    bpf::{self, CarriedOver, Former, FormerTables, Object, Pass},
    chain::chain,
    cleanup, foreign_nat,
    preflight::Facts,
};

/// What other versions have left, until it has gone over.
#[derive(Debug)]
pub(super) struct Succession {
    tables: Tables,
    /// Since when the own tables have all flows, once they do.
    whole_since: watch::Sender<Option<Instant>>,
}

/// Their tables, of each family.
#[derive(Debug, Default)]
struct Tables(Vec<FormerTables<V4>>, Vec<FormerTables<V6>>);

/// When something goes over.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// Before any program of this version serves: a socket that comes to one of these is to find its client known.
    First,
    /// While the former programs serve. From its end on, they serve what they know, and nothing else.
    Before,
    /// Once they serve nobody.
    After,
}

impl Succession {
    /// Gives Service ports and endpoints the rows that they have in the former tables: before the own ones are taken over.
    /// What cannot be read is not carried over, which is said.
    pub(super) fn begin(object: &Object, facts: &Facts) -> Self {
        let succession = Self {
            tables: Tables(open(object, facts), open(object, facts)),
            whole_since: watch::Sender::default(),
        };
        succession.note_end();
        succession
    }

    /// Since when the own tables have all flows: until then, others may be those of Service ports that have gone. Nothing while
    /// another version serves.
    pub(super) fn whole_since(&self) -> watch::Receiver<Option<Instant>> {
        self.whole_since.subscribe()
    }

    /// Says that no other version serves, if none does.
    fn note_end(&self) {
        if !self.is_pending() {
            let _ = self.whole_since.send_replace(Some(Instant::now()));
        }
    }

    /// Whether another version serves beside this one.
    pub(super) fn is_pending(&self) -> bool {
        !self.tables.0.is_empty() || !self.tables.1.is_empty()
    }

    /// Has what other versions know go over, while they serve. To be called before the first program is attached, and
    /// before the first frontend is written, as programs may be attached.
    ///
    /// # Errors
    ///
    /// If a thread crashes.
    pub(super) async fn prepare(&mut self) -> anyhow::Result<()> {
        let _: CarriedOver = self.carry_over(Step::First).await?;
        Ok(())
    }

    /// Has all that other versions know go over, and takes their programs off. To be called once the own programs are
    /// wherever they are to be, and the tables are complete: what begins is theirs from now on. If something
    /// cannot be removed, that is said, and it is to be called again while it [is pending](Self::is_pending). From then on, it
    /// is looked at whether yet another proxy may own connections.
    ///
    /// # Errors
    ///
    /// If that cannot be looked at.
    pub(super) async fn end(
        &mut self,
        object: &Object,
        facts: &Facts,
        tasks: &mut JoinSet<Result<Infallible, JoinError>>,
    ) -> anyhow::Result<()> {
        let was_pending = self.is_pending();
        if let Err(error) = self.complete(object).await {
            warn!(error = format!("{error:#}"), "cannot remove what another version has left");
        }
        if was_pending && !self.is_pending() {
            self.note_end();
            foreign_nat::begin(object.pins(), facts.families, tasks)?;
        }
        Ok(())
    }

    async fn complete(&mut self, object: &Object) -> anyhow::Result<()> {
        let is_pending = self.is_pending();
        if is_pending {
            let CarriedOver { flows, clients, refused } = self.carry_over(Step::Before).await?;
            info!(
                flows,
                clients, refused, "another version's flows and session affinity went over"
            );
        }
        let _: cleanup::Removed =
            cleanup::remove_others(object.pin_root(), object.version()).await?;
        if is_pending {
            let CarriedOver { flows, .. } = self.carry_over(Step::After).await?;
            info!(flows, "the other version serves nobody any more");
        }
        let Tables(v4, v6) = mem::take(&mut self.tables);
        v4.into_iter().try_for_each(FormerTables::end)?;
        v6.into_iter().try_for_each(FormerTables::end)?;
        Ok(())
    }

    /// Has a step done by another thread, as it may take a second.
    async fn carry_over(&mut self, step: Step) -> anyhow::Result<CarriedOver> {
        let mut tables = mem::take(&mut self.tables);
        let done = spawn_blocking(move || {
            let carried = of_family(&mut tables.0, step).and(of_family(&mut tables.1, step));
            (tables, carried)
        });
        let (tables, carried) = done.await.context("carrying flows over has crashed")?;
        self.tables = tables;
        Ok(carried)
    }
}

/// The tables of a family from which something goes over, if the node has that family.
fn open<F: Family>(object: &Object, facts: &Facts) -> Vec<FormerTables<F>> {
    let of_version = |former: &Former| {
        let seeded = former.seed::<F>(object.pins());
        match seeded.and_then(|()| former.tables::<F>(object.pins())) {
            Ok(None) => {
                warn!(
                    version = %former.version(),
                    family = F::NAME,
                    "the tables of another version differ too much for flows to go over"
                );
                None
            }
            Ok(tables) => tables,
            Err(error) => {
                tell(former, F::NAME, &error);
                None
            }
        }
    };
    let former = object.former().iter().filter(|_| facts.families.has::<F>());
    former.filter_map(of_version).collect()
}

fn of_family<F: Family>(tables: &mut [FormerTables<F>], step: Step) -> CarriedOver {
    let mut all = CarriedOver::default();
    for tables in tables {
        let carried = match step {
            // Three times: nearly all is there when what begins is no more theirs, then the rest, and then alone.
            Step::Before => tables.carry_over(Pass::Beside).and_then(|first| {
                tables.withdraw_frontends()?;
                let second = tables.carry_over(Pass::Beside)?;
                Ok(first.and(second).and(tables.carry_over(Pass::Last)?))
            }),
            Step::First => tables.carry_over(Pass::Beside),
            Step::After => tables.carry_over(Pass::After),
        };
        match carried {
            Ok(carried) => all = all.and(carried),
            Err(error) => {
                let error = chain(&error);
                warn!(family = F::NAME, error, "cannot carry all of another version's flows over");
            }
        }
    }
    all
}

fn tell(former: &Former, family: &'static str, error: &bpf::Error) {
    let (version, error) = (former.version(), chain(error));
    warn!(%version, family, error, "cannot carry over what another version has left");
}
