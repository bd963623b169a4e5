// SPDX-License-Identifier: Apache-2.0
//! The tables at the end.

use std::{collections::BTreeMap, fmt::Display, fs, num::NonZero, thread, time::Duration};

use comfy_table::{
    Attribute, Cell, CellAlignment, Color, ContentArrangement, Row as TableRow, Table,
    modifiers::UTF8_ROUND_CORNERS, presets::UTF8_FULL_CONDENSED,
};

use super::{
    asker::{Asker, SeenAs},
    cluster::{FAR, MEASURED_POD, NODES, OUTSIDE},
    comparison::Comparison,
    requests::{Outcome, Row, Seen},
    scaling::{SERVICE, Step},
};

/// Per Service port and family, what each client in the cluster saw.
pub(super) fn print_cluster_ips(rows: &[Row]) {
    println!(
        "\nWho answered at the ClusterIPs (a12 is the pod 10.244.1.12 and fd00:10:244:1::12 on\n\
         {}, b21 is 10.244.2.21 and fd00:10:244:2::21 on {}):",
        NODES[0].0, NODES[1].0,
    );
    println!("{}", requests("port", rows, &Asker::INSIDE, false));
    let (own, answers) = (seen_as(rows, SeenAs::Client), answers(rows));
    println!("In {own} of {answers} answers the pod had seen the client's own address.");
}

/// Per way to a Service port, what each client outside saw, and as whom it was seen.
pub(super) fn print_outside(rows: &[Row]) {
    println!(
        "\nWho answered to machines outside the cluster ({} and {} are in the nodes' network,\n\
         {FAR} is behind {} and in no source range), and as whom the pods saw them:",
        OUTSIDE[0], OUTSIDE[1], OUTSIDE[0],
    );
    println!("{}", requests("frontend", rows, &Asker::OUTSIDE, true));
    let [own, nodes] = [SeenAs::Client, SeenAs::Node].map(|whom| seen_as(rows, whom));
    println!(
        "In {own} of {} answers the pod was on the asked node and had seen the client's own address;\n\
         in {nodes} it was elsewhere and had seen the asked node's.",
        answers(rows),
    );
}

/// How many answers came from a pod that saw the client as whom it had to, which was this.
fn seen_as(rows: &[Row], whom: SeenAs) -> usize {
    rows.iter().flat_map(|row| &row.seen).filter_map(|seen| seen.sources.get(&whom)).sum()
}

fn answers(rows: &[Row]) -> usize {
    rows.iter().flat_map(|row| &row.seen).map(Seen::answers).sum()
}

/// What `askers` saw, where it is shown or wrong, and the sum of the others.
fn requests(place: &str, rows: &[Row], askers: &[Asker], is_seen_as_shown: bool) -> Table {
    let head = ["Service", place, "family", "requests", "failed"].map(str::to_owned);
    let answers = askers.iter().map(Asker::to_string);
    let seen_as = is_seen_as_shown.then(|| "seen as".to_owned());
    let mut table = table(head.into_iter().chain(answers).chain(seen_as));
    let (shown, others): (Vec<_>, Vec<_>) = rows.iter().partition(|row| row.is_shown());
    let mut last = None;
    for row in shown {
        let [service, label] =
            if last.replace((&row.service, &row.label)) == Some((&row.service, &row.label)) {
                ["", ""]
            } else {
                [row.service.as_str(), row.label.as_str()]
            };
        let mut cells = TableRow::from([Cell::new(service), Cell::new(label)]);
        let _ = cells.add_cell(Cell::new(row.family));
        add_counts(&mut cells, row.seen.iter());
        for seen in &row.seen {
            let _ = cells.add_cell(outcome(seen));
        }
        if is_seen_as_shown {
            let mut all = BTreeMap::new();
            for (seen_as, count) in row.seen.iter().flat_map(|seen| &seen.sources) {
                *all.entry(seen_as).or_default() += count;
            }
            let _ = cells.add_cell(Cell::new(shares(&all)));
        }
        let _ = table.add_row(cells);
    }
    let mut cells = TableRow::from([
        Cell::new(format!("{} more", others.len())),
        Cell::new(""),
        Cell::new("both"),
    ]);
    add_counts(&mut cells, others.iter().flat_map(|row| &row.seen));
    let _ = table.add_row(cells);
    table
}

fn add_counts<'a>(cells: &mut TableRow, seen: impl Iterator<Item = &'a Seen> + Clone) {
    let requests = seen.clone().map(|seen| seen.requests).sum();
    let failures = seen.map(|seen| seen.failures).sum();
    let _ = cells.add_cell(number(requests)).add_cell(failed(failures));
}

