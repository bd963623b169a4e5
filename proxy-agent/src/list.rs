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
    cli::{FilterArgs, ListArgs, Listing, PinRoot},
    table::write,
};

mod backends;
mod flows;
mod frontends;
mod services;
mod shortfalls;

/// Prints a listing of both families.
///
/// # Errors
///
/// If no agent has pinned tables there, or they cannot be read.
pub fn print(arguments: &ListArgs) -> anyhow::Result<()> {
    let pins = object::map_directory(&arguments.pin_root.pin_root);
    let v4 = of_interest::<V4>(arguments, &pins)?;
    let v6 = of_interest::<V6>(arguments, &pins)?;
    let ListArgs { what, output, filter, .. } = arguments;
    match what {
        Listing::Services => {
            let rows = joined(
                each(v4.as_ref(), filter, services::rows)?,
                each(v6.as_ref(), filter, services::rows)?,
            );
            write(*output, &rows)
        }
        Listing::Frontends => {
            let frontends = joined(
                each(v4.as_ref(), filter, frontends::rows)?,
                each(v6.as_ref(), filter, frontends::rows)?,
            );
            let missing = joined(
                each(v4.as_ref(), filter, shortfalls::rows)?,
                each(v6.as_ref(), filter, shortfalls::rows)?,
            );
            write(*output, &shortfalls::beside(frontends, missing))
        }
        Listing::Backends => {
            let rows = joined(
                each(v4.as_ref(), filter, backends::rows)?,
                each(v6.as_ref(), filter, backends::rows)?,
            );
            write(*output, &rows)
        }
        Listing::Flows => {
            let rows = joined(
                each(v4.as_ref(), filter, flows::rows)?,
                each(v6.as_ref(), filter, flows::rows)?,
            );
            write(*output, &rows)
        }
    }
}

/// What is listed of a family, if it is of interest.
fn each<F: Family, R>(
    tables: Option<&Tables<F>>,
    filter: &FilterArgs,
    rows: impl FnOnce(&Tables<F>, &FilterArgs) -> anyhow::Result<Vec<R>>,
) -> anyhow::Result<Vec<R>> {
    tables.map_or_else(|| Ok(Vec::new()), |tables| rows(tables, filter))
}

/// The tables of a family, if it is of interest.
fn of_interest<F: Family>(arguments: &ListArgs, pins: &Path) -> anyhow::Result<Option<Tables<F>>> {
    arguments.filter.has_family::<F>().then(|| open(&arguments.pin_root, pins)).transpose()
}

/// Opens the tables of a family.
///
/// # Errors
///
/// If no agent has left some there, or they cannot be read.
pub(crate) fn open<F: Family>(pin_root: &PinRoot, pins: &Path) -> anyhow::Result<Tables<F>> {
    let root = pin_root.pin_root.display();
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

    /// All of them, with their names.
    fn named(&self) -> impl Iterator<Item = (ServiceIndex, String)> + '_ {
        self.0.iter().map(|(index, service)| (*index, named(service)))
    }

    /// `namespace/name:port`, as kube-proxy names Service ports in its logs.
    fn of(&self, index: ServiceIndex) -> String {
        self.0.get(&index).map_or_else(|| format!("#{}", index.0), named)
    }
}

/// The name of a Service port, or of a Service.
pub(crate) fn named(service: &ServiceName) -> String {
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
