// SPDX-License-Identifier: Apache-2.0
//! The command line of Sixfour: from arguments to an exit code.

use std::{fs, process::ExitCode};

use anyhow::Context as _;
use clap::Parser as _;
use proxy_agent::{
    agent, check_configuration, cleanup,
    cli::{AlwaysArgs, Cli, Command, RunArgs},
    config::GoBool,
    conntrack, drain, list, monitor, socket_lb,
};

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run(arguments) => run(&arguments),
        Command::Config(command) => check_configuration::run(&command),
        Command::Cleanup(pin_root) => cleanup::run(&pin_root.pin_root),
        Command::Drain(arguments) => drain::run(&arguments),
        Command::List(arguments) => list::print(&arguments),
        Command::Monitor(arguments) => monitor::run(&arguments),
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

/// Serves, or does what is asked for in its place, in kube-proxy's order.
fn run(arguments: &RunArgs) -> anyhow::Result<()> {
    let AlwaysArgs { write_config_to, cleanup, init_only, .. } = &arguments.kube_proxy.always;
    if let Some(file) = write_config_to {
        let configuration = arguments.kube_proxy.configuration()?;
        return fs::write(file, configuration.to_yaml()?)
            .with_context(|| format!("cannot write {}", file.display()));
    }
    if cleanup.is_some_and(|GoBool(cleanup)| cleanup) {
        return cleanup::run(&arguments.pin_root.pin_root);
    }
    if init_only.is_some_and(|GoBool(init_only)| init_only) {
        let configuration = arguments.kube_proxy.configuration()?;
        let error = conntrack::configure(&configuration.conntrack).into_iter().next();
        return error.map_or(Ok(()), |error| Err(error.into()));
    }
    agent::run(arguments)
}
