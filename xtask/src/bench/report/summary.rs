// SPDX-License-Identifier: Apache-2.0
//! The report in words and tables: on the terminal, and for other pages.

use std::collections::BTreeSet;

use comfy_table::{
    Attribute, Cell, CellAlignment, Color, Table,
    modifiers::UTF8_ROUND_CORNERS,
    presets::{ASCII_MARKDOWN, UTF8_FULL_CONDENSED},
};

use super::{Chart, Figure, Goal, Ratio, Report, goals};
use crate::statistics::{CONFIDENCE, Estimate, Interval};

/// How figures are made.
const HOW: &str = "Figures are medians of rounds; each round measured all cases of a chart, \
     one after the other. p50 and p99 are of all values of all rounds together. Ratios are medians of \
     the ratios within a round. Intervals hold the true value with a confidence of 95 % or more, \
     whatever the distribution (order statistics).";

/// How figures are made, and whether there were rounds enough.
pub(super) fn how<'a>(charts: impl IntoIterator<Item = &'a Chart>) -> String {
    let intervals = Intervals::of(charts.into_iter().flat_map(|chart| &chart.figures));
    let percent = intervals.confidence * 100.0;
    let few =
        format!(" There were too few rounds for that: some hold it with {percent:.1} % only.");
    let none = " Where there is none, there were too few values for one.";
    [
        HOW,
        if intervals.confidence < CONFIDENCE { &few } else { "" },
        if intervals.are_all { "" } else { none },
    ]
    .concat()
}

/// The intervals of some figures.
struct Intervals {
    /// How sure the least sure of them is.
    confidence: f64,
    /// Whether each figure has one.
    are_all: bool,
}

impl Intervals {
    fn of<'a>(figures: impl IntoIterator<Item = &'a Figure>) -> Self {
        figures.into_iter().map(|figure| figure.estimate.interval).fold(
            Self { confidence: 1.0, are_all: true },
            |all, interval| Self {
                confidence: interval.map_or(1.0, |one| one.confidence).min(all.confidence),
                are_all: all.are_all && interval.is_some(),
            },
        )
    }
}

/// What was measured, where and when, in a sentence.
pub(super) fn machine(report: &Report) -> String {
    let machine = &report.machine;
    format!(
        "Measured on {machine}, on {}, at commit {}{}.",
        machine.date,
        machine.commit,
        if report.quick { ", in a hurry: trust the intervals only" } else { "" },
    )
}

/// How many rounds a chart has.
pub(super) fn rounds(chart: &Chart) -> String {
    let Chart { rounds, dropped, figures, .. } = chart;
    let intervals = Intervals::of(figures);
    let percent = intervals.confidence * 100.0;
    let none = if intervals.are_all { "" } else { " where there are values enough" };
    format!("{rounds} rounds, {dropped} more dropped, {percent:.1} % intervals{none}")
}

/// An interval, with so many digits.
pub(super) fn interval(estimate: &Estimate, digits: usize) -> String {
    estimate.interval.map_or_else(
        || "no interval".to_owned(),
        |Interval { low, high, .. }| format!("{low:.digits$} to {high:.digits$}"),
    )
}

/// A goal, and whether it is reached.
pub(super) fn goal(goal: &Goal) -> String {
    format!("{} {}", goal.text, if goal.reached { "✓" } else { "missed" })
}

/// Prints the figures that matter most, and how many goals were reached.
pub(super) fn print(report: &Report) {
    for section in &report.sections {
        println!("\n{}", section.title);
        for note in &section.notes {
            println!("{note}");
        }
        for chart in section.charts.iter().filter(|chart| chart.in_summary) {
            println!("\n{}, {} ({})\n{}", chart.title, chart.unit, rounds(chart), full(chart));
        }
    }
    println!("\n{}\n{}.\n", machine(report), goals::count(&goals::rows(report)));
}

