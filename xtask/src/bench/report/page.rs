// SPDX-License-Identifier: Apache-2.0
//! The report as one page that needs nothing else, in light and dark.

use anyhow::Result;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{Chart, Figure, Goal, Ratio, Report, Section, chart, goals, summary};

/// The colours of charts are attributes, which any rule overrides.
const STYLE: &str = "
:root { color-scheme: light dark; --ink: #1b1f24; --paper: #ffffff; --grid: #d8dee4; --soft: #57606a;
  --good: #1a7f37; --bad: #bc4c00; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6edf3; --paper: #0d1117; --grid: #30363d; --soft: #8d96a0; --good: #3fb950;
    --bad: #f0883e; } }
body { background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, sans-serif;
  max-width: 68rem; margin: 2rem auto; padding: 0 1rem; }
svg { max-width: 100%; height: auto; }
svg [fill='#000000'] { fill: var(--ink); }
svg [stroke='#000000'] { stroke: var(--ink); }
svg [stroke='#C8C8C8'] { stroke: var(--grid); }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { border-bottom: 1px solid var(--grid); padding: .15rem .7rem .15rem 0; text-align: left;
  vertical-align: top; }
.number { text-align: right; }
td.soft, .number, .goal { white-space: nowrap; }
.soft, summary { color: var(--soft); }
.good { color: var(--good); }
.bad { color: var(--bad); }
";

/// The page.
///
/// # Errors
///
/// If a chart cannot be drawn.
pub(super) fn page(report: &Report) -> Result<String> {
    let sections: Vec<_> = report.sections.iter().map(section).collect::<Result<_>>()?;
    let machine = &report.machine;
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width";
                title { "Sixfour, measured" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { "Sixfour, measured" }
                p { (summary::machine(report)) }
                @if !machine.mitigations.is_empty() {
                    details {
                        summary { "Faults of the processors" }
                        ul { @for mitigation in &machine.mitigations { li { (mitigation) } } }
                    }
                }
                p class="soft" { (summary::how(summary::charts(report))) }
                (goals(report))
                @for section in &sections { (section) }
            }
        }
    };
    Ok(page.into_string())
}

/// All goals at a glance.
fn goals(report: &Report) -> Markup {
    let rows = goals::rows(report);
    let families = goals::families(&rows);
    html! {
        @if !rows.is_empty() {
            h2 { "Goals" }
            p { (goals::count(&rows)) "." }
            table {
                tr {
                    th { "measured" } th { "case" }
                    @for family in &families { th { (family) } }
                    th { "goal" }
                }
                @for row in &rows {
                    tr {
                        td { (row.measured) } td { (row.case) }
                        @for family in &families { (of_family(row.in_family(family))) }
                        td class="goal" { (row.goal) }
                    }
                }
            }
        }
    }
}

fn of_family(cell: Option<(&str, bool)>) -> Markup {
    let class = if cell.is_some_and(|(_, reached)| reached) { "good" } else { "bad" };
    html! { td class=(class) { @if let Some((text, _)) = cell { (text) } } }
}

fn section(section: &Section) -> Result<Markup> {
    let charts: Vec<_> = section.charts.iter().map(chart_and_table).collect::<Result<_>>()?;
    Ok(html! {
        h2 { (section.title) }
        @for note in &section.notes { p { (note) } }
        @for chart in &charts { (chart) }
    })
}

fn chart_and_table(chart: &Chart) -> Result<Markup> {
    let svg = chart::svg(chart)?;
    Ok(html! {
        h3 { (chart.title) }
        (PreEscaped(svg))
        details open[chart.figures.iter().any(|figure| figure.goals().next().is_some())] {
            summary { "Figures, " (summary::rounds(chart)) }
            table {
                tr {
                    th { "case" } th { "family" }
                    @if let Some(axis) = &chart.axis { th class="number" { (axis) } }
                    th class="number" { (chart.unit) } th { "interval" }
                    th class="number" { "ratio" } th { "interval" } th { "to" } th { "goal" }
                }
                @for figure in &chart.figures { (row(chart, figure)) }
            }
        }
    })
}

/// A row for the figure, and one for each ratio after the first.
fn row(chart: &Chart, figure: &Figure) -> Markup {
    let digits = chart.digits;
    let (first, others) = figure.ratios.split_first().unzip();
    html! {
        tr {
            td { (figure.case) } td { (figure.family) }
            @if chart.axis.is_some() {
                td class="number" { @if let Some(size) = figure.size { (size) } }
            }
            td class="number" { (format!("{:.digits$}", figure.estimate.median)) }
            td class="soft" { (summary::interval(&figure.estimate, digits)) }
            (ratio(first, figure.goal.as_ref()))
        }
        @for other in others.into_iter().flatten() {
            tr {
                td colspan=(if chart.axis.is_some() { 5 } else { 4 }) {}
                (ratio(Some(other), None))
            }
        }
    }
}

fn ratio(ratio: Option<&Ratio>, goal: Option<&Goal>) -> Markup {
    let goals = goal.into_iter().chain(ratio.and_then(|ratio| ratio.goal.as_ref()));
    html! {
        @if let Some(ratio) = ratio {
            td class="number" { (format!("{:.3}", ratio.estimate.median)) }
            td class="soft" { (summary::interval(&ratio.estimate, 3)) }
            td { (ratio.to) }
        } @else { td {} td {} td {} }
        td class="goal" { @for goal in goals { (judged(goal)) " " } }
    }
}

fn judged(goal: &Goal) -> Markup {
    let class = if goal.reached { "good" } else { "bad" };
    html! { span class=(class) { (summary::goal(goal)) } }
}
