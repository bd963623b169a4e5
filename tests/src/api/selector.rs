// SPDX-License-Identifier: Apache-2.0

//! Selectors, as the API applies them.

use anyhow::{Result, bail};

use super::object::Object;

/// What a request selects.
#[derive(Clone, Debug, Default)]
pub(super) struct Selector {
    labels: Vec<Term>,
    fields: Vec<Term>,
}

#[derive(Clone, Debug)]
enum Term {
    Absent(String),
    Present(String),
    Equal(String, String),
    Unequal(String, String),
}

impl Selector {
    /// Reads the two parameters.
    pub(super) fn parse(labels: &str, fields: &str) -> Result<Self> {
        let fields = terms(fields);
        for field in &fields {
            if !matches!(field, Term::Equal(..) | Term::Unequal(..)) {
                bail!("field label not supported");
            }
        }
        Ok(Self { labels: terms(labels), fields })
    }

    /// Whether an object is selected.
    pub(super) fn matches(&self, object: &Object) -> bool {
        self.labels.iter().all(|term| term.holds(|name| object.label(name)))
            && self.fields.iter().all(|term| term.holds(|path| Some(object.field(path))))
    }
}

impl Term {
    fn holds<'a>(&self, value: impl Fn(&str) -> Option<&'a str>) -> bool {
        match self {
            Self::Absent(name) => value(name).is_none(),
            Self::Present(name) => value(name).is_some(),
            Self::Equal(name, wanted) => value(name) == Some(wanted),
            Self::Unequal(name, other) => value(name) != Some(other),
        }
    }
}

fn terms(text: &str) -> Vec<Term> {
    let term = |term: &str| {
        if let Some((name, value)) = term.split_once("!=") {
            return Term::Unequal(name.to_owned(), value.to_owned());
        }
        if let Some((name, value)) = term.split_once('=') {
            let value = value.strip_prefix('=').unwrap_or(value);
            return Term::Equal(name.to_owned(), value.to_owned());
        }
        match term.strip_prefix('!') {
            Some(name) => Term::Absent(name.to_owned()),
            None => Term::Present(term.to_owned()),
        }
    };
    text.split(',').filter(|text| !text.is_empty()).map(term).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{
        super::{kind::Kind, object::Object},
        Selector,
    };

    #[test]
    fn selectors_are_those_of_the_api() {
        let object = json!({
            "metadata": {"name": "n", "labels": {"a": "1"}}, "spec": {"clusterIP": "None"},
        });
        let object = Object::new(Kind::Service, object);
        for (labels, fields, expected) in [
            ("", "", true),
            ("a", "metadata.name=n", true),
            ("!a", "", false),
            ("!b,a=1", "", true),
            ("a!=1", "", false),
            ("", "spec.clusterIP!=None", false),
            ("", "spec.type!=None", true),
        ] {
            let selector = Selector::parse(labels, fields).unwrap();
            assert_eq!(selector.matches(&object), expected, "{labels} {fields}");
        }
        assert!(Selector::parse("", "name").is_err());
    }
}
