// SPDX-License-Identifier: Apache-2.0

//! Services for processes that no device serves: at their sockets. Needs root.
//!
//! What can be looked at beside each other is one test for each family: each agent has the kernel
//! verify its programs, which takes longer than all that is then looked at.

mod ended;
mod left_out;
mod load;
mod mapped;
mod memory;
mod modes;
mod nodes;
mod reach;
mod refusals;
mod resolvers;
mod rig;
mod senders;
mod stops;
