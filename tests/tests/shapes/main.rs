// SPDX-License-Identifier: Apache-2.0

//! The shapes that network plugins give to nodes, and Services through each of them.
//!
//! Each shape is one test for each family, which looks at all that matters there: a second network
//! of namespaces costs more than a second look.

mod firewall;
mod foreign;
mod hops;
mod host_settings;
mod modules;
mod neighbours;
mod plugins;
mod rig;
