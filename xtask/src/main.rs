// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask`: builds, lints, tests and shows Sixfour, and sets up what that takes.
//!
//! One file or folder per verb: [`bpf`], [`lint`], [`test`], [`image`], [`demo`], [`bench`]. What
//! they stand on: [`kernels`] boots other kernels, [`apt`] installs and unpacks packages,
//! [`process`] runs commands.

mod apt;
mod bench;
mod bpf;
mod demo;
mod image;
mod iperf3;
mod kernels;
mod libraries;
mod lint;
mod process;
mod progress;
mod report;
mod statistics;
mod test;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Builds, lints, tests and shows Sixfour; installs what that needs the first time.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Build the BPF programs into target/bpf/sixfour.bpf.o
    BuildEbpf,
    /// Check formatting, and run clippy with warnings denied on the host and BPF targets
    #[command(alias = "clippy")]
    Lint,
    /// Set up the machine, build, and run the tests: unit, packet, network, other kernels
    Test(test::Args),
    /// Build target/image/sixfour.oci.tar, an OCI image archive of one static binary
    Image(image::Args),
    /// Set up the machine, build, and show the proxy at work between network namespaces
    Demo(demo::Args),
    /// Set up the machine, build, and measure the proxy beside others; see target/bench
    Bench(bench::Args),
    /// Be a client or a server that the benchmark measures with
    #[command(subcommand, hide = true)]
    BenchPeer(bench::peer::Role),
}

fn main() -> ExitCode {
    let result = match Cli::parse().verb {
        Verb::BuildEbpf => bpf::build().map(drop),
        Verb::Lint => lint::run(),
        Verb::Test(args) => test::run(&args),
        Verb::Image(args) => image::run(&args),
        Verb::Demo(args) => demo::run(&args),
        Verb::Bench(args) => bench::run(&args),
        Verb::BenchPeer(role) => bench::peer::run(&role),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report::failure(&error);
            ExitCode::FAILURE
        }
    }
}
