// SPDX-License-Identifier: Apache-2.0
//! The server.

use std::{
    io::{self, Read as _, Write as _},
    net::{Ipv6Addr, TcpListener, TcpStream},
    os::fd::{AsFd as _, OwnedFd},
    process::Stdio,
    thread,
};

use anyhow::{Context as _, Result};
use proxy_tests::{process::Process, topology::Host};

use super::{MORE, command};

/// How many connections are served at the same time; more wait.
const WORKERS: usize = 16;

/// A running server; ends when dropped.
pub(crate) struct Server {
    _process: Process,
}

impl Server {
    /// Starts it at `port` of `pod`, for both families.
    ///
    /// # Errors
    ///
    /// If the port is taken.
    pub(crate) fn start(pod: &Host, port: u16) -> Result<Self> {
        let namespace = pod.namespace();
        // It remembers no closed connections: a client meets the same port again and again, through
        // the Service and directly, and would be turned away with times of another connection.
        namespace.sysctl([("ipv4/tcp_max_tw_buckets", "0")])?;
        let listener = namespace.run(|| {
            let any = (Ipv6Addr::UNSPECIFIED, port);
            TcpListener::bind(any).with_context(|| format!("cannot listen on {port}"))
        })?;
        let mut command = command(namespace);
        let _ = command.arg("serve").stdin(Stdio::from(OwnedFd::from(listener)));
        Ok(Self { _process: Process::spawn(namespace, command)? })
    }
}

/// Serves the listening socket that it was given as its input.
pub(super) fn serve() -> Result<()> {
    let listener = TcpListener::from(io::stdin().as_fd().try_clone_to_owned()?);
    thread::scope(|scope| {
        let workers = (0..WORKERS).map(|_| {
            scope.spawn(|| {
                for mut stream in listener.incoming().flatten() {
                    // The client may be gone.
                    let _ = answer(&mut stream);
                }
            })
        });
        workers.for_each(drop);
    });
    Ok(())
}

fn answer(stream: &mut TcpStream) -> io::Result<()> {
    let mut byte = [0];
    while stream.read(&mut byte)? > 0 {
        stream.write_all(&byte)?;
        if byte[0] != MORE {
            break;
        }
    }
    Ok(())
}
