// SPDX-License-Identifier: Apache-2.0
//! Asking one Service port from one client, and judging the answers.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use proxy_tests::{
    family::IpFamily,
    protocol::Protocol,
    topology::Host,
    traffic::{Answer, Client, Failure, Shares},
};

use super::super::{
    asker::Asker,
    cluster::Cluster,
    recorded::{Expected, Service},
};

/// How many connections a client lets be refused; refusals are rate-limited.
const REFUSALS: usize = 5;

/// What is still at once: the kernel's next try to connect would come after a second.
const AT_ONCE: Duration = Duration::from_millis(250);

/// How long to wait for what must not come.
const SILENCE: Duration = Duration::from_millis(300);

/// After how many failures a client asks no more: what is broken is seen by then.
const ENOUGH_FAILURES: usize = 3;

/// A Service port in one family.
pub(super) struct Question<'a> {
    pub(super) service: &'a Service,
    /// `80/TCP`.
    pub(super) port: String,
    pub(super) protocol: Protocol,
    pub(super) target: SocketAddr,
    /// How many requests a client sends.
    pub(super) requests: usize,
    /// By client.
    pub(super) expected: Vec<Expected>,
}

/// What a client saw.
pub(in super::super) struct Seen {
    pub(in super::super) requests: usize,
    pub(in super::super) failures: usize,
    pub(in super::super) outcome: Outcome,
    /// How many answers came from a pod that saw the client's own address.
    pub(in super::super) own_address: usize,
    /// What was wrong with it.
    pub(in super::super) problem: Option<String>,
}

impl Seen {
    /// How many requests were answered.
    pub(in super::super) fn answers(&self) -> usize {
        match &self.outcome {
            Outcome::Answered(answers) => answers.values().sum(),
            Outcome::Refused(_) | Outcome::Dropped => 0,
        }
    }
}

/// How requests ended.
pub(in super::super) enum Outcome {
    /// How often each pod answered.
    Answered(BTreeMap<String, usize>),
    /// They were refused, half of them within this time.
    Refused(Duration),
    /// Nothing came back; or, where the client's socket knows, an error that says so.
    Dropped,
}

impl Question<'_> {
    pub(super) fn family(&self) -> IpFamily {
        IpFamily::of(self.target.ip())
    }

    /// Asks from the `number`th client.
    pub(super) fn ask(&self, cluster: &Cluster<'_>, asker: Asker, number: usize) -> Seen {
        let client = asker.host(cluster);
        let mut seen = match (&self.expected[number], asker) {
            (Expected::Served(pods), _) => self.expect_answers(cluster, asker, pods),
            (Expected::Refused, _) => self.expect_refusals(client),
            (Expected::Dropped, Asker::Pod(_)) => self.expect_silence(client),
            (Expected::Dropped, Asker::Node(_)) => self.expect_no_way(client),
        };
        seen.problem = seen.problem.map(|problem| {
            let (name, port, target) = (self.service.name(), &self.port, self.target);
            format!("{name} {port}, {target} from {asker}: {problem}")
        });
        seen
    }

    fn once(&self, client: Client<'_>) -> Result<Answer, Failure> {
        match self.protocol {
            Protocol::Tcp => client.get(self.target),
            Protocol::Udp | Protocol::Sctp => client.ask(self.protocol, self.target),
        }
    }

    /// Each pod must get its share, and see the client's own address; the client must see the
    /// cluster IP.
    fn expect_answers(&self, cluster: &Cluster<'_>, asker: Asker, pods: &BTreeSet<IpAddr>) -> Seen {
        let client = asker.host(cluster);
        let (mut own_address, mut foreign) = (0, None);
        let mut failures = 0;
        let shares: Shares = (0..self.requests)
            .map_while(|_| {
                let answer =
                    (failures < ENOUGH_FAILURES).then(|| self.once(Client::new(client)))?;
                failures += usize::from(answer.is_err());
                Some(answer)
            })
            .inspect(|answer| match answer {
                Ok(answer) if !asker.has(cluster, answer.source.ip()) => {
                    foreign = Some(format!("a pod saw {}", answer.source));
                }
                Ok(answer) if answer.peer != self.target => {
                    foreign = Some(format!("the client saw {}", answer.peer));
                }
                Ok(_) => own_address += 1,
                Err(_) => {}
            })
            .collect();
        let names: Vec<_> =
            pods.iter().filter_map(|ip| cluster.pod_at(*ip)).map(Host::name).collect();
        let as_it_must_be = if self.service.has_affinity() {
            shares.failures.is_empty()
                && shares.answers.keys().all(|server| names.contains(&server.as_str()))
        } else {
            shares.is_fair(&names)
        };
        let problem = match foreign {
            Some(foreign) => Some(foreign),
            None if as_it_must_be => None,
            None => Some(format!("of {} in equal shares, answered: {shares}", names.join(", "))),
        };
        Seen {
            requests: shares.requests(),
            failures: shares.failures.len(),
            outcome: Outcome::Answered(shares.answers),
            own_address,
            problem,
        }
    }

    /// Each request must be refused at once.
    fn expect_refusals(&self, client: &Host) -> Seen {
        let mut times = Vec::new();
        let mut problem = None;
        for _ in 0..REFUSALS {
            match self.once(Client::new(client)) {
                Err(failure) if failure.is_refusal() && failure.elapsed < AT_ONCE => {
                    times.push(failure.elapsed);
                }
                Err(failure) => problem = Some(format!("not refused at once: {failure}")),
                Ok(answer) => problem = Some(format!("{} answered", answer.server)),
            }
        }
        times.sort();
        let median = times.get(times.len() / 2).copied().unwrap_or_default();
        Seen {
            requests: REFUSALS,
            failures: REFUSALS - times.len(),
            outcome: Outcome::Refused(median),
            own_address: 0,
            problem,
        }
    }

    /// The socket must say at once that there is no way to an endpoint.
    fn expect_no_way(&self, client: &Host) -> Seen {
        let problem = match self.once(Client::new(client)) {
            Err(failure) if failure.is_no_way() && failure.elapsed < AT_ONCE => None,
            Err(failure) => Some(format!("not turned away at once: {failure}")),
            Ok(answer) => Some(format!("{} answered", answer.server)),
        };
        let failures = usize::from(problem.is_some());
        Seen { requests: 1, failures, outcome: Outcome::Dropped, own_address: 0, problem }
    }

    /// Nobody may answer or refuse.
    fn expect_silence(&self, client: &Host) -> Seen {
        let problem = match self.once(Client::new(client).patience(SILENCE)) {
            Err(failure) if failure.is_timeout() => None,
            Err(failure) => Some(format!("not dropped: {failure}")),
            Ok(answer) => Some(format!("{} answered", answer.server)),
        };
        let failures = usize::from(problem.is_some());
        Seen { requests: 1, failures, outcome: Outcome::Dropped, own_address: 0, problem }
    }
}
