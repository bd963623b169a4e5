// SPDX-License-Identifier: Apache-2.0
//! What the kernel is asked by netlink, beside devices and sockets: requests, all messages of their answers, and the
//! attributes in these.

mod channel;
mod error;
mod message;

pub(crate) use channel::{Channel, Dump};
pub use error::AskError;
pub(crate) use message::{Message, attributes, find, text};
