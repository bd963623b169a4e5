// SPDX-License-Identifier: Apache-2.0

//! Sockets are listed and ended. Needs root.

mod diag;
