// SPDX-License-Identifier: Apache-2.0

//! Pages of metrics in Prometheus' text format 0.0.4, as far as Go's and Rust's clients write it.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};

/// The labels of a value, by name.
pub type Labels = BTreeMap<String, String>;

/// A page.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page {
    /// The families, by name.
    pub families: BTreeMap<String, Family>,
}

/// What has one name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Family {
    /// `counter`, `gauge`, `histogram` or another one.
    pub kind: String,
    /// What it means.
    pub help: String,
    /// Its values.
    pub samples: Vec<Sample>,
}

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The family's name, of a histogram with an ending.
    pub name: String,
    /// Its labels.
    pub labels: Labels,
    /// The value.
    pub value: f64,
}

impl Page {
    /// Reads a page.
    pub fn read(text: &str) -> Result<Self> {
        let mut page = Self::default();
        let mut current = String::new();
        for line in text.lines() {
            page.read_line(line, &mut current).with_context(|| format!("the line {line:?}"))?;
        }
        Ok(page)
    }

    fn read_line(&mut self, line: &str, current: &mut String) -> Result<()> {
        if let Some(comment) = line.strip_prefix("# ") {
            let (what, rest) = comment.split_once(' ').context("no comment")?;
            let (name, text) = rest.split_once(' ').unwrap_or((rest, ""));
            let family = self.families.entry(name.to_owned()).or_default();
            name.clone_into(current);
            match what {
                "HELP" => text.clone_into(&mut family.help),
                "TYPE" => text.clone_into(&mut family.kind),
                _ => {}
            }
            return Ok(());
        }
        let (key, value) = line.rsplit_once(' ').context("no value")?;
        let (name, labels) = match key.split_once('{') {
            Some((name, labels)) => (name, read_labels(labels)?),
            None => (key, Labels::new()),
        };
        ensure!(name.starts_with(current.as_str()), "it is not of {current}");
        let family = self.families.get_mut(current).context("of no family")?;
        let value = value.parse()?;
        family.samples.push(Sample { name: name.to_owned(), labels, value });
        Ok(())
    }

    /// The value with this name and these labels, if there is one.
    #[must_use]
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let samples = self.families.values().flat_map(|family| &family.samples);
        let mut samples = samples.filter(|sample| sample.name == name);
        let has = |sample: &Sample, (name, value): &(&str, &str)| {
            sample.labels.get(*name).is_some_and(|known| known == value)
        };
        let found = samples.find(|sample| {
            sample.labels.len() == labels.len() && labels.iter().all(|label| has(sample, label))
        });
        found.map(|sample| sample.value)
    }
}

impl Family {
    /// The names of the labels, without those of histograms' buckets.
    #[must_use]
    pub fn label_names(&self) -> BTreeSet<&str> {
        let names = self.samples.iter().flat_map(|sample| sample.labels.keys());
        names.map(String::as_str).filter(|name| *name != "le").collect()
    }

    /// The upper bounds of a histogram's buckets but for the last one, in order.
    #[must_use]
    pub fn bounds(&self) -> Vec<f64> {
        let bounds = self.samples.iter().filter_map(|sample| sample.labels.get("le"));
        let mut bounds: Vec<f64> = bounds.filter_map(|bound| bound.parse().ok()).collect();
        bounds.retain(|bound| bound.is_finite());
        bounds.sort_by(f64::total_cmp);
        bounds.dedup();
        bounds
    }
}

/// `a="b",c="d"}`, where no value holds a quote.
fn read_labels(text: &str) -> Result<Labels> {
    let text = text.strip_suffix('}').context("labels without an end")?;
    let mut labels = Labels::new();
    let mut rest = text.trim_end_matches(',');
    while !rest.is_empty() {
        let (name, more) = rest.split_once("=\"").context("a label without a value")?;
        let (value, more) = more.split_once('"').context("a value without an end")?;
        let _ = labels.insert(name.to_owned(), value.to_owned());
        rest = more.strip_prefix(',').unwrap_or(more);
    }
    Ok(labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_read_as_it_is_written() -> Result<()> {
        let page = Page::read(
            "# HELP a_seconds of a\n# TYPE a_seconds histogram\n\
             a_seconds_bucket{x=\"1,2\",le=\"0.5\"} 1\na_seconds_bucket{x=\"1,2\",le=\"+Inf\"} 2\n\
             a_seconds_sum{x=\"1,2\"} 7e-1\na_seconds_count{x=\"1,2\"} 2\n\
             # HELP b_total of b\n# TYPE b_total counter\nb_total 3\n",
        )?;
        let a = &page.families["a_seconds"];
        assert_eq!(
            (a.kind.as_str(), a.help.as_str(), a.bounds()),
            ("histogram", "of a", vec![0.5])
        );
        assert_eq!(a.label_names(), BTreeSet::from(["x"]));
        assert_eq!(page.value("a_seconds_sum", &[("x", "1,2")]), Some(0.7));
        assert_eq!(page.value("b_total", &[]), Some(3.0));
        assert_eq!(page.value("b_total", &[("x", "1")]), None);
        assert!(Page::read("# TYPE b_total counter\nc_total 3\n").is_err());
        Ok(())
    }
}
