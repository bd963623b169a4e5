// SPDX-License-Identifier: Apache-2.0

//! Servers that say who they are and whom they see, and clients that ask.
//!
//! An answer is one line: the name of the server's host and the address and
//! port that the client has in the server's eyes; the client adds those that the
//! server has in its own. Sockets are opened in the host's namespace and used
//! from anywhere.

mod answer;
mod association;
mod at_once;
mod client;
mod counted_stream;
mod datagrams;
mod greeted;
mod http;
mod probe;
mod server;
mod shares;
mod socket;
mod transfer;

pub use answer::{Answer, Failure};
pub use association::Association;
pub use at_once::{fails_at_once, is_refused_at_once};
pub use client::Client;
pub use counted_stream::CountedStream;
pub use datagrams::DatagramSocket;
pub use greeted::Greeted;
pub use probe::Probed;
pub use server::{HttpServer, SctpServer, TcpServer, UdpServer};
pub(crate) use server::{listen, runtime};
pub use shares::Shares;
pub(crate) use socket::bind;
pub use socket::once_released;
