// SPDX-License-Identifier: Apache-2.0
//! Tables that are searched for the longest prefix: Service CIDRs and source ranges.

use aya::maps::{MapError, lpm_trie::Key};
use proxy_common::{
    Family,
    frontend::ServiceIndex,
    map_names,
    service_cidr::{Guarded, Prefix},
    source_range::{Admitted, Ranged},
};

use super::{
    super::{Error, full::map_error},
    Tables, of_family,
};

pub(super) fn cidr_error<F: Family>(error: MapError) -> Error {
    map_error(of_family::<F>(map_names::SERVICE_CIDRS), error)
}

pub(super) fn range_error<F: Family>(error: MapError) -> Error {
    map_error(of_family::<F>(map_names::SOURCE_RANGES), error)
}

/// The key of a Service port's source range.
fn range_key<F: Family>(service: ServiceIndex, range: Prefix<F>) -> Key<Ranged<F>> {
    let ranged = Ranged { service, client: range.address };
    Key::new(Ranged::<F>::bits(range.length), ranged)
}

impl<F: Family> Tables<F> {
    /// Guards a prefix of a Service CIDR.
    ///
    /// # Errors
    ///
    /// If the map cannot be written.
    pub fn put_service_cidr(&mut self, prefix: Prefix<F>) -> Result<(), Error> {
        let key = Key::new(prefix.length, prefix.address);
        self.service_cidrs.insert(&key, Guarded::YES, 0).map_err(cidr_error::<F>)?;
        self.end_epoch()
    }

    /// Guards it no more.
    ///
    /// # Errors
    ///
    /// If the map cannot be written.
    pub fn remove_service_cidr(&mut self, prefix: Prefix<F>) -> Result<(), Error> {
        let key = Key::new(prefix.length, prefix.address);
        self.service_cidrs.remove(&key).map_err(cidr_error::<F>)
    }

    /// Admits the clients of a range at a Service port's load balancer.
    ///
    /// # Errors
    ///
    /// If the map cannot be written.
    pub fn put_source_range(
        &mut self,
        service: ServiceIndex,
        range: Prefix<F>,
    ) -> Result<(), Error> {
        let key = range_key(service, range);
        self.source_ranges.insert(&key, Admitted::YES, 0).map_err(range_error::<F>)
    }

    /// Admits them no more.
    ///
    /// # Errors
    ///
    /// If the map cannot be written.
    pub fn remove_source_range(
        &mut self,
        service: ServiceIndex,
        range: Prefix<F>,
    ) -> Result<(), Error> {
        self.source_ranges.remove(&range_key(service, range)).map_err(range_error::<F>)
    }

    /// The source ranges of all Service ports, in no order.
    pub fn source_ranges(
        &self,
    ) -> impl Iterator<Item = Result<(ServiceIndex, Prefix<F>), Error>> + '_ {
        self.source_ranges.keys().map(|key| {
            let key = key.map_err(range_error::<F>)?;
            let Ranged { service, client } = key.data();
            let length = key.prefix_len() - Ranged::<F>::bits(0);
            Ok((service, Prefix { length, address: client }))
        })
    }
}
