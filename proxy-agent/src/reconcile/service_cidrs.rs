// SPDX-License-Identifier: Apache-2.0
//! The guarded prefixes of Service CIDRs: which there should be, and which there are.

use std::{collections::BTreeSet, error::Error, time::Duration};

use ipnet::IpNet;
use proxy_common::{Address as _, Family, service_cidr::Prefix};

use super::retry::Retry;
use crate::dataplane::{Dataplane, Failure, Op};

/// The prefixes of one family.
#[derive(Debug)]
pub struct ServiceCidrs<F: Family> {
    desired: BTreeSet<Prefix<F>>,
    applied: BTreeSet<Prefix<F>>,
    retry: Retry,
}

impl<F: Family> Default for ServiceCidrs<F> {
    fn default() -> Self {
        Self { desired: BTreeSet::new(), applied: BTreeSet::new(), retry: Retry::default() }
    }
}

impl<F: Family> ServiceCidrs<F> {
    /// Wants these, as far as they are of this family, and no others. What has failed is tried
    /// again at once.
    pub fn set(&mut self, cidrs: &BTreeSet<IpNet>) {
        let prefix = |cidr: &IpNet| {
            let address = F::Addr::from_ip(cidr.addr())?;
            Some(Prefix { length: cidr.prefix_len().into(), address })
        };
        self.desired = cidrs.iter().filter_map(prefix).collect();
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
    ) -> Result<(), ServiceCidrError> {
        if !self.retry.is_due(now) {
            return Ok(());
        }
        let ops: Vec<_> = self.difference().collect();
        let outcome = dataplane.apply(&ops);
        let applied = outcome.as_ref().map_or_else(|failure| failure.applied, |()| ops.len());
        for op in &ops[..applied] {
            match op {
                Op::PutServiceCidr { prefix } => _ = self.applied.insert(*prefix),
                Op::RemoveServiceCidr { prefix } => _ = self.applied.remove(prefix),
                _ => {}
            }
        }
        self.retry.note(outcome.is_ok(), now);
        outcome.map_err(|Failure { applied, error }| ServiceCidrError {
            verb: ops[applied].verb(),
            source: Box::new(error),
        })
    }

    /// When there is something to do.
    #[must_use]
    pub fn next(&self) -> Option<Duration> {
        self.retry.next(self.desired != self.applied)
    }

    /// Whether the last attempt has failed.
    #[must_use]
    pub const fn is_failing(&self) -> bool {
        self.retry.is_failing()
    }

    fn difference(&self) -> impl Iterator<Item = Op<F>> {
        let new = self.desired.difference(&self.applied);
        let old = self.applied.difference(&self.desired);
        let put = new.map(|prefix| Op::PutServiceCidr { prefix: *prefix });
        put.chain(old.map(|prefix| Op::RemoveServiceCidr { prefix: *prefix }))
    }
}

/// Why the Service CIDRs are not guarded as they should be.
#[derive(Debug, thiserror::Error)]
#[error("cannot {verb}")]
pub struct ServiceCidrError {
    /// What could not be done.
    verb: &'static str,
    /// Why.
    source: Box<dyn Error + Send + Sync>,
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

    #[test]
    fn what_fails_is_tried_again() {
        let mut wanted = ServiceCidrs::<V6>::default();
        let mut works = false;
        wanted.set(&cidrs(&["fd00::/112"]));
        let mut dataplane = Faulty { inner: Fake::<V6>::default(), fails: |_: &Op<V6>| true };
        let error = wanted.flush(&mut dataplane, Duration::ZERO).unwrap_err();
        assert_eq!(error.to_string(), "cannot guard a Service CIDR");
        let again = wanted.next().unwrap();
        assert!(wanted.is_failing() && again > Duration::ZERO);
        // Not before its time.
        wanted.flush(&mut dataplane, again / 2).unwrap();
        assert!(wanted.is_failing());
        let fails = |_: &Op<V6>| !std::mem::replace(&mut works, true);
        let mut dataplane = Faulty { inner: dataplane.inner, fails };
        let _: ServiceCidrError = wanted.flush(&mut dataplane, again).unwrap_err();
        assert!(wanted.next().unwrap() > again * 2);
        wanted.flush(&mut dataplane, again * 4).unwrap();
        assert_eq!((wanted.next(), guarded(&dataplane.inner).len()), (None, 1));
    }
}
