// SPDX-License-Identifier: Apache-2.0
//! What is compared in a cluster, and what came of it.

use std::{fmt, net::IpAddr};

use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::{Pod, Service};
use proxy_tests::family::IpFamily;

use super::script;
use crate::{
    bench::{
        iperf::WORKS,
        report::{self, Chart, Figure},
        work::{Work, arrived},
    },
    iperf3,
};

/// Names of the two paths.
const DIRECT: &str = "direct, to the pod";
const SERVICE: &str = "ClusterIP";

/// Where the server can be reached in a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Addresses {
    family: IpFamily,
    pod: Option<IpAddr>,
    service: Option<IpAddr>,
}

impl Addresses {
    /// Those of both families, as far as the cluster has them.
    pub(super) fn of(pod: &Pod, service: &Service) -> [Self; 2] {
        let pods = pod.status.iter().flat_map(|status| status.pod_ips.iter().flatten());
        let pods: Vec<_> = pods.map(|address| address.ip.as_str()).collect();
        let services = service.spec.iter().flat_map(|spec| spec.cluster_ips.iter().flatten());
        let services: Vec<_> = services.map(String::as_str).collect();
        IpFamily::ALL.map(|family| {
            let of = |addresses: &[&str]| {
                let mut addresses = addresses.iter().filter_map(|address| address.parse().ok());
                addresses.find(|address| IpFamily::of(*address) == family)
            };
            Self { family, pod: of(&pods), service: of(&services) }
        })
    }

    /// What of it the cluster does not have.
    fn lacking(self) -> Option<String> {
        let lacking =
            [(self.pod, "the pod has no address"), (self.service, "the Service has no cluster IP")];
        let lacking = lacking.into_iter().filter(|(address, _)| address.is_none());
        let lacking: Vec<_> = lacking.map(|(_, words)| words).collect();
        (!lacking.is_empty())
            .then(|| format!("{} is not measured: {} of it", self.family, lacking.join(", and ")))
    }
}

/// A path of a work in a family, and what was measured of it.
struct Case {
    work: Work,
    family: IpFamily,
    path: &'static str,
    run: String,
    values: Vec<f64>,
    failure: Option<String>,
}

/// All that is compared.
pub(super) struct Cases {
    cases: Vec<Case>,
    lacking: Vec<String>,
}

impl Cases {
    /// All works on both paths, in families that have both.
    pub(super) fn new(addresses: [Addresses; 2], seconds: u64) -> Self {
        let mut cases = Vec::new();
        for work in WORKS {
            for Addresses { family, pod, service } in addresses {
                let Some(both) = pod.zip(service) else { continue };
                for (path, target) in [(DIRECT, both.0), (SERVICE, both.1)] {
                    let arguments = work.iperf3().unwrap_or_default();
                    let run = script::run(target, iperf3::PORT, seconds, arguments);
                    let (values, failure) = (Vec::new(), None);
                    cases.push(Case { work, family, path, run, values, failure });
                }
            }
        }
        let lacking = addresses.into_iter().filter_map(Addresses::lacking).collect();
        Self { cases, lacking }
    }

    /// The runs of those that have not failed yet.
    pub(super) fn runs(&self) -> Vec<String> {
        self.cases
            .iter()
            .filter(|case| case.failure.is_none())
            .map(|case| case.run.clone())
            .collect()
    }

    /// Takes what a log says of the runs. A case that failed is not tried again: it is told.
    pub(super) fn take(&mut self, log: &str) {
        for case in self.cases.iter_mut().filter(|case| case.failure.is_none()) {
            match script::arrived(log, &case.run) {
                Ok(run) => case.values.extend(arrived(run).values.first()),
                Err(error) => case.failure = Some(error.to_string()),
            }
        }
    }

    /// What the cluster does not have.
    pub(super) fn lacking(&self) -> &[String] {
        &self.lacking
    }

    /// What could not be measured, and why.
    pub(super) fn failures(&self) -> Vec<String> {
        let failure = |case: &Case| {
            let Case { work, family, path, failure, .. } = case;
            let why = failure.as_ref()?;
            Some(format!("{}, {path}, over {family} failed: {why}", work.title))
        };
        self.cases.iter().filter_map(failure).collect()
    }

    /// The figures, a chart for each work.
    ///
    /// # Errors
    ///
    /// If a work has no quantity.
    pub(super) fn charts(&self) -> Result<Vec<Chart>> {
        WORKS.iter().map(|work| self.chart(*work)).collect()
    }

    fn chart(&self, work: Work) -> Result<Chart> {
        let quantity = work.quantities.first().context("a work has a first quantity")?;
        let of = |path| {
            let cases =
                self.cases.iter().filter(move |case| case.work == work && case.path == path);
            cases.filter(|case| !case.values.is_empty())
        };
        let mut figures = Vec::new();
        for path in [DIRECT, SERVICE] {
            for case in of(path) {
                let figure = Figure::new(path, case.family, case.values.clone())?;
                let direct =
                    of(DIRECT).find(|other| path == SERVICE && other.family == case.family);
                figures.push(match direct {
                    Some(direct) => figure.beside(DIRECT, &direct.values, None),
                    None => figure,
                });
            }
        }
        Ok(Chart {
            title: format!("{}: {}", work.title, quantity.title),
            unit: quantity.unit.to_owned(),
            digits: quantity.digits,
            axis: None,
            in_summary: true,
            rounds: figures.iter().map(|figure| figure.values.len()).min().unwrap_or_default(),
            dropped: 0,
            figures,
        })
    }
}

/// The table, and what is not in it.
impl fmt::Display for Cases {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let charts = self.charts().map_err(|_| fmt::Error)?;
        writeln!(formatter, "{}", report::together(&charts))?;
        for line in self.lacking.iter().chain(&self.failures()) {
            writeln!(formatter, "{line}")?;
        }
        Ok(())
    }
}
