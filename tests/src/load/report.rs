// SPDX-License-Identifier: Apache-2.0

//! What became of all requests.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::caller::Kind;
use super::journal::{Event, Record};
use super::request::RequestId;
use crate::family::IpFamily;

/// How many events of a client are shown, of each sort; and the last one.
const SHOWN: usize = 2;

/// What became of a client's requests.
#[derive(Debug)]
pub struct Row {
    /// How it has asked.
    pub kind: Kind,
    /// Where it ran.
    pub from: String,
    /// Whom it has asked.
    pub target: SocketAddr,
    /// What it has noted.
    pub record: Record,
    /// How many of its requests servers have seen, each counted once.
    pub seen: u32,
}

/// What became of the requests of a load.
///
/// Its text is a table of the clients, and what went wrong, in the order of time and between what was
/// noted.
#[derive(Debug)]
pub struct Report {
    /// One for each client.
    pub rows: Vec<Row>,
    /// Requests that servers have seen, and nobody has sent.
    pub strange: Vec<RequestId>,
    notes: Vec<(Duration, String)>,
    lasted: Duration,
}

impl Report {
    /// Compares what the clients have noted with what the servers have.
    pub(super) fn new(
        mut rows: Vec<Row>,
        answered: &HashMap<RequestId, u32>,
        notes: Vec<(Duration, String)>,
        lasted: Duration,
    ) -> Self {
        let mut strange = Vec::new();
        for (id, times) in answered {
            match usize::try_from(id.client()).ok().and_then(|client| rows.get_mut(client)) {
                Some(row) if (1..=row.record.sent).contains(&id.number()) => {
                    row.seen += 1;
                    if *times > 1 && !row.record.twice.contains(id) {
                        row.record.twice.push(*id);
                    }
                }
                _ => strange.push(*id),
            }
        }
        for event in rows.iter_mut().flat_map(|row| &mut row.record.lost) {
            let seen = if answered.contains_key(&event.id) { "a server" } else { "no server" };
            event.what = format!("{}; {seen} has seen it", event.what);
        }
        Self { rows, strange, notes, lasted }
    }

    /// The requests that were lost.
    pub fn lost(&self) -> impl Iterator<Item = &Event> {
        self.rows.iter().flat_map(|row| &row.record.lost)
    }

    /// The requests of which TCP had to send something again.
    pub fn sent_again(&self) -> impl Iterator<Item = &Event> {
        self.rows.iter().flat_map(|row| &row.record.sent_again)
    }

    /// How often clients have changed from a server that may leave to another.
    #[must_use]
    pub fn moved(&self) -> u32 {
        self.rows.iter().map(|row| row.record.moved).sum()
    }

    /// The longest time to an answer.
    #[must_use]
    pub fn longest(&self) -> Duration {
        self.rows.iter().map(|row| row.record.longest).max().unwrap_or_default()
    }

    /// Whether every client has asked, and each request was answered once, by somebody who may, and
    /// seen once.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        let is_clean = |Row { record, seen, .. }: &Row| {
            let complete =
                record.sent > 0 && record.answered == record.sent && *seen == record.sent;
            complete && record.twice.is_empty() && record.mistaken.is_empty()
        };
        self.strange.is_empty() && self.rows.iter().all(is_clean)
    }

    /// An error with the whole table unless it [is clean](Report::is_clean).
    pub fn ensure_nothing_lost(&self) -> Result<()> {
        ensure!(self.is_clean(), "not every request was answered as it must:\n{self}");
        Ok(())
    }

    /// What went wrong, the first and the last of each client, and what was noted.
    fn events(&self) -> Vec<(Duration, String)> {
        let mut events: Vec<_> =
            self.notes.iter().map(|(at, note)| (*at, format!("--- {note}"))).collect();
        for row in &self.rows {
            let who = format!("{} {} from {} to {}", row.kind, row.family(), row.from, row.target);
            let Record { lost, sent_again, mistaken, .. } = &row.record;
            for (sort, of_sort) in [("lost", lost), ("again", sent_again), ("wrong", mistaken)] {
                let last = of_sort.iter().skip(SHOWN).last();
                for Event { id, at, what } in of_sort.iter().take(SHOWN).chain(last) {
                    events.push((*at, format!("{sort} {id}: {who}: {what}")));
                }
            }
        }
        events.sort();
        events
    }
}

