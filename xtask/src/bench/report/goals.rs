// SPDX-License-Identifier: Apache-2.0
//! All goals of a report, with what was measured in both families side by side.

use std::collections::BTreeSet;

use super::{
    Chart, Figure, Goal, Report,
    summary::{charts, interval, name},
};
use crate::statistics::Estimate;

/// A goal, with what was measured in each family.
pub(super) struct Row<'a> {
    /// The title of the chart.
    pub(super) measured: &'a str,
    /// The case, and what it is compared with.
    pub(super) case: String,
    /// What was wanted.
    pub(super) goal: &'a str,
    /// A family, what there is in it, and whether that is what was wanted.
    pub(super) cells: Vec<(&'a str, String, bool)>,
}

/// All goals.
pub(super) fn rows(report: &Report) -> Vec<Row<'_>> {
    let mut rows = Vec::new();
    for chart in charts(report) {
        for figure in &chart.figures {
            add(&mut rows, chart, figure);
        }
    }
    rows
}

/// The families that there is something in.
pub(super) fn families<'a>(rows: &[Row<'a>]) -> BTreeSet<&'a str> {
    rows.iter().flat_map(|row| &row.cells).map(|(family, ..)| *family).collect()
}

/// How many are reached.
pub(super) fn count(rows: &[Row<'_>]) -> String {
    let cells = || rows.iter().flat_map(|row| &row.cells);
    let reached = cells().filter(|(.., reached)| *reached).count();
    format!("{reached} of {} goals are reached", cells().count())
}

impl Row<'_> {
    /// What there is in a family, and whether that is what was wanted.
    pub(super) fn in_family(&self, family: &str) -> Option<(&str, bool)> {
        let cell = self.cells.iter().find(|(other, ..)| *other == family);
        cell.map(|(_, text, reached)| (text.as_str(), *reached))
    }
}

/// Adds the goals of a figure, in the row of the other family where there is one.
fn add<'a>(rows: &mut Vec<Row<'a>>, chart: &'a Chart, figure: &'a Figure) {
    let own = figure.goal.iter().map(|goal| {
        let cell = cell(&figure.estimate, chart.digits, &chart.unit, goal);
        (name(chart, figure), goal, cell)
    });
    let ratios = figure.ratios.iter().filter_map(|ratio| {
        let goal = ratio.goal.as_ref()?;
        let cell = cell(&ratio.estimate, 3, "", goal);
        Some((format!("{} / {}", name(chart, figure), ratio.to), goal, cell))
    });
    for (case, goal, cell) in own.chain(ratios) {
        let cell = (figure.family.as_str(), cell, goal.reached);
        let (measured, goal) = (chart.title.as_str(), goal.text.as_str());
        let is_same =
            |row: &&mut Row<'_>| (row.measured, &row.case, row.goal) == (measured, &case, goal);
        match rows.iter_mut().find(is_same) {
            Some(row) => row.cells.push(cell),
            None => rows.push(Row { measured, case, goal, cells: vec![cell] }),
        }
    }
}

fn cell(estimate: &Estimate, digits: usize, unit: &str, goal: &Goal) -> String {
    let space = if unit.is_empty() { "" } else { " " };
    let interval = interval(estimate, digits);
    let mark = if goal.reached { "✓" } else { "missed" };
    format!("{:.digits$}{space}{unit} ({interval}) {mark}", estimate.median)
}
