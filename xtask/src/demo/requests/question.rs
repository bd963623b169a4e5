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
    asker::{Asker, SeenAs},
    cluster::{self, Cluster},
    recorded::{Cause, Expected, Recorded, Service, Way},
};

/// How many connections a client lets be refused; refusals are rate-limited.
const REFUSALS: usize = 5;

/// What is still at once: the kernel's next try to connect would come after a second.
const AT_ONCE: Duration = Duration::from_millis(250);

/// How long to wait for what must not come.
const SILENCE: Duration = Duration::from_millis(300);

/// After how many failures a client asks no more: what is broken is seen by then.
const ENOUGH_FAILURES: usize = 3;

/// How many requests a client sends, where the answers are shown and where not: so many that chance
/// leaves one of three pods without any in one of a million demos.
const REQUESTS_SHOWN: usize = 120;
const REQUESTS: usize = 50;

/// A way to a Service port.
pub(in super::super) struct Question<'a> {
    pub(super) service: &'a Service,
    /// `80/TCP`, or `node port 30080/TCP`.
    pub(super) label: String,
    pub(super) family: IpFamily,
    protocol: Protocol,
    /// Whether the answers are shown where there is nothing wrong with them.
    pub(super) is_shown: bool,
    /// By client.
    asked: Vec<Asked>,
}

/// What one client asks.
struct Asked {
    asker: Asker,
    target: SocketAddr,
    expected: Expected,
}

/// What a client saw.
pub(in super::super) struct Seen {
    pub(in super::super) requests: usize,
    pub(in super::super) failures: usize,
    pub(in super::super) outcome: Outcome,
    /// How many answers came from a pod that saw the client as whom it had to.
    pub(in super::super) sources: BTreeMap<SeenAs, usize>,
    /// What was wrong with it.
    pub(in super::super) problem: Option<String>,
}

impl Seen {
    /// How many requests were answered.
    pub(in super::super) fn answers(&self) -> usize {
        match &self.outcome {
            Outcome::Answered(answers) => answers.values().sum(),
            Outcome::Refused(_) | Outcome::Dropped(_) => 0,
        }
    }

    /// One request was to be dropped.
    fn dropped(cause: Cause, problem: Option<String>) -> Self {
        let failures = usize::from(problem.is_some());
        let outcome = Outcome::Dropped(cause);
        Self { requests: 1, failures, outcome, sources: BTreeMap::new(), problem }
    }
}

/// How requests ended.
pub(in super::super) enum Outcome {
    /// How often each pod answered.
    Answered(BTreeMap<String, usize>),
    /// They were refused, half of them within this time.
    Refused(Duration),
    /// Nothing came back; or, where the client's socket knows, an error that says so.
    Dropped(Cause),
}

impl<'a> Question<'a> {
    /// What `askers` ask by `way`; none if the demo does not speak its protocol, or if an endpoint is
    /// no pod of the cluster's.
    pub(in super::super) fn new(
        cluster: &Cluster<'_>,
        recorded: &Recorded,
        askers: &[Asker],
        way: &Way<'a>,
    ) -> Option<Self> {
        let family = way.frontend.family();
        let asked = askers.iter().map(|&asker| {
            let (client, node) = (asker.host(cluster), asker.node(cluster).host());
            let target = way.target(node);
            let expected = recorded.expected(way, client.address(family), node.name());
            Asked { asker, target, expected }
        });
        let question = Self {
            service: way.service,
            label: way.label(),
            family,
            protocol: cluster::protocol(&way.port.protocol)?,
            is_shown: false,
            asked: asked.collect(),
        };
        let is_ours = |asked: &Asked| match &asked.expected {
            Expected::Served(pods) => pods.iter().all(|ip| cluster.pod_at(*ip).is_some()),
            Expected::Refused | Expected::Dropped(_) => true,
        };
        question.asked.iter().all(is_ours).then_some(question)
    }

    /// Has its answers shown if it is among `these`, each a Service's name and a label.
    pub(in super::super) fn shown_if_in(mut self, these: &[(&str, &str)]) -> Self {
        self.is_shown = these.contains(&(self.service.name(), &self.label));
        self
    }

    /// Says in the label that the Service has no such port.
    pub(in super::super) fn without_port(mut self) -> Self {
        self.label.push_str(" (none)");
        self
    }

