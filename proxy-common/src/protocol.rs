// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Transport protocols of Service ports.

use core::fmt;

use crate::pod;

/// An IP protocol number (IANA "Assigned Internet Protocol Numbers").
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Protocol(u8);

impl Protocol {
    /// All protocols: what stands in keys that cover a whole address.
    pub const ANY: Self = Self(0);
    /// TCP (RFC 9293).
    pub const TCP: Self = Self(6);
    /// UDP (RFC 768).
    pub const UDP: Self = Self(17);
    /// SCTP (RFC 9260).
    pub const SCTP: Self = Self(132);

    /// A protocol from its number.
    #[must_use]
    #[inline(always)]
    pub const fn new(number: u8) -> Self {
        Self(number)
    }

    /// The protocol's number.
    #[must_use]
    #[inline(always)]
    pub const fn number(self) -> u8 {
        self.0
    }

    /// The name that Kubernetes uses, where it has one.
    #[must_use]
    pub const fn name(self) -> Option<&'static str> {
        match self {
            Self::TCP => Some("TCP"),
            Self::UDP => Some("UDP"),
            Self::SCTP => Some("SCTP"),
            _ => None,
        }
    }
}

impl fmt::Debug for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "{}", self.0),
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

pod!(Protocol);
