// SPDX-License-Identifier: Apache-2.0
//! The client.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    panic::resume_unwind,
    process, thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use super::{Answer, Exchange, MORE, ONCE, Question};
use crate::statistics::{quantile, real};

/// How long after its time a client gives up.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a thread did: for how long, and how long each exchange took, in microseconds.
struct Thread {
    elapsed: f64,
    latencies: Vec<f64>,
}

/// Asks for as long as it is told.
pub(super) fn ask(question: &Question) -> Result<Answer> {
    let time = Duration::from_millis(question.milliseconds);
    // Sockets without time-outs of their own have fewer system calls.
    let _ = thread::spawn(move || {
        thread::sleep(time + PATIENCE);
        eprintln!("no answer for {PATIENCE:?}");
        process::exit(1);
    });
    let threads: Vec<Thread> = thread::scope(|scope| {
        let spawn = |_| scope.spawn(|| exchanges(question.exchange, question.target, time));
        let threads: Vec<_> = (0..question.threads).map(spawn).collect();
        let join = |thread: thread::ScopedJoinHandle<'_, _>| {
            thread.join().unwrap_or_else(|panic| resume_unwind(panic))
        };
        threads.into_iter().map(join).collect::<Result<_>>()
    })?;
    let rate = threads.iter().map(|thread| real(thread.latencies.len()) / thread.elapsed).sum();
    let latencies: Vec<f64> = threads.into_iter().flat_map(|thread| thread.latencies).collect();
    ensure!(!latencies.is_empty(), "no exchange with {}", question.target);
    let latency = |part| quantile(latencies.iter().copied(), part);
    Ok(Answer {
        count: real(latencies.len()),
        rate,
        p50: latency(0.5),
        p90: latency(0.9),
        p99: latency(0.99),
    })
}

fn exchanges(exchange: Exchange, target: SocketAddr, time: Duration) -> Result<Thread> {
    let mut stream = match exchange {
        Exchange::Connection => None,
        Exchange::Request => Some(TcpStream::connect(target)?),
    };
    let mut latencies = Vec::new();
    let start = Instant::now();
    let mut now = start;
    while now - start < time {
        let before = now;
        let exchanged = match &mut stream {
            None => connection(target),
            Some(stream) => request(stream, MORE),
        };
        exchanged.with_context(|| format!("exchange {} with {target}", latencies.len()))?;
        now = Instant::now();
        latencies.push((now - before).as_secs_f64() * 1e6);
    }
    Ok(Thread { elapsed: (now - start).as_secs_f64(), latencies })
}

fn connection(target: SocketAddr) -> io::Result<()> {
    let mut stream = TcpStream::connect(target)?;
    request(&mut stream, ONCE)?;
    match stream.read(&mut [0])? {
        0 => Ok(()),
        _ => Err(io::Error::other("more came than was asked for")),
    }
}

pub(super) fn request(stream: &mut TcpStream, byte: u8) -> io::Result<()> {
    stream.write_all(&[byte])?;
    stream.read_exact(&mut [0])
}
