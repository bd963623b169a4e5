// SPDX-License-Identifier: Apache-2.0
//! Truth as Go reads it.

use std::str::FromStr;

use serde::Serialize;

/// Whether something holds, in the words of Go's `strconv.ParseBool`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct GoBool(pub bool);

/// A word that says neither.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not true or false")]
pub struct NoBool(String);

impl FromStr for GoBool {
    type Err = NoBool;

    fn from_str(text: &str) -> Result<Self, NoBool> {
        match text {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(Self(true)),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(Self(false)),
            other => Err(NoBool(other.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_has_many_words() {
        for (text, holds) in [("1", true), ("True", true), ("f", false), ("FALSE", false)] {
            assert_eq!(text.parse(), Ok(GoBool(holds)));
        }
        for bad in ["", "yes", "tRue", " true"] {
            assert_eq!(bad.parse::<GoBool>(), Err(NoBool(bad.to_owned())));
        }
    }
}
