// SPDX-License-Identifier: Apache-2.0

//! Devices are found, classified and fitted with programs, live. Needs root.

mod attach;
mod node;
mod roles;
mod seen;
mod watch;
