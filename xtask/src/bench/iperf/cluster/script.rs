// SPDX-License-Identifier: Apache-2.0
//! What a client's pod runs, and what its log says.

use anyhow::{Result, bail};
use serde::Deserialize as _;
use serde_json::{Deserializer, Value};

use crate::iperf3::Arrived;

/// What begins the part of a run in the log.
const MARK: &str = "run ";

/// Runs iperf3 with each of its arguments, which it splits into words, and prints the report. A
/// server that is still at another run refuses, and so does a Service that is not served yet: it is
/// tried again some times.
const SCRIPT: &str = r#"for run in "$@"; do
  echo "run $run"
  for attempt in 1 2 3 4 5; do
    report=$(iperf3 --json $run)
    case $report in
      *'"error":'* | "") sleep 1 ;;
      *) break ;;
    esac
  done
  printf '%s\n' "$report"
done"#;

/// How long a run may take at most, beside the time that it measures, in seconds: five attempts that
/// find nobody, and what their ends take.
pub(super) const SECONDS_OF_RUN: u64 = 25;

/// How long iperf3 waits for a connection, in milliseconds.
const CONNECT_TIMEOUT: u64 = 3000;

/// The command of the pod.
pub(super) fn command(runs: &[String]) -> Vec<&str> {
    let words = ["sh", "-c", SCRIPT, "sh"].into_iter();
    words.chain(runs.iter().map(String::as_str)).collect()
}

/// The arguments of a run of so many seconds.
pub(super) fn run(target: std::net::IpAddr, port: u16, seconds: u64, arguments: &[&str]) -> String {
    let arguments = arguments.join(" ");
    format!(
        "--client {target} --port {port} --time {seconds} --interval 0 \
         --connect-timeout {CONNECT_TIMEOUT} {arguments}"
    )
    .trim_end()
    .to_owned()
}

/// What arrived in a run, by a log.
///
/// # Errors
///
/// What iperf3 or the shell has said instead of that.
pub(super) fn arrived(log: &str, run: &str) -> Result<Arrived> {
    let mut lines = log.lines().skip_while(|line| line.strip_prefix(MARK) != Some(run)).skip(1);
    let words: Vec<_> = lines.by_ref().take_while(|line| !line.starts_with(MARK)).collect();
    let words = words.join("\n");
    let report = words
        .find('{')
        .map(|start| Value::deserialize(&mut Deserializer::from_str(&words[start..])));
    match report {
        Some(Ok(report)) => match (report["error"].as_str(), Arrived::read(&report["end"])) {
            (None, Some(arrived)) => Ok(arrived),
            (error, _) => bail!("{}", error.unwrap_or("iperf3 reports nothing")),
        },
        _ if words.trim().is_empty() => bail!("it was not run"),
        _ => bail!("{}", words.trim()),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _, process::Command};

    use super::{arrived, command, run};

    /// Runs the command with a stand-in for iperf3, which is itself a script.
    fn log(iperf3: &str, runs: &[String]) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("iperf3");
        fs::write(&path, format!("#!/bin/sh\n{iperf3}")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        let path = format!("{}:/usr/bin:/bin", folder.path().display());
        let command = command(runs);
        let output = Command::new(command[0]).args(&command[1..]).env("PATH", path).output();
        let output = output.unwrap();
        format!(
            "{}{}",
            String::from_utf8_lossy(&output.stderr),
            String::from_utf8_lossy(&output.stdout)
        )
    }

    fn runs() -> [String; 2] {
        ["10.96.0.1", "fd00::1"]
            .map(|target| run(target.parse().unwrap(), 5201, 1, &["--udp", "--length=64"]))
    }

    #[test]
    fn each_run_gets_its_words() {
        // Says what it got as the sum; the backslash must survive.
        let iperf3 =
            r#"printf '{"title":"a\\\\b","end":{"sum_received":{"bytes":%d,"seconds":1}}}\n' $#"#;
        let log = log(iperf3, &runs());
        for run in runs() {
            // --json, and the words of the run.
            let bits = arrived(&log, &run).unwrap().bits;
            assert!((bits - 8.0 * 13.0).abs() < 1e-9, "{bits}: {log}");
        }
        assert!(arrived(&log, "--client 10.0.0.1").is_err());
    }

    #[test]
    fn a_busy_server_is_asked_again() {
        let folder = tempfile::tempdir().unwrap();
        let seen = folder.path().join("seen");
        let iperf3 = format!(
            r#"if [ -e {0} ]; then printf '{{"end":{{"sum_received":{{"bytes":1,"seconds":1}}}}}}'
               else touch {0}; printf '{{\n\t"error":\t"the server is busy"\n}}'; fi"#,
            seen.display()
        );
        let [run, _] = runs();
        let log = log(&iperf3, std::slice::from_ref(&run));
        assert!(arrived(&log, &run).is_ok(), "{log}");
    }

    #[test]
    fn what_was_said_instead_of_a_report_is_told() {
        let [one, other] = runs();
        let log = format!(
            "run {one}\n{{\"error\": \"unable to connect\"}}\nrun {other}\nsh: iperf3: not found\n"
        );
        assert_eq!(arrived(&log, &one).unwrap_err().to_string(), "unable to connect");
        assert_eq!(arrived(&log, &other).unwrap_err().to_string(), "sh: iperf3: not found");
        assert_eq!(arrived("", &one).unwrap_err().to_string(), "it was not run");
    }
}