fn outcome(seen: &Seen) -> Cell {
    let text = match &seen.outcome {
        Outcome::Answered(answers) => shares(answers),
        Outcome::Refused(median) => format!("refused in {}", milliseconds(*median)),
        Outcome::Dropped(cause) => cause.to_string(),
    };
    let cell = Cell::new(text);
    if seen.problem.is_some() { cell.fg(Color::Red) } else { cell }
}

/// What happened while a Service was scaled.
pub(super) fn print_scaling(steps: &[Step]) {
    let mut table = table(
        ["pods", "requests", "failed", "new answer after", "removed rest after", "shares"]
            .map(str::to_owned),
    );
    for step in steps {
        let time = |time: Option<Duration>| Cell::new(time.map_or_else(String::new, milliseconds));
        let _ = table.add_row([
            Cell::new(&step.what),
            number(step.requests),
            failed(step.failures),
            time(step.first_answer).set_alignment(CellAlignment::Right),
            time(step.last_request).set_alignment(CellAlignment::Right),
            Cell::new(shares(&step.settled)),
        ]);
    }
    println!(
        "\nThe Service {SERVICE} scaled while it was asked (times from writing the manifest):"
    );
    println!("{table}");
}

/// Throughput and connections, beside the direct path.
pub(super) fn print_speed(comparisons: &[Comparison]) {
    let head =
        ["", "family", "directly", "through the ClusterIP", "", "ratio", "half of them", "goal"];
    let mut table = table(head.map(str::to_owned));
    for comparison in comparisons {
        let Comparison { quantity, family, .. } = comparison;
        if comparison.is_missing() {
            let failed = Cell::new("failed").fg(Color::Red);
            let _ = table.add_row([Cell::new(quantity.what), Cell::new(family), failed]);
            continue;
        }
        let digits = quantity.digits;
        let value = |value: f64| right(format!("{value:.digits$}"));
        let (mark, colour) =
            if comparison.is_fast() { ("✓", Color::Green) } else { ("below", Color::Yellow) };
        let ratio = |part| comparison.ratio(part);
        let _ = table.add_row([
            Cell::new(quantity.what),
            Cell::new(family),
            value(comparison.direct()),
            value(comparison.service()),
            Cell::new(quantity.unit),
            right(format!("{:.2}", ratio(0.5))).add_attribute(Attribute::Bold).fg(colour),
            Cell::new(format!("{:.2} to {:.2}", ratio(0.25), ratio(0.75))),
            Cell::new(format!("{:.1} {mark}", quantity.goal)).fg(colour),
        ]);
    }
    let system = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let processors = thread::available_parallelism().map_or(1, NonZero::get);
    println!(
        "\nThe Service {MEASURED_POD}, from {} on {} to its one pod on {}: medians of turns on each\n\
         path, and the median ratio of turns next to each other (Linux {}, {processors} CPUs):",
        NODES[0].2,
        NODES[0].0,
        NODES[1].0,
        system.trim_end(),
    );
    println!("{table}");
    if comparisons.iter().any(|comparison| !comparison.is_missing() && !comparison.is_fast()) {
        println!(
            "A ratio below its goal does not fail the demo: a busy machine may be the reason."
        );
    }
}

fn table(head: impl IntoIterator<Item = String>) -> Table {
    let mut table = Table::new();
    let _ = table
        .load_preset(UTF8_FULL_CONDENSED)
        .apply_modifier(UTF8_ROUND_CORNERS)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(head.into_iter().map(|title| Cell::new(title).add_attribute(Attribute::Bold)));
    table
}

fn right(text: String) -> Cell {
    Cell::new(text).set_alignment(CellAlignment::Right)
}

fn number(number: usize) -> Cell {
    right(number.to_string())
}

fn failed(failures: usize) -> Cell {
    number(failures).fg(if failures == 0 { Color::Green } else { Color::Red })
}

#[expect(clippy::cast_precision_loss, reason = "there are fewer than 2^52 requests")]
fn shares<T: Display>(counts: &BTreeMap<T, usize>) -> String {
    let all = counts.values().sum::<usize>() as f64;
    let share = |(what, count): (&T, &usize)| format!("{what} {:.0}%", *count as f64 * 100.0 / all);
    counts.iter().map(share).collect::<Vec<_>>().join("  ")
}

fn milliseconds(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}
