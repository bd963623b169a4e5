// SPDX-License-Identifier: Apache-2.0
//! The part of the README that says which goals are reached, on which machine.

use anyhow::{Context as _, Result, ensure};
use comfy_table::{Table, presets::ASCII_MARKDOWN};

use super::{
    Report,
    goals::{count, families, rows},
    summary::{charts, how},
};

/// What begins and ends the part.
const MARKS: [&str; 2] = ["<!-- bench -->", "<!-- /bench -->"];

/// `readme` with what `report` says between its marks.
///
/// # Errors
///
/// If it has not got each of the marks once, in their order.
pub(super) fn with(report: &Report, readme: &str) -> Result<String> {
    replace(readme, &part(report))
}

fn replace(readme: &str, part: &str) -> Result<String> {
    let [begin, end] = MARKS;
    let (before, rest) =
        readme.split_once(begin).with_context(|| format!("there is no {begin}"))?;
    let (old, after) = rest.split_once(end).with_context(|| format!("no {end} after {begin}"))?;
    let others = [before, old, after]
        .into_iter()
        .filter(|text| MARKS.iter().any(|mark| text.contains(mark)));
    ensure!(others.count() == 0, "there is more than one {begin} or {end}");
    Ok(format!("{before}{begin}\n{part}\n{end}{after}"))
}

/// The machine, and a table of all goals.
fn part(report: &Report) -> String {
    let rows = rows(report);
    let families = families(&rows);
    let mut table = Table::new();
    let head = ["measured", "case"].into_iter().chain(families.iter().copied()).chain(["goal"]);
    let _ = table.load_preset(ASCII_MARKDOWN).set_header(head);
    for row in &rows {
        let of = |family: &&str| row.in_family(family).map_or("", |(text, _)| text);
        let cells = [row.measured, &row.case].into_iter().chain(families.iter().map(of));
        let _ = table.add_row(cells.chain([row.goal]));
    }
    let (machine, commit) = (&report.machine, &report.machine.commit);
    format!("{} on {machine}, at commit {commit}. {}\n\n{table}", count(&rows), how(charts(report)))
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use proxy_tests::family::IpFamily;

    use super::{
        super::{Chart, Figure, Section, Wanted},
        Report, replace, with,
    };
    use crate::{bench::machine::Machine, workspace};

    fn report() -> Report {
        let machine = Machine {
            model: "Processor".to_owned(),
            processors: 2,
            memory: 8,
            kernel: "6.1".to_owned(),
            mitigations: Vec::new(),
            date: Timestamp::UNIX_EPOCH,
            commit: "abc".to_owned(),
        };
        let direct = vec![2.0; 15];
        let figure = |case, family: Option<IpFamily>, value| {
            Figure::new(case, family, vec![value; 15]).unwrap()
        };
        let figures = vec![
            figure("direct", Some(IpFamily::V4), 2.0),
            figure("tc", Some(IpFamily::V4), 2.0).beside(
                "direct",
                &direct,
                Some(Wanted::AtLeast(0.97)),
            ),
            figure("tc", Some(IpFamily::V6), 1.0).beside(
                "direct",
                &direct,
                Some(Wanted::AtLeast(0.97)),
            ),
            figure("memory", None, 3.0).wanted(Wanted::AtMost(4.0)),
        ];
        let chart = Chart {
            title: "streams".to_owned(),
            unit: "Gbit/s".to_owned(),
            digits: 1,
            axis: None,
            in_summary: true,
            rounds: 15,
            dropped: 0,
            figures,
        };
        let section = Section { title: "Paths".to_owned(), notes: Vec::new(), charts: vec![chart] };
        Report { machine, quick: false, sections: vec![section] }
    }

    #[test]
    fn the_part_has_each_goal_with_both_families_side_by_side() {
        let text = with(&report(), "a\n<!-- bench -->\noutdated\n<!-- /bench -->\nb\n").unwrap();
        assert!(
            text.starts_with("a\n<!-- bench -->\n2 of 3 goals are reached on 2 × Processor, 8 GiB")
        );
        assert!(text.ends_with("|\n<!-- /bench -->\nb\n") && !text.contains("outdated"), "{text}");
        assert!(!text.contains("1970"), "it has no date: {text}");
        let rows: Vec<Vec<_>> = { text.lines() }
            .filter(|line| line.starts_with('|'))
            .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
            .collect();
        assert_eq!(rows[0], ["measured", "case", "IPv4", "IPv6", "both", "goal"]);
        let (v4, v6) = ("1.000 (1.000 to 1.000) ✓", "0.500 (0.500 to 0.500) missed");
        assert_eq!(rows[2], ["streams", "tc / direct", v4, v6, "", "≥ 0.97"]);
        let memory = "3.0 Gbit/s (3.0 to 3.0) ✓";
        assert_eq!(rows[3], ["streams", "memory", "", "", memory, "≤ 4"]);
        assert_eq!(rows.len(), 4);
    }

    #[test]
    fn it_is_replaced_as_often_as_one_likes() {
        let once = with(&report(), "<!-- bench --><!-- /bench -->").unwrap();
        assert_eq!(with(&report(), &once).unwrap(), once);
    }

    #[test]
    fn nothing_is_replaced_without_one_pair_of_marks() {
        for text in [
            "",
            "<!-- bench -->",
            "<!-- /bench -->",
            "<!-- /bench --> <!-- bench -->",
            "<!-- bench --> <!-- bench --> <!-- /bench -->",
            "<!-- bench --> <!-- /bench --> <!-- /bench -->",
        ] {
            assert!(replace(text, "new").is_err(), "{text}");
        }
        let readme = std::fs::read_to_string(workspace::root().join("README.md")).unwrap();
        assert!(replace(&readme, "new").is_ok());
    }
}
