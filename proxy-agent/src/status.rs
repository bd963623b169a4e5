// SPDX-License-Identifier: Apache-2.0
//! What the agent says of itself by HTTP, in kube-proxy's place and words: `/healthz` and `/livez` for load balancers and
//! probes, at one address; `/proxyMode`, `/configz` and `/healthz` for tools, at another.
//!
//! It is answered by a thread of its own: whoever asks learns how things are while the tables are written, however long
//! that takes.

mod health;
mod info;
mod server;
#[cfg(test)]
mod tests;

pub use self::{
    health::Health,
    info::Info,
    server::{BindError, Places, Servers},
};
