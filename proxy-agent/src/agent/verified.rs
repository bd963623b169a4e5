// SPDX-License-Identifier: Apache-2.0
//! The object, before, while and after its programs are verified.

use std::{
    path::{Path, PathBuf},
    thread,
};

use anyhow::{Context as _, anyhow};
use nix::sys::signal::{SigSet, Signal};
use proxy_common::{Family, V4, V6};
use tokio::sync::oneshot;
use tracing::error;

use crate::{
    bpf::{FlowCapacity, Object, ServedNetns, Settings},
    cli::{RunArgs, SocketLb},
    plan::NodePortAddresses,
    sockets::netns_cookie,
};

/// Loads the object, all but its programs.
pub(super) fn load(
    arguments: &RunArgs,
    node_ports: &NodePortAddresses,
    fast_path: bool,
) -> anyhow::Result<Object> {
    let host_netns = netns_cookie().context("cannot tell which network namespace this is")?;
    let served = |all| Some(ServedNetns { host_netns, all });
    let settings = Settings {
        source_ports: arguments.snat_port_range.clone(),
        capacity: FlowCapacity::default(),
        sockets: match arguments.socket_lb {
            SocketLb::Off => None,
            SocketLb::Host => served(false),
            SocketLb::All => served(true),
        },
        loopback_node_ports: u32::from(node_ports.include_loopback::<V4>()) << V4::INDEX
            | u32::from(node_ports.include_loopback::<V6>()) << V6::INDEX,
        fast_path,
    };
    Ok(Object::load(&arguments.pin_root.pin_root, &settings)?)
}

/// An object of which the programs are verified, or will be.
pub(super) struct Verified {
    pins: PathBuf,
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
        let pins = object.pins().to_owned();
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
        Ok(Self { pins, state: State::Awaited(awaited) })
    }

    /// Where its maps are pinned.
    pub(super) fn pins(&self) -> &Path {
        &self.pins
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

    /// Removes the pins after serving has ended, which what was refused has done by itself.
    ///
    /// # Errors
    ///
    /// That of serving, that the pins cannot be removed, and a refusal that came out after serving had
    /// ended by an error, so that nobody was told of it. If the agent was told to stop, that is logged.
    pub(super) async fn finish(mut self, served: anyhow::Result<()>) -> anyhow::Result<()> {
        let told = matches!(self.state, State::Refused);
        let unsaid = match self.get().await {
            Ok(object) => {
                let Err(error) = object.unpin() else { return served };
                anyhow::Error::new(error).context("cannot remove the pinned maps")
            }
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
        Verified { pins: PathBuf::new(), state: State::Awaited(awaited) }
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
