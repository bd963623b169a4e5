// SPDX-License-Identifier: Apache-2.0
//! `sixfour list`: what is in the kernel's tables, in words.

use std::{
    collections::BTreeMap,
    error::Error,
    io::{self, ErrorKind},
    iter::successors,
    net::SocketAddr,
    path::Path,
};

use proxy_common::{
    Family, Port, V4, V6,
    frontend::ServiceIndex,
    name::{self, ServiceName},
};

use crate::{
    bpf::{Tables, object},
    cli::{ListArgs, Listing},
    table::write,
};

mod backends;
mod flows;
mod services;
mod shortfalls;

/// Prints a listing of both families.
///
/// # Errors
///
/// If no agent has pinned tables there, or they cannot be read.
pub fn print(arguments: &ListArgs) -> anyhow::Result<()> {
    let pins = object::map_directory(&arguments.pin_root.pin_root);
    let v4 = open::<V4>(arguments, &pins)?;
    let v6 = open::<V6>(arguments, &pins)?;
    match arguments.what {
        Listing::Services => {
            let frontends = joined(services::rows(&v4)?, services::rows(&v6)?);
            let missing = joined(shortfalls::rows(&v4)?, shortfalls::rows(&v6)?);
            write(arguments.output, &shortfalls::beside(frontends, missing))
        }
        Listing::Backends => {
            write(arguments.output, &joined(backends::rows(&v4)?, backends::rows(&v6)?))
        }
        Listing::Flows => write(arguments.output, &joined(flows::rows(&v4)?, flows::rows(&v6)?)),
    }
}

fn open<F: Family>(arguments: &ListArgs, pins: &Path) -> anyhow::Result<Tables<F>> {
    let root = arguments.pin_root.pin_root.display();
    Tables::open(pins).map_err(|error| {
        let text = match io_kind(&error) {
            Some(ErrorKind::NotFound) => format!("no tables below {root}: is sixfour running?"),
            Some(ErrorKind::PermissionDenied) => {
                format!("you may not read the tables below {root}: run this as root")
            }
            _ => format!("cannot read the tables below {root}"),
        };
        anyhow::Error::new(error).context(text)
    })
}

/// What the kernel said, wherever in the chain of sources it is.
fn io_kind(error: &dyn Error) -> Option<ErrorKind> {
    let mut sources = successors(error.source(), |&error| error.source());
    sources.find_map(|error| error.downcast_ref::<io::Error>()).map(io::Error::kind)
}

fn joined<R>(mut first: Vec<R>, second: Vec<R>) -> Vec<R> {
    first.extend(second);
    first
}

/// The names of the Service ports of a family.
struct Names(BTreeMap<ServiceIndex, ServiceName>);

impl Names {
    fn read<F: Family>(tables: &Tables<F>) -> anyhow::Result<Self> {
        Ok(Self(tables.names().collect::<Result<_, _>>()?))
    }

    /// `namespace/name:port`, as kube-proxy names Service ports in its logs.
    fn of(&self, index: ServiceIndex) -> String {
        self.0.get(&index).map_or_else(|| format!("#{}", index.0), named)
    }
}

/// The name of a Service port, or of a Service.
fn named(service: &ServiceName) -> String {
    let text = |label| name::text(label).unwrap_or("?");
    let (namespace, name) = (text(&service.namespace), text(&service.name));
    match text(&service.port) {
        "" => format!("{namespace}/{name}"),
        port => format!("{namespace}/{name}:{port}"),
    }
}

fn socket_address<A: Into<std::net::IpAddr>>(address: A, port: Port) -> SocketAddr {
    SocketAddr::new(address.into(), port.number())
}
