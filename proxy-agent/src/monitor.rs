// SPDX-License-Identifier: Apache-2.0
//! `sixfour monitor`: new flows, drops and refusals, as they happen.

use std::{
    collections::HashMap,
    io::{self, ErrorKind, Write as _},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use proxy_common::{V4, V6, event::Event, frontend::ServiceIndex};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};

mod told;

use crate::{
    bpf::{Error, Listening, Tables, object},
    cli::{MonitorArgs, Output},
    list,
};
use told::{Clock, Devices, Told};

/// How often programs are told that somebody listens, and it is looked whether events were lost.
const RENEWAL: Duration = Duration::from_millis(500);
/// How long a name is taken for that of a row.
const NAMED: Duration = Duration::from_secs(1);

/// How many events are printed before that is done again, however many more there are.
const AT_ONCE: usize = 1024;

/// Prints what happens, until told to stop: by a signal, which ends the process. Programs see after a while that nobody
/// listens any more.
///
/// # Errors
///
/// If no agent has left tables there, they go, or too many listen already.
pub fn run(arguments: &MonitorArgs) -> anyhow::Result<()> {
    let pins = object::map_directory(&arguments.pin_root.pin_root);
    let mut printer = Printer {
        arguments,
        names: Names {
            v4: list::open(&arguments.pin_root, &pins)?,
            v6: list::open(&arguments.pin_root, &pins)?,
            known: HashMap::new(),
        },
        clock: Clock::now(),
        devices: Devices::new()?,
        left: arguments.count.unwrap_or(u64::MAX),
    };
    let mut listening = Listening::begin(&pins, arguments.wanted())?;
    let (mut renewed, mut lost) = (Instant::now(), 0);
    let renewal = Timespec::try_from(RENEWAL).context("a span of time")?;
    while printer.left > 0 {
        match poll(&mut [PollFd::new(&listening, PollFlags::IN)], Some(&renewal)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error).context("cannot wait for events"),
        }
        if renewed.elapsed() >= RENEWAL {
            renewed = Instant::now();
            listening.renew().context(
                "nobody tells any more: `sixfour cleanup`, or another version, has removed the tables",
            )?;
            let by_now = listening.lost()?;
            if by_now > lost {
                let more = by_now - lost;
                eprintln!("sixfour: {more} events were lost: they came faster than they were read");
                lost = by_now;
            }
        }
        for _ in 0..AT_ONCE {
            let Some(event) = listening.take() else { break };
            match printer.print(&event) {
                // Whoever reads it has read enough.
                Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
                done => done.context("cannot tell of an event")?,
            }
            if printer.left == 0 {
                break;
            }
        }
    }
    Ok(())
}

/// What prints events.
struct Printer<'a> {
    arguments: &'a MonitorArgs,
    names: Names,
    clock: Clock,
    devices: Devices,
    /// How many are still to be printed.
    left: u64,
}

impl Printer<'_> {
    /// Prints an event, if it is of interest.
    fn print(&mut self, event: &Event) -> io::Result<()> {
        let service = self.names.of(event).map_err(io::Error::other)?;
        let told = Told::new(event, service, &self.clock, &self.devices);
        if self.arguments.has_reason(event) && told.is_of_interest(&self.arguments.filter) {
            write(self.arguments.output, &told)?;
            self.left -= 1;
        }
        Ok(())
    }
}

/// Prints a line, at once.
fn write(output: Output, told: &Told) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match output {
        Output::Table => writeln!(out, "{told}")?,
        Output::Json => {
            serde_json::to_writer(&mut out, told)?;
            writeln!(out)?;
        }
    }
    out.flush()
}

/// The names of Service ports, for a while.
struct Names {
    v4: Tables<V4>,
    v6: Tables<V6>,
    known: HashMap<(u8, ServiceIndex), (Instant, Option<String>)>,
}

impl Names {
    /// The name of the Service port that an event is of.
    fn of(&mut self, event: &Event) -> Result<Option<String>, Error> {
        if event.service < ServiceIndex::FIRST {
            return Ok(None);
        }
        let key = (event.family, event.service);
        if let Some((at, name)) = self.known.get(&key)
            && at.elapsed() < NAMED
        {
            return Ok(name.clone());
        }
        let name = match event.family {
            0 => self.v4.name(event.service)?,
            _ => self.v6.name(event.service)?,
        };
        let name = name.as_ref().map(list::named);
        let _ = self.known.insert(key, (Instant::now(), name.clone()));
        Ok(name)
    }
}
