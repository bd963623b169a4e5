// SPDX-License-Identifier: Apache-2.0
//! The operator's word on devices, by name: it overrides what a device looks like.

use std::str::FromStr;

use globset::{Glob, GlobSet, GlobSetBuilder};
use thiserror::Error;

use super::classify::Role;

/// Device names to leave alone, and device names that have a role whatever they look like.
///
/// A pattern is a glob over the whole name: `?`, `*`, `[a-z]`, `{eth*,ens*}`.
#[derive(Clone, Debug)]
pub struct Patterns {
    exclude: GlobSet,
    /// In the order in which they are asked.
    include: Vec<(Role, GlobSet)>,
}

/// What the patterns say of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Leave the device alone.
    Excluded,
    /// It has this role.
    Included(Role),
    /// Nothing: go by what the device is.
    Open,
}

/// Devices that have a role whatever they look like: `GLOB` (workload devices) or `ROLE=GLOB`.
#[derive(Clone, Debug)]
pub struct Included {
    role: Role,
    glob: Glob,
}

/// A pattern that cannot be understood.
#[derive(Debug, Error)]
pub enum PatternError {
    /// Not a glob.
    #[error(transparent)]
    Glob(#[from] globset::Error),
    /// Not a role.
    #[error("{0} is not a role of devices: these are workload, uplink and tunnel")]
    Role(String),
}

impl FromStr for Included {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let (role, glob) = match text.split_once('=') {
            None => (Role::Workload, text),
            Some((name, glob)) => {
                let role = Role::BY_PRECEDENCE.into_iter().find(|role| role.name() == name);
                (role.ok_or_else(|| PatternError::Role(name.to_owned()))?, glob)
            }
        };
        Ok(Self { role, glob: Glob::new(glob)? })
    }
}

impl Patterns {
    /// From the operator's flags: devices to leave alone, and devices that have a role. What is
    /// both is left alone.
    ///
    /// # Errors
    ///
    /// If the globs are too much together.
    pub fn new(exclude: &[Glob], include: &[Included]) -> Result<Self, globset::Error> {
        let of = |role| include.iter().filter(move |included| included.role == role);
        let include = Role::BY_PRECEDENCE
            .into_iter()
            .map(|role| Ok((role, globs(of(role).map(|included| &included.glob))?)))
            .collect::<Result<_, globset::Error>>()?;
        Ok(Self { exclude: globs(exclude)?, include })
    }

    /// No pattern: every device goes by what it is.
    #[must_use]
    pub fn none() -> Self {
        Self { exclude: GlobSet::empty(), include: Vec::new() }
    }

    pub(super) fn verdict(&self, name: &str) -> Verdict {
        if self.exclude.is_match(name) {
            return Verdict::Excluded;
        }
        let included = self.include.iter().find(|(_, globs)| globs.is_match(name));
        included.map_or(Verdict::Open, |(role, _)| Verdict::Included(*role))
    }
}

fn globs<'a>(globs: impl IntoIterator<Item = &'a Glob>) -> Result<GlobSet, globset::Error> {
    let mut set = GlobSetBuilder::new();
    for glob in globs {
        let _ = set.add(glob.clone());
    }
    set.build()
}

#[cfg(test)]
mod tests {
    use globset::Glob;

    use super::{Included, Patterns, Role, Verdict};

    #[test]
    fn exclusion_wins_and_roles_are_named() {
        let include = ["ovs-*", "uplink={eth,ens}*", "docker0"].map(|text| text.parse().unwrap());
        let patterns = Patterns::new(&[Glob::new("docker*").unwrap()], &include).unwrap();
        assert_eq!(patterns.verdict("docker0"), Verdict::Excluded);
        assert_eq!(patterns.verdict("ovs-1"), Verdict::Included(Role::Workload));
        assert_eq!(patterns.verdict("ens3"), Verdict::Included(Role::Uplink));
        assert_eq!(patterns.verdict("veth1"), Verdict::Open);
    }

    #[test]
    fn a_bad_pattern_is_explained() {
        let said = |text: &str| text.parse::<Included>().unwrap_err().to_string();
        assert!(said("[a").contains("unclosed character class"), "{}", said("[a"));
        assert_eq!(
            said("pod=veth*"),
            "pod is not a role of devices: these are workload, uplink and tunnel"
        );
    }
}
