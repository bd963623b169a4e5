// SPDX-License-Identifier: Apache-2.0
//! The command line of Sixfour: from arguments to an exit code.

use std::process::ExitCode;

use clap::Parser as _;
use proxy_agent::{
    agent, cleanup,
    cli::{Cli, Command},
    drain, list, socket_lb,
};

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run(arguments) if arguments.cleanup => cleanup::run(&arguments.pin_root.pin_root),
        Command::Run(arguments) => agent::run(&arguments),
        Command::Cleanup(pin_root) => cleanup::run(&pin_root.pin_root),
        Command::Drain(arguments) => drain::run(&arguments),
        Command::List(arguments) => list::print(&arguments),
        Command::SocketLb(command) => socket_lb::run(&command),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sixfour: {error:#}");
            ExitCode::FAILURE
        }
    }
}