/// What figures are shown by.
const HEAD: [&str; 8] = ["", "family", "median", "interval", "ratio", "interval", "to", "goal"];

fn full(chart: &Chart) -> Table {
    let mut table = table(HEAD);
    for figure in &chart.figures {
        let _ = table.add_rows(rows(chart, figure));
    }
    table
}

/// The figures of all charts in one table, each with its unit, and how they were made.
pub(crate) fn together(charts: &[Chart]) -> String {
    let [_, others @ ..] = HEAD;
    let head = ["what", "path"].into_iter().chain(others);
    let mut table = table(head);
    for chart in charts {
        let mut titles = [chart.title.clone(), chart.unit.clone()].into_iter();
        for row in chart.figures.iter().flat_map(|figure| rows(chart, figure)) {
            let title = Cell::new(titles.next().unwrap_or_default());
            let _ = table.add_row([title].into_iter().chain(row));
        }
    }
    format!("{table}\n{}", how(charts))
}

fn table<'a>(head: impl IntoIterator<Item = &'a str>) -> Table {
    let mut table = Table::new();
    let head = head.into_iter().map(|title| Cell::new(title).add_attribute(Attribute::Bold));
    let _ =
        table.load_preset(UTF8_FULL_CONDENSED).apply_modifier(UTF8_ROUND_CORNERS).set_header(head);
    table
}

/// A row for the figure, and one for each ratio after the first.
fn rows(chart: &Chart, figure: &Figure) -> Vec<Vec<Cell>> {
    let (first, others) = figure.ratios.split_first().unzip();
    let mut cells = vec![
        Cell::new(name(chart, figure)),
        Cell::new(&figure.family),
        right(format!("{:.*}", chart.digits, figure.estimate.median)),
        Cell::new(interval(&figure.estimate, chart.digits)),
    ];
    cells.extend(ratio(first, figure.goal.as_ref()));
    let others = others.into_iter().flatten().map(|other| {
        let empty = [""; 4].map(Cell::new).into_iter();
        empty.chain(ratio(Some(other), None)).collect()
    });
    [cells].into_iter().chain(others).collect()
}

/// The case of a figure, and its size if it has one.
pub(super) fn name(chart: &Chart, figure: &Figure) -> String {
    match figure.size.zip(chart.axis.as_ref()) {
        Some((size, axis)) => format!("{}, {size} {axis}", figure.case),
        None => figure.case.clone(),
    }
}

fn right(text: String) -> Cell {
    Cell::new(text).set_alignment(CellAlignment::Right)
}

/// The cells of a ratio, and of what it and the figure itself are to be.
fn ratio(ratio: Option<&Ratio>, of_figure: Option<&Goal>) -> [Cell; 4] {
    let goals = of_figure.into_iter().chain(ratio.and_then(|ratio| ratio.goal.as_ref()));
    let colour = if goals.clone().all(|goal| goal.reached) { Color::Green } else { Color::Yellow };
    let goals = Cell::new(goals.map(goal).collect::<Vec<_>>().join(", ")).fg(colour);
    let Some(ratio) = ratio else {
        return [Cell::new(""), Cell::new(""), Cell::new(""), goals];
    };
    let median = right(format!("{:.3}", ratio.estimate.median)).add_attribute(Attribute::Bold);
    [median, Cell::new(interval(&ratio.estimate, 3)), Cell::new(&ratio.to), goals]
}

/// All figures that matter, for other pages: a row for each case, with the families side by side.
pub(super) fn markdown(report: &Report) -> String {
    let mut table = Table::new();
    let families: BTreeSet<_> = shown(report).flat_map(|c| &c.figures).map(|f| &f.family).collect();
    let mut head = vec!["measured".to_owned(), "case".to_owned()];
    for family in &families {
        head.extend([(*family).clone(), "ratio".to_owned()]);
    }
    head.push("goal".to_owned());
    let _ = table.load_preset(ASCII_MARKDOWN).set_header(head);
    for chart in shown(report) {
        let mut rows = Vec::new();
        for figure in &chart.figures {
            let row = (&figure.case, figure.size);
            if !rows.contains(&row) {
                rows.push(row);
                let _ = table.add_row(markdown_row(chart, figure, &families));
            }
        }
    }
    format!("{}\n\n{}\n\n{table}\n", machine(report), how(charts(report)))
}

