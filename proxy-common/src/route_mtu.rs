// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Routes that take smaller packets than the devices that they lead by.

use crate::pod;

/// The most destinations of a family with such a route.
pub const MAX_ROUTE_MTUS: u32 = 1 << 14;

/// The largest packet that a route to a destination takes, in bytes.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RouteMtu(pub u32);

pod!(RouteMtu);
