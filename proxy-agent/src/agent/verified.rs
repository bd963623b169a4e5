// SPDX-License-Identifier: Apache-2.0
//! The object, before, while and after its programs are verified.

use std::thread;

use anyhow::{Context as _, anyhow};
use nix::sys::signal::{SigSet, Signal};
use proxy_common::{Family, V4, V6, backend::BackendId, frontend::ServiceIndex};
use tokio::sync::oneshot;
use tracing::{error, info};

use crate::{
    bpf::{Capacity, Object, Pins, ServedNetns, Settings},
    cli::{RunArgs, SocketLb},
    plan::NodePortAddresses,
    sockets::netns_cookie,
};

/// How much the tables are to have room for. Some of it is rounded up: that is said.
fn capacity(arguments: &RunArgs) -> Capacity {
    let capacity = arguments.capacity.capacity();
    let Capacity { flows, services, backends, frontends, affinities, counted, .. } = capacity;
    info!(
        flows = flows.entries / 2,
        half_open_or_closed = flows.places,
        services = services - ServiceIndex::FIRST.0,
        endpoints = backends - BackendId::FIRST.0,
        frontends,
        affinity = affinities,
        counted = counted - ServiceIndex::FIRST.0,
        "the tables of each family have room for"
    );
    capacity
}

/// Loads the object, all but its programs.
pub(super) fn load(
    pins: Pins,
    arguments: &RunArgs,
    node_ports: &NodePortAddresses,
    fast_path: bool,
) -> anyhow::Result<Object> {
    let host_netns = netns_cookie().context("cannot tell which network namespace this is")?;
    let served = |all| Some(ServedNetns { host_netns, all });
    let settings = Settings {
        source_ports: arguments.snat_port_range.clone(),
        capacity: capacity(arguments),
        sockets: match arguments.socket_lb {
            SocketLb::Off => None,
            SocketLb::Host => served(false),
            SocketLb::All => served(true),
        },
        loopback_node_ports: u32::from(node_ports.include_loopback::<V4>()) << V4::INDEX
            | u32::from(node_ports.include_loopback::<V6>()) << V6::INDEX,
        fast_path,
    };
    Ok(Object::load_with(pins, &settings)?)
}

/// An object of which the programs are verified, or will be.
pub(super) struct Verified {
    state: State,
}

enum State {
    /// What comes of it.
    Awaited(oneshot::Receiver<anyhow::Result<Object>>),
    Done(Box<Object>),
    /// It was refused.
    Refused,
}

impl Verified {
    /// Begins to verify the programs, where no signal gets in between: the kernel gives up on a program
    /// whose verification a signal interrupts, and it would be loaded anew.
    pub(super) fn begin(mut object: Object) -> anyhow::Result<Self> {
        let (sender, awaited) = oneshot::channel();
        let verify = move || {
            let signals = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM]);
            let verified = signals.thread_block().context("cannot hold signals back");
            let verified = verified.and_then(|()| Ok(object.verify()?));
            // The agent waits for it, unless it has crashed.
            let _ = sender.send(verified.map(|()| object));
        };
        let thread = thread::Builder::new().name("verifier".to_owned());
        let _ = thread.spawn(verify).context("cannot start a thread")?;
        Ok(Self { state: State::Awaited(awaited) })
    }

    /// The object, once its programs are verified.
    ///
    /// # Errors
    ///
    /// If the kernel refuses one.
    pub(super) async fn get(&mut self) -> anyhow::Result<&mut Object> {
        if let State::Awaited(awaited) = &mut self.state {
            let verified = awaited.await.context("verifying the programs has crashed");
            self.state = State::Refused;
            self.state = State::Done(Box::new(verified??));
        }
        match &mut self.state {
            State::Done(object) => Ok(object),
            _ => Err(anyhow!("the programs were refused")),
        }
    }

    /// Ends, after serving has: what is pinned stays if it serves, and else is as it was before.
    ///
    /// # Errors
    ///
    /// That of serving, and a refusal that came out after serving had ended by an error, so that nobody was told of it.
    /// If the agent was told to stop, that is logged.
    pub(super) async fn finish(mut self, served: anyhow::Result<()>) -> anyhow::Result<()> {
        let told = matches!(self.state, State::Refused);
        let unsaid = match self.get().await {
            Ok(_) => return served,
            Err(_) if told => return served,
            // Whoever has stopped it wants no more of it.
            Err(refusal) if served.is_ok() => {
                error!(error = format!("{refusal:#}"), "stopped before this was told");
                return Ok(());
            }
            Err(refusal) => refusal,
        };
        match served {
            Ok(()) => Err(unsaid),
            Err(error) => Err(anyhow!("{error:#}\n{unsaid:#}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes of verifying, if the kernel has refused a program.
    fn refused() -> Verified {
        let (sender, awaited) = oneshot::channel();
        sender.send(Err(anyhow!("a program is refused"))).map_err(|_| "nobody waits").unwrap();
        Verified { state: State::Awaited(awaited) }
    }

    #[tokio::test]
    async fn a_refusal_is_told_once_whatever_else_fails() {
        let failed = || Err(anyhow!("no source"));
        let both = refused().finish(failed()).await.unwrap_err().to_string();
        assert_eq!(both, "no source\na program is refused");
        refused().finish(Ok(())).await.unwrap();

        let mut told = refused();
        let refusal = told.get().await.map(|_| ()).unwrap_err();
        let end = told.finish(Err(refusal)).await.unwrap_err();
        assert_eq!(end.to_string(), "a program is refused");
    }
}
