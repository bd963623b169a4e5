// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Frontends: what clients dial, each pointing at the Service port behind it.
//!
//! An entry is written once and never changed in place: a value of a BPF hash that is updated or
//! recycled can be read torn, or be another key's. What changes lives in
//! [`Service`](crate::service::Service), in words that are read and written whole; and a new flow
//! looks its frontend up again after it has read the Service, and compares.

use crate::{Address as _, Family, Port, Protocol, pod};

/// The most frontends of one family, with the entries of whole VIPs and of endpoints.
pub const MAX_FRONTENDS: u32 = 1 << 20;

/// What a client dials: an address, a port and a protocol.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FrontendKey<F: Family> {
    /// The VIP.
    pub address: F::Addr,
    /// The Service port, or [`Port::ANY`].
    pub port: Port,
    /// The protocol, or [`Protocol::ANY`].
    pub protocol: Protocol,
    /// Always zero.
    reserved: u8,
}

impl<F: Family> FrontendKey<F> {
    /// One port of a VIP.
    #[inline(always)]
    pub const fn new(address: F::Addr, port: Port, protocol: Protocol) -> Self {
        Self { address, port, protocol, reserved: 0 }
    }

    /// A node port: at every address that is marked with [`ServiceIndex::NODE`].
    #[inline(always)]
    pub fn node_port(port: Port, protocol: Protocol) -> Self {
        Self::new(F::Addr::UNSPECIFIED, port, protocol)
    }

    /// The whole VIP: what answers for the ports that no Service port has taken.
    #[inline(always)]
    pub const fn whole(address: F::Addr) -> Self {
        Self::new(address, Port::ANY, Protocol::ANY)
    }
}

/// A row of the services table, or one of the marks below, which stand where there is none.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceIndex(pub u32);

impl ServiceIndex {
    /// The mark of a whole VIP: new connections to it are refused (kube-proxy's nftables mode
    /// rejects what is addressed to a cluster IP and belongs to no port).
    pub const REFUSE: Self = Self(0);
    /// The mark of an endpoint's own address and port. Direct connections to it are tracked,
    /// untranslated, so that a translated flow with the same addresses and ports takes another
    /// source port instead of their replies.
    pub const DIRECT: Self = Self(1);
    /// The mark of a whole address of the node's at which node ports are served: the frontend is
    /// looked up again at no address at all ([`FrontendKey::node_port`]).
    pub const NODE: Self = Self(2);
    /// The first index that a Service port can have.
    pub const FIRST: Self = Self(3);
}

/// What kind of frontend a client has dialled: which traffic policy applies, and what else.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FrontendKind {
    /// A cluster IP.
    ClusterIp = 0,
    /// A node port, at any of the node's addresses.
    NodePort = 1,
    /// One of `spec.externalIPs`.
    ExternalIp = 2,
    /// A load balancer's address: `spec.loadBalancerSourceRanges` apply.
    LoadBalancer = 3,
}

/// What a frontend points at, in one word: the Service port, and what kind of frontend it is.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Frontend(u32);

impl Frontend {
    const KIND_SHIFT: u32 = 30;

    /// A frontend of a Service port. Marks are no kind in particular.
    #[must_use]
    #[inline(always)]
    pub const fn new(service: ServiceIndex, kind: FrontendKind) -> Self {
        Self(service.0 | (kind as u32) << Self::KIND_SHIFT)
    }

    /// The Service port, or a mark.
    #[must_use]
    #[inline(always)]
    pub const fn service(self) -> ServiceIndex {
        ServiceIndex(self.0 & !(u32::MAX << Self::KIND_SHIFT))
    }

    /// What kind it is.
    #[must_use]
    #[inline(always)]
    pub const fn kind(self) -> FrontendKind {
        match self.0 >> Self::KIND_SHIFT {
            0 => FrontendKind::ClusterIp,
            1 => FrontendKind::NodePort,
            2 => FrontendKind::ExternalIp,
            _ => FrontendKind::LoadBalancer,
        }
    }
}

impl From<ServiceIndex> for Frontend {
    /// A cluster IP's, or a mark.
    #[inline(always)]
    fn from(service: ServiceIndex) -> Self {
        Self::new(service, FrontendKind::ClusterIp)
    }
}

pod!(ServiceIndex, Frontend);
pod!(generic FrontendKey);

const _: () = assert!(size_of::<FrontendKey<crate::V4>>() == 8);
const _: () = assert!(size_of::<FrontendKey<crate::V6>>() == 20);

#[cfg(test)]
mod tests {
    use super::{Frontend, FrontendKind, ServiceIndex};

    #[test]
    fn a_frontend_is_one_word() {
        let service = ServiceIndex(0x1_ffff);
        for kind in [
            FrontendKind::ClusterIp,
            FrontendKind::NodePort,
            FrontendKind::ExternalIp,
            FrontendKind::LoadBalancer,
        ] {
            let frontend = Frontend::new(service, kind);
            assert_eq!((frontend.service(), frontend.kind()), (service, kind));
        }
        assert_eq!(Frontend::from(ServiceIndex::DIRECT).service(), ServiceIndex::DIRECT);
    }
}
