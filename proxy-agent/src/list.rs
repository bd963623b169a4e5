// SPDX-License-Identifier: Apache-2.0
//! `sixfour list`: what is in the kernel's tables, in words.

use std::{
    collections::BTreeMap,
    io::{self, Write as _},
    net::SocketAddr,
};

use anyhow::Context as _;
use comfy_table::{Table, presets};
use proxy_common::{
    Family, Port, V4, V6,
    frontend::ServiceIndex,
    name::{self, ServiceName},
};
use serde::Serialize;

use crate::{
    bpf::{Tables, object},
    cli::{ListArgs, Listing, Output},
};

mod backends;
mod flows;
mod services;

/// A row of a listing: the fields of JSON, and the cells of the table.
trait Row: Serialize {
    /// The table's head.
    const HEAD: &'static [&'static str];

    /// The cells below it.
    fn cells(&self) -> Vec<String>;
}

/// Prints a listing of both families.
///
/// # Errors
///
/// If no agent has pinned tables there, or they cannot be read.
pub fn print(arguments: &ListArgs) -> anyhow::Result<()> {
    let pins = object::map_directory(&arguments.pin_root.pin_root);
    let context = || {
        format!("no tables below {}: is sixfour running?", arguments.pin_root.pin_root.display())
    };
    let v4 = Tables::<V4>::open(&pins).with_context(context)?;
    let v6 = Tables::<V6>::open(&pins).with_context(context)?;
    match arguments.what {
        Listing::Services => {
            write(arguments.output, &joined(services::rows(&v4)?, services::rows(&v6)?))
        }
        Listing::Backends => {
            write(arguments.output, &joined(backends::rows(&v4)?, backends::rows(&v6)?))
        }
        Listing::Flows => write(arguments.output, &joined(flows::rows(&v4)?, flows::rows(&v6)?)),
    }
}

fn joined<R>(mut first: Vec<R>, second: Vec<R>) -> Vec<R> {
    first.extend(second);
    first
}

fn write<R: Row>(output: Output, rows: &[R]) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match output {
        Output::Json => {
            serde_json::to_writer_pretty(&mut out, rows)?;
            writeln!(out)?;
        }
        Output::Table => {
            let mut table = Table::new();
            let _: &mut Table = table.load_preset(presets::NOTHING).set_header(R::HEAD);
            for row in rows {
                let _: &mut Table = table.add_row(row.cells());
            }
            writeln!(out, "{table}")?;
        }
    }
    Ok(())
}

/// The names of the Service ports of a family.
struct Names(BTreeMap<ServiceIndex, ServiceName>);

impl Names {
    fn read<F: Family>(tables: &Tables<F>) -> anyhow::Result<Self> {
        Ok(Self(tables.names().collect::<Result<_, _>>()?))
    }

    /// `namespace/name:port`, as kube-proxy names Service ports in its logs.
    fn of(&self, index: ServiceIndex) -> String {
        let Some(service) = self.0.get(&index) else {
            return format!("#{}", index.0);
        };
        let text = |label| name::text(label).unwrap_or("?");
        let (namespace, name) = (text(&service.namespace), text(&service.name));
        match text(&service.port) {
            "" => format!("{namespace}/{name}"),
            port => format!("{namespace}/{name}:{port}"),
        }
    }
}

fn socket_address<A: Into<std::net::IpAddr>>(address: A, port: Port) -> SocketAddr {
    SocketAddr::new(address.into(), port.number())
}
