// SPDX-License-Identifier: Apache-2.0
//! `sixfour socket-lb`: which pods are not served at their sockets.

use std::{
    io::{self, Write as _},
    path::Path,
};

use anyhow::{Context as _, bail};
use proxy_common::{map_names::LEFT_OUT, socket::MAX_LEFT_OUT};

use crate::{
    bpf::{LeftOut, object::map_directory},
    cli::{Excluded, Netns, PinRoot, SocketLbCommand},
    sockets::{netns_cookie, netns_cookie_of},
};

/// Does what the command says.
///
/// # Errors
///
/// If there is no agent with this pin root, or no such network namespace.
pub fn run(command: &SocketLbCommand) -> anyhow::Result<()> {
    match command {
        SocketLbCommand::Exclude(Excluded { netns, pin_root }) => {
            let (mut left_out, cookie) = (open(pin_root)?, cookie(netns)?);
            let before = left_out.cookies()?;
            left_out.add(cookie).context("cannot leave it out")?;
            let after = left_out.cookies()?;
            let gone: Vec<_> = before.into_iter().filter(|it| !after.contains(it)).collect();
            if gone.is_empty() { Ok(()) } else { tell_of_gone(&gone) }
        }
        SocketLbCommand::Include(Excluded { netns, pin_root }) => {
            open(pin_root)?.remove(cookie(netns)?).context("cannot serve it again")
        }
        SocketLbCommand::List(pin_root) => {
            let mut out = io::stdout().lock();
            for cookie in open(pin_root)?.cookies()? {
                writeln!(out, "{cookie}")?;
            }
            Ok(())
        }
    }
}

/// Says who has made room: who is there still, and silent, is served from now on.
fn tell_of_gone(cookies: &[u64]) -> anyhow::Result<()> {
    let cookies = cookies.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    let most = MAX_LEFT_OUT;
    writeln!(
        io::stderr(),
        "sixfour: the map {LEFT_OUT} is full ({most} network namespaces): those that had been silent for longest are left out no more: {cookies}"
    )?;
    Ok(())
}

fn open(pin_root: &PinRoot) -> anyhow::Result<LeftOut> {
    let root = &pin_root.pin_root;
    LeftOut::open(&map_directory(root))
        .with_context(|| format!("there is no agent that serves pods at their sockets (--socket-lb all) with the pin root {}", root.display()))
}

/// The cookie of the network namespace that was named in one of three ways.
fn cookie(netns: &Netns) -> anyhow::Result<u64> {
    let of_file = |path: &Path| {
        netns_cookie_of(path)
            .with_context(|| format!("{} is no network namespace to enter", path.display()))
    };
    let cookie = match netns {
        Netns { cookie: Some(cookie), .. } => *cookie,
        Netns { netns: Some(path), .. } => of_file(path)?,
        Netns { pid, .. } => {
            let pid = pid.context("no network namespace is named")?;
            of_file(Path::new(&format!("/proc/{pid}/ns/net")))?
        }
    };
    if cookie == netns_cookie()? {
        bail!(
            "this is the host's own network namespace: its processes have no other way to Services"
        );
    }
    Ok(cookie)
}
