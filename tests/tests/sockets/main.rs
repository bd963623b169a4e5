// SPDX-License-Identifier: Apache-2.0

//! Sockets are listed and ended; which of them are served. Needs root.

mod adopted;
mod diag;
mod groups;
mod in_kernel;
mod rig;
mod served;