    /// Asks from the `number`th client.
    pub(super) fn ask(&self, cluster: &Cluster<'_>, number: usize) -> Seen {
        let Asked { asker, target, ref expected } = self.asked[number];
        let client = asker.host(cluster);
        let mut seen = match (expected, asker) {
            (Expected::Served(pods), _) => self.expect_answers(cluster, asker, target, pods),
            (Expected::Refused, _) => self.expect_refusals(client, target),
            (Expected::Dropped(cause), Asker::Node(_)) => {
                self.expect_no_way(client, target, *cause)
            }
            (Expected::Dropped(cause), _) => self.expect_silence(client, target, *cause),
        };
        seen.problem = seen.problem.map(|problem| {
            let (name, label) = (self.service.name(), &self.label);
            format!("{name} {label}, {target} from {asker}: {problem}")
        });
        seen
    }

    fn once(&self, client: Client<'_>, target: SocketAddr) -> Result<Answer, Failure> {
        match self.protocol {
            Protocol::Tcp => client.get(target),
            Protocol::Udp | Protocol::Sctp => client.ask(self.protocol, target),
        }
    }

    /// Each pod must get its share, and see the client as whom it must; the client must see whom it
    /// has asked.
    fn expect_answers(
        &self,
        cluster: &Cluster<'_>,
        asker: Asker,
        target: SocketAddr,
        pods: &BTreeSet<IpAddr>,
    ) -> Seen {
        let client = asker.host(cluster);
        let pods: Vec<_> = pods.iter().filter_map(|ip| cluster.pod_at(*ip)).collect();
        let (mut sources, mut foreign) = (BTreeMap::new(), None);
        let mut failures = 0;
        let requests = if self.is_shown { REQUESTS_SHOWN } else { REQUESTS };
        let shares: Shares = (0..requests)
            .map_while(|_| {
                let answer =
                    (failures < ENOUGH_FAILURES).then(|| self.once(Client::new(client), target))?;
                failures += usize::from(answer.is_err());
                Some(answer)
            })
            .inspect(|answer| match answer {
                Ok(answer) if answer.peer != target => {
                    foreign = Some(format!("the client saw {}", answer.peer));
                }
                // Others than these are told of below.
                Ok(answer) => {
                    for pod in pods.iter().filter(|pod| pod.name() == answer.server) {
                        let right = asker.must_be_seen_as(cluster, pod);
                        if asker.has(cluster, answer.source.ip(), right) {
                            *sources.entry(right).or_default() += 1;
                        } else {
                            let (pod, source) = (pod.name(), answer.source);
                            foreign = Some(format!("{pod} saw {source}, not the {right}"));
                        }
                    }
                }
                Err(_) => {}
            })
            .collect();
        let names: Vec<_> = pods.iter().map(|pod| pod.name()).collect();
        let as_it_must_be = if self.service.has_affinity() {
            shares.failures.is_empty()
                && shares.answers.len() == 1
                && shares.answers.keys().all(|server| names.contains(&server.as_str()))
        } else {
            shares.is_fair(&names)
        };
        let problem = match foreign {
            Some(foreign) => Some(foreign),
            None if as_it_must_be => None,
            None => {
                let how = if self.service.has_affinity() { "one only" } else { "in equal shares" };
                Some(format!("of {} {how}, answered: {shares}", names.join(", ")))
            }
        };
        Seen {
            requests: shares.requests(),
            failures: shares.failures.len(),
            outcome: Outcome::Answered(shares.answers),
            sources,
            problem,
        }
    }

    /// Each request must be refused at once.
    fn expect_refusals(&self, client: &Host, target: SocketAddr) -> Seen {
        let mut times = Vec::new();
        let mut problem = None;
        for _ in 0..REFUSALS {
            match self.once(Client::new(client), target) {
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
            sources: BTreeMap::new(),
            problem,
        }
    }

    /// The socket must say at once that there is no way to an endpoint.
    fn expect_no_way(&self, client: &Host, target: SocketAddr, cause: Cause) -> Seen {
        let problem = match self.once(Client::new(client), target) {
            Err(failure) if failure.is_no_way() && failure.elapsed < AT_ONCE => None,
            Err(failure) => Some(format!("not turned away at once: {failure}")),
            Ok(answer) => Some(format!("{} answered", answer.server)),
        };
        Seen::dropped(cause, problem)
    }

    /// Nobody may answer or refuse.
    fn expect_silence(&self, client: &Host, target: SocketAddr, cause: Cause) -> Seen {
        let problem = match self.once(Client::new(client).patience(SILENCE), target) {
            Err(failure) if failure.is_timeout() => None,
            Err(failure) => Some(format!("not dropped: {failure}")),
            Ok(answer) => Some(format!("{} answered", answer.server)),
        };
        Seen::dropped(cause, problem)
    }
}
