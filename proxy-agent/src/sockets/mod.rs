// SPDX-License-Identifier: Apache-2.0
//! Sockets of processes that no device serves: programs on a control group give them backends, and
//! those that are left without one are ended.

mod attach;
mod cgroup;
pub mod diag;
mod kernel_clients;
mod left;
mod netns;

pub use attach::{AttachError, SocketPrograms};
pub use cgroup::CgroupRoot;
pub use kernel_clients::{Forgetful, forgetful};
pub use left::{EndError, LeftSockets};
pub use netns::{OtherNetns, netns_cookie, netns_cookie_of};
