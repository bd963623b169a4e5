// SPDX-License-Identifier: Apache-2.0
//! The tables at the end.

use std::{collections::BTreeMap, fs, num::NonZero, thread, time::Duration};

use comfy_table::{
    Attribute, Cell, CellAlignment, Color, ContentArrangement, Row as TableRow, Table,
    modifiers::UTF8_ROUND_CORNERS, presets::UTF8_FULL_CONDENSED,
};

use super::{
    asker::Asker,
    cluster::{MEASURED_POD, NODES},
    comparison::Comparison,
    requests::{Outcome, Row, Seen},
    scaling::{SERVICE, Step},
};

/// Per Service port and family, what each client saw.
pub(super) fn print_requests(rows: &[Row]) {
    let answers = Asker::ALL.map(|asker| asker.to_string());
    let head = ["Service", "port", "family", "requests", "failed"].map(str::to_owned);
    let mut table = table(head.into_iter().chain(answers));
    let (shown, others): (Vec<_>, Vec<_>) = rows.iter().partition(|row| row.is_shown());
    let mut last = None;
    for row in shown {
        let [service, port] =
            if last.replace((&row.service, &row.port)) == Some((&row.service, &row.port)) {
                ["", ""]
            } else {
                [row.service.as_str(), row.port.as_str()]
            };
        let mut cells = TableRow::from([Cell::new(service), Cell::new(port)]);
        let _ = cells.add_cell(Cell::new(row.family));
        add_counts(&mut cells, row.seen.iter());
        for seen in &row.seen {
            let _ = cells.add_cell(outcome(seen));
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
    println!(
        "\nWho answered at the ClusterIPs (a12 is the pod 10.244.1.12 and fd00:10:244:1::12 on\n\
         {}, b21 is 10.244.2.21 and fd00:10:244:2::21 on {}):",
        NODES[0].0, NODES[1].0,
    );
    println!("{table}");
    let own: usize = rows.iter().flat_map(|row| &row.seen).map(|seen| seen.own_address).sum();
    let answers: usize = rows.iter().flat_map(|row| &row.seen).map(Seen::answers).sum();
    println!("In {own} of {answers} answers the pod had seen the client's own address.");
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
        Outcome::Dropped => "no endpoint on this node".to_owned(),
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
fn shares(answers: &BTreeMap<String, usize>) -> String {
    let all = answers.values().sum::<usize>() as f64;
    let share =
        |(pod, count): (&String, &usize)| format!("{pod} {:.0}%", *count as f64 * 100.0 / all);
    answers.iter().map(share).collect::<Vec<_>>().join("  ")
}

fn milliseconds(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}
