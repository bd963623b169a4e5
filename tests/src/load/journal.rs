// SPDX-License-Identifier: Apache-2.0

//! What a client notes, and judges, of its requests.

use std::collections::HashSet;
use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::caller::{Kind, Servers};
use super::request::RequestId;

/// Something that went wrong with a request.
#[derive(Clone, Debug)]
pub struct Event {
    /// The request.
    pub id: RequestId,
    /// When it was sent, since the start of the load.
    pub at: Duration,
    /// What happened.
    pub what: String,
}

/// What became of a client's requests.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// How many requests were sent.
    pub sent: u32,
    /// How many were answered, whoever did.
    pub answered: u32,
    /// Those that were not.
    pub lost: Vec<Event>,
    /// Those of which TCP had to send a SYN again, or get a SYN-ACK again, or send a segment again and again: whether or
    /// not they were answered.
    pub sent_again: Vec<Event>,
    /// Those that were answered more than once, or whose answer came again.
    pub twice: Vec<RequestId>,
    /// Those that were answered by a server that must not, or from an address that was not asked, and
    /// ends that a socket must not see.
    pub mistaken: Vec<Event>,
    /// How often it was moved from a server that may leave to another.
    pub moved: u32,
    /// The longest time to an answer.
    pub longest: Duration,
    /// When that request was sent, since the start of the load.
    pub longest_at: Duration,
}

/// A record in the making.
#[derive(Debug)]
pub(super) struct Journal {
    pub(super) record: Record,
    client: u32,
    kind: Kind,
    servers: Servers,
    start: Instant,
    /// Requests that were given up.
    given_up: HashSet<RequestId>,
    /// Who answered last, if the next answer should be of the same.
    server: Option<String>,
}

impl Journal {
    /// An empty one of the client of this number, in a load that began at `start`.
    pub(super) fn new(client: u32, kind: Kind, servers: Servers, start: Instant) -> Self {
        let (record, given_up) = (Record::default(), HashSet::new());
        Self { record, client, kind, servers, start, given_up, server: None }
    }

    /// The id of the next request.
    pub(super) fn next(&mut self) -> RequestId {
        self.record.sent += 1;
        RequestId::new(self.client, self.record.sent)
    }

    /// A request of some time ago was answered by this server.
    pub(super) fn answered(&mut self, id: RequestId, sent: Instant, server: &str) {
        self.record.answered += 1;
        let took = sent.elapsed();
        if took > self.record.longest {
            (self.record.longest, self.record.longest_at) = (took, sent - self.start);
        }
        let before = self.server.replace(server.to_owned());
        let before = before.filter(|before| before != server && self.kind != Kind::Short);
        if !self.servers.contain(server) {
            self.mistake(id, sent, format_args!("{server} answers"));
        } else if let Some(before) = before {
            if self.kind != Kind::Long && self.servers.leaves(&before) {
                self.record.moved += 1;
            } else {
                self.mistake(id, sent, format_args!("{server} answers, {before} did before"));
            }
        }
    }

    /// A request was given up.
    pub(super) fn lost(&mut self, id: RequestId, sent: Instant, why: &dyn fmt::Display) {
        let _: bool = self.given_up.insert(id);
        let event = self.event(id, sent, why);
        self.record.lost.push(event);
    }

    /// An answer to an earlier request came: late, or again.
    pub(super) fn heard_again(&mut self, id: RequestId) {
        if !self.given_up.remove(&id) {
            self.record.twice.push(id);
        }
    }

    /// TCP had to send something of a request again.
    pub(super) fn sent_again(&mut self, id: RequestId, sent: Instant, what: &dyn fmt::Display) {
        let event = self.event(id, sent, what);
        self.record.sent_again.push(event);
    }

    /// The answer has come from another address than was asked.
    pub(super) fn heard_from(&mut self, id: RequestId, sent: Instant, from: SocketAddr) {
        self.mistake(id, sent, format_args!("answered as {from}"));
    }

    /// The client has another connection: its server may be another, too.
    pub(super) fn begins_anew(&mut self) {
        self.server = None;
    }

    /// The kernel has ended the client's socket, which must mean that its server has left.
    pub(super) fn was_ended(&mut self, id: RequestId, sent: Instant) {
        match self.server.take() {
            Some(server) if !self.servers.leaves(&server) => {
                self.mistake(id, sent, format_args!("the socket is ended, but {server} stays"));
            }
            _ => self.record.moved += 1,
        }
    }

    fn mistake(&mut self, id: RequestId, sent: Instant, what: fmt::Arguments<'_>) {
        let event = self.event(id, sent, &what);
        self.record.mistaken.push(event);
    }

    fn event(&self, id: RequestId, sent: Instant, what: &dyn fmt::Display) -> Event {
        Event { id, at: sent - self.start, what: what.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn journal(kind: Kind) -> Journal {
        let servers = Servers::staying(["stay-1", "stay-2"]).and_leaving(["turn-1"]);
        Journal::new(1, kind, servers, Instant::now())
    }

    fn mistakes(kind: Kind, servers: &[&str]) -> (usize, u32) {
        let mut journal = journal(kind);
        for server in servers {
            let (id, now) = (journal.next(), Instant::now());
            journal.answered(id, now, server);
        }
        (journal.record.mistaken.len(), journal.record.moved)
    }

    #[test]
    fn only_who_leaves_may_be_left() {
        let moves = ["turn-1", "stay-1", "stay-1"];
        let changes = ["stay-1", "stay-2", "stay-2"];
        for kind in [Kind::Connected, Kind::Unconnected, Kind::Affinity] {
            assert_eq!(mistakes(kind, &moves), (0, 1), "{kind}");
            assert_eq!(mistakes(kind, &changes), (1, 0), "{kind}");
        }
        assert_eq!(mistakes(Kind::Long, &moves), (1, 0));
        assert_eq!(mistakes(Kind::Short, &changes), (0, 0));
        for kind in Kind::ALL {
            assert_eq!(mistakes(kind, &["other"]), (1, 0), "{kind}");
        }
    }

    #[test]
    fn a_socket_is_ended_only_with_its_server() {
        for (server, mistakes) in [("stay-1", 1), ("turn-1", 0)] {
            let mut journal = journal(Kind::Connected);
            let (id, now) = (journal.next(), Instant::now());
            journal.answered(id, now, server);
            journal.was_ended(id, now);
            journal.answered(id, now, "stay-2");
            assert_eq!(journal.record.mistaken.len(), mistakes, "{server}");
        }
    }

    #[test]
    fn late_is_not_twice() {
        let mut journal = journal(Kind::Unconnected);
        let (given_up, answered) = (journal.next(), journal.next());
        journal.lost(given_up, Instant::now(), &"no answer");
        journal.answered(answered, Instant::now(), "stay-1");
        journal.heard_again(given_up);
        assert!(journal.record.twice.is_empty());
        journal.heard_again(given_up);
        journal.heard_again(answered);
        assert_eq!(journal.record.twice, [given_up, answered]);
    }
}
