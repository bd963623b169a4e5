// SPDX-License-Identifier: Apache-2.0
//! What has been told of Services, so that nothing is told twice.

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
};

use proxy_common::Port;

use crate::model::ServiceName;

/// What has been told of each Service.
#[derive(Debug)]
pub(super) struct Told<T>(HashMap<ServiceName, T>);

impl<T> Default for Told<T> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<T: Clone + PartialEq> Told<T> {
    /// What is to be told of a Service, which is now so: once, until it changes. Nothing if it has
    /// been told, or if there is nothing.
    pub(super) fn news(&mut self, service: &ServiceName, now: Option<T>) -> Option<T> {
        let told = match &now {
            Some(now) => self.0.insert(service.clone(), now.clone()),
            None => self.0.remove(service),
        };
        now.filter(|now| told.as_ref() != Some(now))
    }
}

/// Numbers of ports; displayed with spaces between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ports(BTreeSet<u16>);

impl Ports {
    /// These, if there are any.
    pub(super) fn of(ports: impl IntoIterator<Item = Port>) -> Option<Self> {
        let numbers: BTreeSet<_> = ports.into_iter().map(Port::number).collect();
        (!numbers.is_empty()).then_some(Self(numbers))
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers: Vec<_> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&numbers.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_service_is_told_of_once_until_it_changes() {
        let mut told = Told::default();
        let [a, b] = ["a", "b"].map(|name| ServiceName::new("ns", name));
        assert_eq!(told.news(&a, Some(1)), Some(1));
        assert_eq!(told.news(&a, Some(1)), None);
        assert_eq!(told.news(&b, Some(1)), Some(1));
        assert_eq!(told.news(&a, Some(2)), Some(2));
        assert_eq!(told.news(&a, None), None);
        // What has gone and comes back is another.
        assert_eq!(told.news(&a, Some(2)), Some(2));
        assert_eq!(told.news(&b, Some(1)), None);
    }

    #[test]
    fn ports_are_numbers_in_order() {
        let ports = |numbers: &[u16]| Ports::of(numbers.iter().copied().map(Port::new));
        assert_eq!(ports(&[]), None);
        assert_eq!(ports(&[3868, 80, 80]).unwrap().to_string(), "80 3868");
    }
}