impl Row {
    /// The family of its addresses.
    #[must_use]
    pub fn family(&self) -> IpFamily {
        IpFamily::of(self.target.ip())
    }
}

impl fmt::Display for Row {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, from, target, record, seen } = self;
        let Record { sent, answered, lost, twice, mistaken, moved, longest, longest_at, .. } =
            record;
        write!(
            formatter,
            "{kind:<13} {} {from:<9} {:<22} {sent:>5} {answered:>5} {seen:>5} {:>5} {:>5} {:>5} \
             {moved:>5} {longest:>9.1?} at {:.2} s",
            self.family(),
            target.to_string(),
            lost.len(),
            twice.len(),
            mistaken.len(),
            longest_at.as_secs_f64(),
        )
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            formatter,
            "{:<13} {:<4} {:<9} {:<22} {:>5} {:>5} {:>5} {:>5} {:>5} {:>5} {:>5} longest",
            "kind", "", "from", "to", "sent", "answ.", "seen", "lost", "twice", "wrong", "moved",
        )?;
        for row in &self.rows {
            writeln!(formatter, "{row}")?;
        }
        if !self.strange.is_empty() {
            writeln!(formatter, "{} were seen that nobody has sent", self.strange.len())?;
        }
        writeln!(
            formatter,
            "in {:.1?}; of each client the first {SHOWN}, and the last:",
            self.lasted
        )?;
        for (at, event) in self.events() {
            writeln!(formatter, "{:>8.3} s  {event}", at.as_secs_f64())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A client that has sent three requests, of which the second was lost.
    fn rows() -> Vec<Row> {
        let lost = Event {
            id: RequestId::new(0, 2),
            at: Duration::from_millis(1_500),
            what: "silence".to_owned(),
        };
        let record = Record { sent: 3, answered: 2, lost: vec![lost], ..Record::default() };
        let target = ([10, 96, 0, 10], 80).into();
        vec![Row { kind: Kind::Unconnected, from: "client".to_owned(), target, record, seen: 0 }]
    }

    fn report(seen: &[(u32, u32, u32)]) -> Report {
        let seen =
            seen.iter().map(|(client, number, times)| (RequestId::new(*client, *number), *times));
        let notes = vec![(Duration::from_secs(1), "the agent is killed".to_owned())];
        Report::new(rows(), &seen.collect(), notes, Duration::from_secs(3))
    }

    #[test]
    fn a_loss_is_told_with_its_time_and_where_it_was() {
        for (seen, says) in [
            (&[(0, 1, 1), (0, 3, 1)][..], "no server has seen it"),
            (&[(0, 1, 1), (0, 2, 1), (0, 3, 1)], "; a server has seen it"),
        ] {
            let report = report(seen);
            let said = report.ensure_nothing_lost().unwrap_err().to_string();
            let (killed, lost) =
                ("1.000 s  --- the agent is killed", "1.500 s  lost 0/2: UDP IPv4");
            assert!(said.contains(says) && said.contains(killed) && said.contains(lost), "{said}");
            assert_eq!(report.rows[0].seen as usize, seen.len());
        }
    }

    #[test]
    fn what_is_seen_twice_or_sent_by_nobody_is_not_clean() {
        let clean = |seen: &[(u32, u32, u32)]| {
            let mut report = report(seen);
            report.rows[0].record.lost.clear();
            report.rows[0].record.answered = 3;
            report.is_clean()
        };
        let all = [(0, 1, 1), (0, 2, 1), (0, 3, 1)];
        assert!(clean(&all));
        assert!(!clean(&all[..2]));
        assert!(!clean(&[all[0], all[1], (0, 3, 2)]));
        for stranger in [(0, 0, 1), (0, 4, 1), (1, 1, 1)] {
            assert!(!clean(&[all[0], all[1], all[2], stranger]));
        }
    }
}
