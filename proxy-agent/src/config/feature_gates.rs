// SPDX-License-Identifier: Apache-2.0
//! The features that kube-proxy 1.36 knows. Of most it knows no more than that there are such elsewhere in Kubernetes.

use std::str::FromStr;

/// Name, stage and default of each, as kube-proxy 1.36 tells of them in `kubernetes_feature_enabled`.
const KNOWN: &str = include_str!("feature-gates-1.36.txt");

/// A feature that can be switched on and off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeatureGate {
    /// Its name.
    pub name: &'static str,
    /// `ALPHA`, `BETA`, `DEPRECATED`, or `GA`.
    pub stage: &'static str,
    /// Whether it is on unless somebody says otherwise.
    pub default: bool,
}

/// There is no such feature.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no feature of Kubernetes 1.36")]
pub struct UnknownFeature(String);

impl FeatureGate {
    /// All of them, by name.
    pub fn all() -> impl Iterator<Item = Self> {
        KNOWN.lines().filter_map(|line| {
            let mut words = line.split(' ');
            let (name, stage) = (words.next()?, words.next()?);
            Some(Self { name, stage, default: words.next()? == "true" })
        })
    }
}

impl FromStr for FeatureGate {
    type Err = UnknownFeature;

    fn from_str(name: &str) -> Result<Self, UnknownFeature> {
        Self::all().find(|gate| gate.name == name).ok_or_else(|| UnknownFeature(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_all_there() {
        assert_eq!(FeatureGate::all().count(), KNOWN.lines().count());
        assert!(FeatureGate::all().is_sorted_by_key(|gate| gate.name));
        for gate in FeatureGate::all() {
            assert!(["ALPHA", "BETA", "DEPRECATED", "GA"].contains(&gate.stage), "{gate:?}");
        }
        let expected = FeatureGate { name: "AllAlpha", stage: "ALPHA", default: false };
        assert_eq!("AllAlpha".parse(), Ok(expected));
        assert!("AllowServiceExternalIPs".parse::<FeatureGate>().unwrap().default);
        assert_eq!("allAlpha".parse::<FeatureGate>(), Err(UnknownFeature("allAlpha".to_owned())));
    }
}
