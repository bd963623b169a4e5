// SPDX-License-Identifier: Apache-2.0
//! The families that a runner serves.

use proxy_common::Family;

use super::{Runner, tables::Reconciled};
use crate::{
    dataplane::Dataplane,
    reconcile::AdoptError,
    walks::{Ask, Walker},
};

impl Runner {
    /// Serves a family with this dataplane, whose tables are taken over as they are.
    ///
    /// # Errors
    ///
    /// If they cannot be.
    pub fn with_family<F, D>(self, dataplane: D) -> Result<Self, AdoptError>
    where
        F: Family<Addr: Send> + Send,
        D: Dataplane<F> + Send + 'static,
    {
        self.adopting::<F, D>(dataplane, None)
    }

    /// The same where somebody walks through the family's flows and tells of it with what comes beside: as long as a
    /// flow refers to the row of a Service port, no other one gets it.
    ///
    /// # Errors
    ///
    /// If the tables cannot be taken over.
    pub fn with_walked_family<F, D>(self, dataplane: D) -> Result<(Self, Walker), AdoptError>
    where
        F: Family<Addr: Send> + Send,
        D: Dataplane<F> + Send + 'static,
    {
        let (walker, ask) = self.walks.of_table(self.families.len());
        Ok((self.adopting::<F, D>(dataplane, Some(ask))?, walker))
    }

    fn adopting<F, D>(mut self, dataplane: D, walks: Option<Ask>) -> Result<Self, AdoptError>
    where
        F: Family<Addr: Send> + Send,
        D: Dataplane<F> + Send + 'static,
    {
        let now = self.started.elapsed();
        self.families.push(Box::new(Reconciled::<F, D>::adopt(dataplane, walks, now)?));
        Ok(self)
    }
}
