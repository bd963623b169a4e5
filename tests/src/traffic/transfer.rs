// SPDX-License-Identifier: Apache-2.0

//! Bulk in both directions of one connection at once.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::thread;

use super::client;

/// How much is written and read at a time.
const CHUNK: usize = 65_536;

/// Sends `length` bytes to a [`TcpServer`](super::TcpServer), which returns them meanwhile, and
/// compares what comes back.
pub(super) fn there_and_back(mut stream: &TcpStream, length: usize) -> io::Result<()> {
    let _: String = client::read_line(stream)?;
    thread::scope(|scope| {
        let sending = scope.spawn(move || {
            let mut chunk = vec![0; CHUNK];
            for start in (0..length).step_by(CHUNK) {
                let chunk = &mut chunk[..CHUNK.min(length - start)];
                fill(chunk, start);
                stream.write_all(chunk)?;
            }
            stream.shutdown(Shutdown::Write)
        });
        let received = receive(stream, length);
        if received.is_err() {
            // It would go on sending to nobody.
            let _ = stream.shutdown(Shutdown::Both);
        }
        let sent = sending.join().unwrap_or_else(|_| Err(io::Error::other("the sender died")));
        received.and(sent)
    })
}

fn receive(mut stream: &TcpStream, length: usize) -> io::Result<()> {
    let (mut chunk, mut expected) = (vec![0; CHUNK], vec![0; CHUNK]);
    for start in (0..length).step_by(CHUNK) {
        let size = CHUNK.min(length - start);
        stream.read_exact(&mut chunk[..size])?;
        fill(&mut expected[..size], start);
        if chunk[..size] != expected[..size] {
            let message = format!("wrong bytes after {start} of {length}");
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
    }
    match stream.read(&mut chunk)? {
        0 => Ok(()),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "more came back than was sent")),
    }
}

/// Fills a chunk with what is at `start` of a transfer; neighbours are not alike.
fn fill(chunk: &mut [u8], start: usize) {
    chunk.fill((start / CHUNK).to_le_bytes()[0]);
}
