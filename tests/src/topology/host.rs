// SPDX-License-Identifier: Apache-2.0

//! What nodes, pods and outside machines have in common.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use anyhow::Result;

use super::{DEVICE, Families};
use crate::cgroup::Cgroup;
use crate::family::{DualAddress, IpFamily, TestFamily};
use crate::netns::{Namespace, Prefix};

/// A namespace with a name and an address per family.
#[derive(Debug)]
pub struct Host {
    name: String,
    node: Option<String>,
    addresses: DualAddress,
    families: Families,
    namespace: Namespace,
}

impl Host {
    /// A namespace that is ready for addresses, the node that it is or that
    /// it runs on, and the control group of what runs in it.
    pub(super) fn new(
        name: &str,
        node: Option<&str>,
        cgroup: Option<Cgroup>,
        addresses: DualAddress,
        families: Families,
    ) -> Result<Self> {
        let namespace = Namespace::new(name)?;
        let namespace = match cgroup {
            Some(cgroup) => namespace.in_cgroup(cgroup),
            None => namespace,
        };
        prepare(&namespace, families)?;
        let node = node.map(ToOwned::to_owned);
        Ok(Self { name: name.to_owned(), node, addresses, families, namespace })
    }

    /// The name that it has in the topology, and by which its servers answer.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The name of the node that it runs on; of a node, its own; none of an
    /// outside machine.
    #[must_use]
    pub fn node(&self) -> Option<&str> {
        self.node.as_deref()
    }

    /// Its namespace.
    #[must_use]
    pub const fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// The directory of its control group: of a node, the one that all of
    /// its pods' are in; none of an outside machine.
    #[must_use]
    pub fn cgroup(&self) -> Option<&Path> {
        self.namespace.cgroup().map(Cgroup::path)
    }

    /// Its address of a family, whether or not that family exists.
    #[must_use]
    pub const fn address(&self, family: IpFamily) -> IpAddr {
        self.addresses.of(family)
    }

    /// Its address of the family of a scenario, with a port.
    #[must_use]
    pub const fn socket<F: TestFamily>(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.address(F::FAMILY), port)
    }

    /// Has it send what is for an address to another machine of its network, as it would where that
    /// has announced the address.
    pub fn send_through(&self, address: IpAddr, gateway: &Self) -> Result<()> {
        let length = IpFamily::of(address).host_prefix_length();
        self.send_range_through(Prefix(address, length), gateway)
    }

    /// The same for all addresses of a range.
    pub fn send_range_through(&self, range: Prefix, gateway: &Self) -> Result<()> {
        let gateway = gateway.address(IpFamily::of(range.0));
        let netlink = self.namespace.netlink()?;
        netlink.add_route(range, Some(gateway), netlink.link(DEVICE)?)
    }

    /// Its addresses, of the families that exist.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.families.list().into_iter().map(|family| self.address(family))
    }
}

/// Sets what all namespaces of a topology have in common.
pub(super) fn prepare(namespace: &Namespace, families: Families) -> Result<()> {
    if families.contains(IpFamily::V6) {
        // Addresses are usable at once, and nobody configures himself.
        namespace.sysctl([
            ("ipv6/conf/all/accept_dad", "0"),
            ("ipv6/conf/default/accept_dad", "0"),
            ("ipv6/conf/default/accept_ra", "0"),
            ("ipv6/conf/default/router_solicitations", "0"),
        ])
    } else if !fs::exists("/proc/sys/net/ipv6")? {
        // The kernel does not have it at all.
        Ok(())
    } else {
        namespace
            .sysctl([("ipv6/conf/all/disable_ipv6", "1"), ("ipv6/conf/default/disable_ipv6", "1")])
    }
}
