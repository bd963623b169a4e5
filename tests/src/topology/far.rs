// SPDX-License-Identifier: Apache-2.0

//! Machines that are not in the nodes' network: behind a router.

use anyhow::{Context as _, Result, ensure};

use super::{DEVICE, Host, Topology, default_route, subnet_length};
use crate::family::{DualAddress, IpFamily};
use crate::netns::{Prefix, Veth};

/// The router's device towards who is behind it.
const INSIDE: &str = "far";
/// The host number of the router there.
const ROUTER: u8 = 1;

impl Topology {
    /// Makes the outside machine `router` one, and puts another outside machine behind it, as host
    /// `number` (2 to 254) of [`DualAddress::far`]. The nodes know the way.
    pub fn add_behind(&mut self, router: &str, name: &str, number: u8) -> Result<()> {
        let families = self.families();
        let addresses = DualAddress::far(number);
        let machine = Host::new(name, None, None, addresses, families)?;
        let router = self.outsiders.get(router).with_context(|| format!("there is no {router}"))?;
        router.namespace().sysctl([("ipv4/ip_forward", "1"), ("ipv4/conf/all/rp_filter", "0")])?;
        if families.contains(IpFamily::V6) {
            router.namespace().sysctl([("ipv6/conf/all/forwarding", "1")])?;
        }
        let (near, far) = (router.namespace().netlink()?, machine.namespace().netlink()?);
        near.add_veth(Veth::named(INSIDE), Veth::named(DEVICE), machine.namespace())?;
        let (inside, device) = (near.link(INSIDE)?, far.link(DEVICE)?);
        for family in families.list() {
            let gateway = DualAddress::far(ROUTER).of(family);
            near.add_address(inside, Prefix(gateway, subnet_length(family)))?;
            far.add_address(device, Prefix(addresses.of(family), subnet_length(family)))?;
            far.add_route(default_route(family), Some(gateway), device)?;
            let network = Prefix(DualAddress::far(0).of(family), subnet_length(family));
            for node in self.nodes.values() {
                let node = node.host().namespace().netlink()?;
                node.add_route(network, Some(router.address(family)), node.link(DEVICE)?)?;
            }
        }
        ensure!(self.outsiders.insert(name.to_owned(), machine).is_none(), "two {name}");
        Ok(())
    }
}
