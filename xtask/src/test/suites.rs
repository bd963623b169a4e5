// SPDX-License-Identifier: Apache-2.0
//! The suites that need privileges: integration tests of the package `proxy-tests`.

use super::stage::Stage;

/// An integration test that a stage of its own runs, here and under other kernels.
pub(super) struct Suite {
    /// The name of the test target, `tests/tests/NAME.rs`.
    pub(super) name: &'static str,
    /// What it tests, for people.
    pub(super) what: &'static str,
    pub(super) stage: Stage,
    /// Arguments on this machine.
    pub(super) arguments: &'static [&'static str],
    /// The guests to run it in besides, by name, with its arguments there, without spaces: which
    /// tests, as a guest is many times slower.
    pub(super) guests: &'static [(&'static str, &'static [&'static str])],
    /// How long it may take there, in seconds.
    pub(super) guest_seconds: u32,
}

/// A suite of the network stage that runs on this machine only.
const fn here(name: &'static str, what: &'static str) -> Suite {
    Suite { name, what, stage: Stage::Network, arguments: &[], guests: &[], guest_seconds: 0 }
}

/// Tests that wait for a network's namespaces, neighbours and time-outs for a half of their time or more: two processors
/// have time for four of them.
const WAITING: &str = "--test-threads=4";

/// Tests that wait nearly all the time.
const IDLE: &str = "--test-threads=8";

/// All but those that send thousands of packets, and more, some from several processors at once, and
/// those that load programs of their own: an emulator takes minutes for them, and what they look for
/// is in the programs, not in the kernel.
const PACKETS: &[&str] = &[
    "--skip=choice::backends_are_chosen_uniformly",
    "--skip=histories::at_an_uplink::",
    "--skip=histories::generated::",
    "--skip=histories::a_wrong_rule",
    "--skip=outside::source_ports::",
    "--skip=overload::",
    "--skip=races::",
    "--skip=reconciled::no_flow",
    "--skip=updates::",
];

/// What of it depends on the kernel: the ways to attach, and what is left of them. Each of these
/// tests has the programs verified anew, which takes an emulator many seconds.
const ATTACHING: &[&str] = &["--test-threads=1", "both_programs", "auto_takes", "what_a_killed"];

/// Real traffic under another kernel; shared out, as each takes an agent, which starts slowly there.
const TRAFFIC: &[&str] =
    &["--test-threads=1", "pods_behind_a_bridge::", "past_the_stack::pods_of_one"];

/// The same: answers that the programs make themselves, where they are attached by clsact.
const TRAFFIC_OF_6_1: &[&str] =
    &["--test-threads=1", "services_without", "past_the_stack::pods_of_one"];

/// What takes devices that the kernel of this machine may not have, and the guests' do.
const MODULES: &[&str] = &["--test-threads=1", "modules::"];

/// All of these but netkit, which came with 6.7.
const MODULES_OF_6_1: &[&str] = &["--test-threads=1", "modules::", "--skip=modules::netkit"];

/// What takes uplinks of kinds, and sockets (SCTP's), that the kernel of this machine may not have;
/// the uplinks are shared out, as each takes an agent, which starts slowly there.
const SERVICE_API: &[&str] =
    &["--test-threads=1", "sctp::", "modules::a_bond", "modules::a_vlan", "modules::two_modes"];

/// The same, with frames that have no Ethernet header: programs are attached in another way there.
const SERVICE_API_OF_6_1: &[&str] = &[
    "--test-threads=1",
    "sctp::",
    "modules::a_client",
    "modules::who_finds",
    "modules::a_vlan_in",
];

/// What depends on the kernel most.
const SOCKETS: &[&str] = &["--test-threads=1", "served::"];

/// The same, and what needs a machine for itself.
const SOCKETS_OF_6_1: &[&str] = &["--test-threads=1", "served::", "in_kernel::"];

/// Every suite.
pub(super) const SUITES: [Suite; 12] = [
    Suite {
        name: "packet",
        what: "packets through the BPF programs, one by one",
        stage: Stage::Packet,
        arguments: &[],
        guests: &[("6.1", PACKETS), ("6.12", PACKETS)],
        guest_seconds: 900,
    },
    Suite {
        name: "verifier",
        what: "what the programs cost the verifier, and their sizes, beside the record",
        stage: Stage::Packet,
        // What has changed is told where nothing fails, too.
        arguments: &["--nocapture", "--test-threads=1"],
        guests: &[],
        guest_seconds: 0,
    },
    Suite { arguments: &[IDLE], ..here("harness", "the networks of the tests, without a proxy") },
    Suite {
        name: "service_api",
        what: "each way to a Service, from each client, under each policy",
        stage: Stage::Network,
        arguments: &[WAITING, "--skip=modules::", "--skip=sctp::"],
        guests: &[("6.1", SERVICE_API_OF_6_1), ("6.12", SERVICE_API)],
        guest_seconds: 600,
    },
    here("agent_runner", "the runner of agents"),
    here("teardown", "tests leave nothing behind, however they end"),
    Suite {
        name: "sockets",
        what: "sockets of processes: served, listed and ended",
        stage: Stage::Network,
        arguments: &["--skip=in_kernel::"],
        guests: &[("6.1", SOCKETS_OF_6_1), ("6.12", SOCKETS)],
        guest_seconds: 600,
    },
    Suite {
        arguments: &[WAITING],
        ..here("host_sockets", "Services for processes of nodes, at their sockets")
    },
    Suite {
        arguments: &["--test-threads=2"],
        ..here(
            "reliability",
            "requests all the time, of which none is lost, whatever happens meanwhile",
        )
    },
    Suite {
        name: "devices",
        what: "devices found, classified and fitted with programs",
        stage: Stage::Network,
        arguments: &[WAITING],
        guests: &[("6.1", ATTACHING), ("6.12", ATTACHING)],
        guest_seconds: 300,
    },
    Suite {
        name: "network",
        what: "real traffic between network namespaces",
        stage: Stage::Network,
        arguments: &[WAITING],
        guests: &[
            ("6.1", TRAFFIC_OF_6_1),
            ("6.12", TRAFFIC),
            ("6.12-ipv6.disable", &["nodes_of_one_family::v4"]),
        ],
        guest_seconds: 600,
    },
    Suite {
        name: "shapes",
        what: "Services beside what network plugins do to a node",
        stage: Stage::Network,
        arguments: &[WAITING, "--skip=modules::"],
        guests: &[("6.1", MODULES_OF_6_1), ("6.12", MODULES)],
        guest_seconds: 600,
    },
];
