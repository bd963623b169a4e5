// SPDX-License-Identifier: Apache-2.0
//! The operator's word on devices, by name: it overrides what a device looks like.

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

/// A pattern that cannot be understood.
#[derive(Debug, Error)]
pub enum PatternError {
    /// Not a glob.
    #[error("{pattern} is not a pattern for device names")]
    Glob {
        /// What was given.
        pattern: String,
        /// What is wrong with it.
        #[source]
        source: globset::Error,
    },
    /// Not a role.
    #[error("{0} is not a role of devices: these are workload, uplink and tunnel")]
    Role(String),
}

impl Patterns {
    /// From the operator's flags: globs to exclude, and globs to include, each as `GLOB` (a
    /// workload device) or `ROLE=GLOB`. What is both excluded and included is excluded.
    ///
    /// # Errors
    ///
    /// The first pattern that cannot be understood.
    pub fn parse(
        exclude: &[impl AsRef<str>],
        include: &[impl AsRef<str>],
    ) -> Result<Self, PatternError> {
        let exclude = globs(exclude.iter().map(AsRef::as_ref))?;
        let entries = include
            .iter()
            .map(|entry| role_and_glob(entry.as_ref()))
            .collect::<Result<Vec<_>, _>>()?;
        let include = Role::BY_PRECEDENCE
            .into_iter()
            .map(|role| {
                let of_role = entries.iter().filter(|(of, _)| *of == role);
                Ok((role, globs(of_role.map(|(_, glob)| *glob))?))
            })
            .collect::<Result<_, PatternError>>()?;
        Ok(Self { exclude, include })
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

fn role_and_glob(entry: &str) -> Result<(Role, &str), PatternError> {
    let Some((name, glob)) = entry.split_once('=') else {
        return Ok((Role::Workload, entry));
    };
    let role = Role::BY_PRECEDENCE.into_iter().find(|role| role.name() == name);
    role.map(|role| (role, glob)).ok_or_else(|| PatternError::Role(name.to_owned()))
}

fn globs<'a>(patterns: impl Iterator<Item = &'a str>) -> Result<GlobSet, PatternError> {
    let error = |pattern: &str| {
        let pattern = pattern.to_owned();
        move |source| PatternError::Glob { pattern, source }
    };
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        let _ = set.add(Glob::new(pattern).map_err(error(pattern))?);
    }
    set.build().map_err(error("the list"))
}

#[cfg(test)]
mod tests {
    use super::{PatternError, Patterns, Role, Verdict};

    const NONE: [&str; 0] = [];

    #[test]
    fn exclusion_wins_and_roles_are_named() {
        let patterns = Patterns::parse(&["docker*"], &["ovs-*", "uplink={eth,ens}*", "docker0"]);
        let patterns = patterns.unwrap();
        assert_eq!(patterns.verdict("docker0"), Verdict::Excluded);
        assert_eq!(patterns.verdict("ovs-1"), Verdict::Included(Role::Workload));
        assert_eq!(patterns.verdict("ens3"), Verdict::Included(Role::Uplink));
        assert_eq!(patterns.verdict("veth1"), Verdict::Open);
    }

    #[test]
    fn a_bad_pattern_is_named() {
        let bad = Patterns::parse(&["[a"], &NONE).unwrap_err();
        assert_eq!(bad.to_string(), "[a is not a pattern for device names");
        let bad = Patterns::parse(&NONE, &["pod=veth*"]).unwrap_err();
        assert!(matches!(bad, PatternError::Role(role) if role == "pod"));
    }
}