fn shown(report: &Report) -> impl Iterator<Item = &Chart> {
    charts(report).filter(|chart| chart.in_summary)
}

/// All charts.
pub(super) fn charts(report: &Report) -> impl Iterator<Item = &Chart> {
    report.sections.iter().flat_map(|section| &section.charts)
}

/// The figures of all families that are of the same case and size as `first`.
fn markdown_row(chart: &Chart, first: &Figure, families: &BTreeSet<&String>) -> Vec<String> {
    let mut cells = vec![format!("{}, {}", chart.title, chart.unit), name(chart, first)];
    let mut goals = BTreeSet::new();
    for family in families {
        let figure = chart.figures.iter().find(|figure| {
            (&figure.case, figure.size, &figure.family) == (&first.case, first.size, family)
        });
        let value = |figure: &Figure| {
            let value = format!("{:.*}", chart.digits, figure.estimate.median);
            marked(value, figure.goal.as_ref())
        };
        let ratio = |ratio: &Ratio| {
            let interval = interval(&ratio.estimate, 2);
            let value = format!("{:.2} ({interval}) of {}", ratio.estimate.median, ratio.to);
            marked(value, ratio.goal.as_ref())
        };
        let ratios = figure.map_or(&[][..], |figure| &figure.ratios).iter().map(ratio);
        cells.push(figure.map_or_else(String::new, value));
        cells.push(ratios.collect::<Vec<_>>().join("; "));
        goals.extend(figure.into_iter().flat_map(Figure::goals).map(|goal| goal.text.as_str()));
    }
    cells.push(goals.into_iter().collect::<Vec<_>>().join(", "));
    cells
}

fn marked(value: String, goal: Option<&Goal>) -> String {
    match goal {
        None => value,
        Some(Goal { reached: true, .. }) => format!("{value} ✓"),
        Some(Goal { reached: false, .. }) => format!("{value} missed"),
    }
}

#[cfg(test)]
mod tests {
    use super::{Chart, Figure, how, rounds};

    fn chart(rounds: usize, figures: Vec<Figure>) -> Chart {
        Chart {
            title: "latency".to_owned(),
            unit: "ms".to_owned(),
            digits: 1,
            axis: None,
            in_summary: true,
            rounds,
            dropped: 2,
            figures,
        }
    }

    fn quantile(part: f64, values: usize) -> Figure {
        Figure::quantile("p", None, vec![1.0; values], part).unwrap()
    }

    #[test]
    fn rounds_are_not_values() {
        let chart = chart(15, vec![quantile(0.5, 450), quantile(0.99, 450)]);
        assert_eq!(rounds(&chart), "15 rounds, 2 more dropped, 95.7 % intervals");
        assert!(how([&chart]).ends_with("(order statistics)."));
    }

    #[test]
    fn what_has_no_interval_is_said_to_have_none() {
        let median = Figure::new("median", None, vec![1.0; 6]).unwrap();
        let chart = chart(6, vec![median, quantile(0.99, 60)]);
        let some = "6 rounds, 2 more dropped, 96.9 % intervals where there are values enough";
        assert_eq!(rounds(&chart), some);
        assert!(
            how([&chart]).ends_with(" Where there is none, there were too few values for one.")
        );
    }

    #[test]
    fn rounds_that_are_too_few_are_called_so() {
        let median = Figure::new("median", None, vec![1.0; 2]).unwrap();
        let how = how([&chart(2, vec![median])]);
        assert!(how.ends_with("too few rounds for that: some hold it with 50.0 % only."), "{how}");
    }
}
