//! `cargo xtask`: builds and lints Sixfour, and sets up what that takes.
//!
//! One file or folder per verb. Below them: [`bpf`] builds the BPF object,
//! [`apt`] installs and unpacks packages, [`process`]
//! runs commands.

mod apt;
mod bpf;
mod libraries;
mod lint;
mod process;
mod report;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Builds and lints Sixfour; installs what that needs the first time.
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
}

fn main() -> ExitCode {
    let result = match Cli::parse().verb {
        Verb::BuildEbpf => bpf::build().map(drop),
        Verb::Lint => lint::run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report::failure(&error);
            ExitCode::FAILURE
        }
    }
}
