// SPDX-License-Identifier: Apache-2.0
//! The guarded prefixes of Service CIDRs: which there should be, and which there are.

use std::{collections::BTreeSet, time::Duration};

use ipnet::IpNet;
use proxy_common::{Address as _, Family, service_cidr::Prefix};

use super::{apply::apply, outcome::ReconcileError, retry::Retry};
use crate::dataplane::{Dataplane, Op};

/// The prefixes of one family.
#[derive(Debug)]
pub struct ServiceCidrs<F: Family> {
    /// Nothing until somebody has said which.
    desired: Option<BTreeSet<Prefix<F>>>,
    applied: BTreeSet<Prefix<F>>,
    retry: Retry,
}

impl<F: Family> Default for ServiceCidrs<F> {
    fn default() -> Self {
        Self { desired: None, applied: BTreeSet::new(), retry: Retry::default() }
    }
}

impl<F: Family> ServiceCidrs<F> {
    /// Takes over what the table holds, before anything else.
    pub fn adopt(&mut self, prefixes: impl IntoIterator<Item = Prefix<F>>) {
        self.applied.extend(prefixes);
    }

    /// Wants these, as far as they are of this family, and no others. What has failed is tried
    /// again at once.
    pub fn set(&mut self, cidrs: &BTreeSet<IpNet>) {
        let prefix = |cidr: &IpNet| {
            let address = F::Addr::from_ip(cidr.addr())?;
            Some(Prefix { length: cidr.prefix_len().into(), address })
        };
        self.desired = Some(cidrs.iter().filter_map(prefix).collect());
        self.retry.at_once();
    }

    /// Writes the difference: what is new first. `now` is on a clock that never goes back.
    ///
    /// # Errors
    ///
    /// What the dataplane could not do. It is tried again after a pause.
    pub fn flush<D: Dataplane<F>>(
        &mut self,
        dataplane: &mut D,
        now: Duration,
    ) -> Result<(), ReconcileError> {
        if !self.retry.is_due(now) {
            return Ok(());
        }
        let is_put = |op: &Op<F>| matches!(op, Op::PutServiceCidr { .. });
        let (new, old): (Vec<_>, Vec<_>) = self.difference().partition(is_put);
        let applied = &mut self.applied;
        let mut write = |ops: &[Op<F>]| {
            apply(dataplane, ops, |op| match op {
                Op::PutServiceCidr { prefix } => _ = applied.insert(*prefix),
                Op::RemoveServiceCidr { prefix } => _ = applied.remove(prefix),
                _ => {}
            })
        };
        let written = write(&new);
        // Where there was no room, too: what goes makes some.
        let outcome = write(&old).and(written);
        self.retry.note(outcome.is_ok(), now);
        outcome
    }

    /// When there is something to do.
    #[must_use]
    pub fn next(&self) -> Option<Duration> {
        self.retry.next(self.difference().next().is_some())
    }

    /// Whether the last attempt has failed.
    #[must_use]
    pub const fn is_failing(&self) -> bool {
        self.retry.is_failing()
    }

    fn difference(&self) -> impl Iterator<Item = Op<F>> {
        self.desired.iter().flat_map(|desired| {
            let new = desired.difference(&self.applied);
            let old = self.applied.difference(desired);
            let put = new.map(|prefix| Op::PutServiceCidr { prefix: *prefix });
            put.chain(old.map(|prefix| Op::RemoveServiceCidr { prefix: *prefix }))
        })
    }
}

#[cfg(test)]
mod tests {
    use proxy_common::{V4, V6};

    use super::*;
    use crate::dataplane::fake::{Fake, Faulty};

    fn cidrs(texts: &[&str]) -> BTreeSet<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    /// The prefixes of a family in its tables.
    fn guarded<F: Family>(fake: &Fake<F>) -> Vec<String> {
        let text = |prefix: &Prefix<F>| {
            let address: std::net::IpAddr = prefix.address.into();
            format!("{address}/{}", prefix.length)
        };
        fake.service_cidrs.iter().map(text).collect()
    }

    fn follows<F: Family>(own: &str, other: &str, second: &str) {
        let (mut wanted, mut fake) = (ServiceCidrs::<F>::default(), Fake::<F>::default());
        assert_eq!(wanted.next(), None);
        wanted.set(&cidrs(&[own, other]));
        assert_eq!(wanted.next(), Some(Duration::ZERO));
        wanted.flush(&mut fake, Duration::ZERO).unwrap();
        assert_eq!(guarded(&fake), [own]);
        wanted.set(&cidrs(&[second]));
        wanted.flush(&mut fake, Duration::ZERO).unwrap();
        assert_eq!(guarded(&fake), [second]);
        wanted.set(&cidrs(&[]));
        wanted.flush(&mut fake, Duration::ZERO).unwrap();
        assert_eq!((guarded(&fake).len(), wanted.next()), (0, None));
    }

    #[test]
    fn each_family_follows_its_own() {
        follows::<V4>("10.96.0.0/16", "fd00:10:96::/112", "10.97.0.0/20");
        follows::<V6>("fd00:10:96::/112", "10.96.0.0/16", "fd00:10:97::/120");
    }

    fn what_goes_makes_room<F: Family>(first: &str, second: &str) {
        let mut wanted = ServiceCidrs::<F>::default();
        let mut is_full = false;
        let fails = |op: &Op<F>| {
            let is_put = matches!(op, Op::PutServiceCidr { .. });
            std::mem::replace(&mut is_full, is_put) && is_put
        };
        let mut dataplane = Faulty { inner: Fake::<F>::default(), fails };
        wanted.set(&cidrs(&[first]));
        wanted.flush(&mut dataplane, Duration::ZERO).unwrap();
        wanted.set(&cidrs(&[second]));
        let _: ReconcileError = wanted.flush(&mut dataplane, Duration::ZERO).unwrap_err();
        let again = wanted.next().unwrap();
        wanted.flush(&mut dataplane, again).unwrap();
        assert_eq!(guarded(&dataplane.inner), [second]);
    }

    #[test]
    fn one_that_goes_makes_room_for_one_that_comes() {
        what_goes_makes_room::<V4>("10.96.0.0/16", "10.97.0.0/20");
        what_goes_makes_room::<V6>("fd00:10:96::/112", "fd00:10:97::/120");
    }

    #[test]
    fn what_fails_is_tried_again() {
        let mut wanted = ServiceCidrs::<V6>::default();
        let mut works = false;
        wanted.set(&cidrs(&["fd00::/112"]));
        let mut dataplane = Faulty { inner: Fake::<V6>::default(), fails: |_: &Op<V6>| true };
        let error = wanted.flush(&mut dataplane, Duration::ZERO).unwrap_err();
        assert_eq!(error.to_string(), "cannot guard a Service CIDR (fd00::/112)");
        let again = wanted.next().unwrap();
        assert!(wanted.is_failing() && again > Duration::ZERO);
        // Not before its time.
        wanted.flush(&mut dataplane, again / 2).unwrap();
        assert!(wanted.is_failing());
        let fails = |_: &Op<V6>| !std::mem::replace(&mut works, true);
        let mut dataplane = Faulty { inner: dataplane.inner, fails };
        let _: ReconcileError = wanted.flush(&mut dataplane, again).unwrap_err();
        assert!(wanted.next().unwrap() > again * 2);
        wanted.flush(&mut dataplane, again * 4).unwrap();
        assert_eq!((wanted.next(), guarded(&dataplane.inner).len()), (None, 1));
    }
}
