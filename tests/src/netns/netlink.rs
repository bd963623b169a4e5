// SPDX-License-Identifier: Apache-2.0

//! What `ip link`, `ip address`, `ip route` and `bridge fdb` do, in one
//! namespace, without starting them.

use std::fmt;
use std::fs::File;
use std::net::IpAddr;
use std::os::fd::AsRawFd as _;

use anyhow::{Context as _, Result};
use futures_util::TryStreamExt as _;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags};
use rtnetlink::packet_route::link::{
    InfoData, InfoNetkit, InfoVeth, LinkFlags, LinkMessage, NetkitMode,
};
use rtnetlink::packet_route::route::{RouteScope, RouteType};
use rtnetlink::{
    Handle, LinkBridge, LinkMessageBuilder, LinkNetkit, LinkUnspec, LinkVeth, LinkVxlan,
    RouteMessageBuilder,
};
use tokio::runtime::{Builder, Runtime};

use super::{Namespace, Veth};
use crate::topology;

/// An address with the length of its prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix(pub IpAddr, pub u8);

impl fmt::Display for Prefix {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.0, self.1)
    }
}

/// A link in a namespace, by index.
#[derive(Clone, Copy, Debug)]
pub struct Link(u32);

/// An rtnetlink socket of a namespace; it may be used from any thread.
#[derive(Debug)]
pub struct Netlink {
    runtime: Runtime,
    handle: Handle,
}

impl Namespace {
    /// Opens an rtnetlink socket in this namespace.
    pub fn netlink(&self) -> Result<Netlink> {
        let runtime = Builder::new_current_thread().enable_io().build()?;
        let handle = self.run(|| {
            let _guard = runtime.enter();
            let (connection, handle, _) = rtnetlink::new_connection()?;
            drop(runtime.spawn(connection));
            Ok(handle)
        })?;
        Ok(Netlink { runtime, handle })
    }
}

impl Netlink {
    /// The link called `name`.
    pub fn link(&self, name: &str) -> Result<Link> {
        let mut links = self.handle.link().get().match_name(name).execute();
        let found = self.runtime.block_on(links.try_next());
        let message = found.ok().flatten().with_context(|| format!("there is no link {name}"))?;
        Ok(Link(message.header.index))
    }

    /// The hardware address of a link with Ethernet frames.
    pub fn mac(&self, link: Link) -> Result<[u8; 6]> {
        use rtnetlink::packet_route::link::LinkAttribute::Address;
        let mut links = self.handle.link().get().match_index(link.0).execute();
        let message = self.runtime.block_on(links.try_next())?.context("the link has gone")?;
        let address = message.attributes.iter().find_map(|attribute| match attribute {
            Address(address) => address.as_slice().try_into().ok(),
            _ => None,
        });
        address.context("it has no hardware address")
    }

    /// The names of all links.
    pub fn link_names(&self) -> Result<Vec<String>> {
        self.names_of(|_| true)
    }

    /// The names of all links that are up.
    pub fn links_up(&self) -> Result<Vec<String>> {
        self.names_of(|link| link.header.flags.contains(LinkFlags::Up))
    }

    fn names_of(&self, wanted: impl Fn(&LinkMessage) -> bool) -> Result<Vec<String>> {
        use rtnetlink::packet_route::link::LinkAttribute::IfName;
        let links = self.handle.link().get().execute();
        let messages: Vec<_> =
            self.runtime.block_on(links.try_collect()).context("listing links")?;
        let wanted = messages.into_iter().filter(wanted);
        Ok(wanted
            .flat_map(|message| message.attributes)
            .filter_map(|a| if let IfName(name) = a { Some(name) } else { None })
            .collect())
    }

    /// `ip link set NAME up`.
    pub fn up(&self, name: &str) -> Result<()> {
        self.set(LinkUnspec::new_with_name(name).up().build(), || format!("setting {name} up"))
    }

    /// `ip link set NAME master BRIDGE`.
    pub fn enslave(&self, name: &str, bridge: Link) -> Result<()> {
        let message = LinkUnspec::new_with_name(name).controller(bridge.0).build();
        self.set(message, || format!("making {name} a bridge port"))
    }

    /// `ip link delete NAME`.
    pub fn delete(&self, name: &str) -> Result<()> {
        let link = self.link(name)?;
        let request = self.handle.link().del(link.0).execute();
        self.runtime.block_on(request).with_context(|| format!("deleting link {name}"))
    }

    /// A veth pair, `here` in this namespace and `there` in another, both up.
    pub fn add_veth(&self, here: Veth<'_>, there: Veth<'_>, other: &Namespace) -> Result<()> {
        let file = File::open(other.path())?;
        let peer = there.describe(LinkMessageBuilder::<LinkUnspec>::default());
        let peer = peer.setns_by_fd(file.as_raw_fd()).build();
        let pair = here.describe(LinkVeth::new(here.name, there.name));
        let pair = pair.set_info_data(InfoData::Veth(InfoVeth::Peer(peer)));
        self.add(pair.up().build(), here.name)?;
        // The kernel refuses to make a peer that is up.
        other.netlink()?.up(there.name)
    }

    /// A netkit pair, likewise.
    pub fn add_netkit(
        &self,
        here: Veth<'_>,
        there: Veth<'_>,
        mode: topology::NetkitMode,
        other: &Namespace,
    ) -> Result<()> {
        let file = File::open(other.path())?;
        let peer = there.describe(LinkMessageBuilder::<LinkUnspec>::default());
        let peer = InfoNetkit::Peer(peer.setns_by_fd(file.as_raw_fd()).build());
        let mode = match mode {
            topology::NetkitMode::L2 => NetkitMode::L2,
            topology::NetkitMode::L3 => NetkitMode::L3,
        };
        let pair = here.describe(LinkNetkit::new(here.name, there.name, mode));
        let pair = pair.set_info_data(InfoData::Netkit(vec![InfoNetkit::Mode(mode), peer]));
        self.add(pair.up().build(), here.name)?;
        other.netlink()?.up(there.name)
    }

    /// A bridge that is up, with a hardware address that does not change
    /// when ports are added.
    pub fn add_bridge(&self, name: &str, mac: [u8; 6]) -> Result<Link> {
        self.add(LinkBridge::new(name).address(mac.to_vec()).build(), name)?;
        self.link(name)
    }

    /// A vxlan device that is up and knows only what it is told
    /// ([`Netlink::add_vxlan_peer`]).
    pub fn add_vxlan(&self, name: &str, vxlan: Vxlan<'_>) -> Result<Link> {
        let lower = self.link(vxlan.device)?;
        let link = LinkVxlan::new(name, vxlan.id).dev(lower.0).port(vxlan.port);
        let link = match vxlan.local {
            IpAddr::V4(local) => link.local(local),
            IpAddr::V6(local) => link.local6(local),
        };
        let link = link.learning(false).address(vxlan.mac.to_vec()).up();
        self.add(link.build(), name)?;
        self.link(name)
    }

    /// Tells a vxlan device that `mac` is behind `remote`.
    pub fn add_vxlan_peer(&self, vxlan: Link, mac: [u8; 6], remote: IpAddr) -> Result<()> {
        let request = self.handle.neighbours().add_bridge(vxlan.0, &mac);
        let request = request
            .flags(rtnetlink::packet_route::neighbour::NeighbourFlags::Own)
            .destination(remote)
            .execute();
        self.runtime.block_on(request).with_context(|| format!("adding vxlan peer {remote}"))
    }

    /// A permanent neighbour.
    pub fn add_neighbour(&self, link: Link, address: IpAddr, mac: [u8; 6]) -> Result<()> {
        let request = self.handle.neighbours().add(link.0, address).link_layer_address(&mac);
        self.runtime
            .block_on(request.execute())
            .with_context(|| format!("adding neighbour {address}"))
    }

    /// `ip address add PREFIX dev LINK nodad`.
    ///
    /// Even where the sysctls disable duplicate address detection, an
    /// address without `nodad` is not usable at once.
    pub fn add_address(&self, link: Link, prefix: Prefix) -> Result<()> {
        let mut request = self.handle.address().add(link.0, prefix.0, prefix.1);
        let attributes = &mut request.message_mut().attributes;
        attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
        self.runtime.block_on(request.execute()).with_context(|| format!("adding address {prefix}"))
    }

    /// `ip address del PREFIX dev LINK`.
    pub fn remove_address(&self, link: Link, prefix: Prefix) -> Result<()> {
        let message = self.handle.address().add(link.0, prefix.0, prefix.1).message_mut().clone();
        let request = self.handle.address().del(message).execute();
        self.runtime.block_on(request).with_context(|| format!("removing address {prefix}"))
    }

    /// `ip route add DESTINATION [via GATEWAY] dev LINK [onlink]`; a gateway
    /// is taken to be on the link.
    pub fn add_route(
        &self,
        destination: Prefix,
        gateway: Option<IpAddr>,
        link: Link,
    ) -> Result<()> {
        let adding = || format!("adding a route to {destination}");
        let route = RouteMessageBuilder::<IpAddr>::new()
            .destination_prefix(destination.0, destination.1)
            .with_context(adding)?
            .output_interface(link.0);
        let route = match gateway {
            Some(gateway) => route.gateway(gateway).with_context(adding)?.onlink(),
            None => route.scope(RouteScope::Link),
        };
        let request = self.handle.route().add(route.build()).execute();
        self.runtime.block_on(request).with_context(adding)
    }

    /// `ip route add local PREFIX dev LINK`: each of its addresses is the namespace's own.
    pub fn add_local(&self, prefix: Prefix, link: Link) -> Result<()> {
        let adding = || format!("making {prefix} local");
        let route = RouteMessageBuilder::<IpAddr>::new()
            .destination_prefix(prefix.0, prefix.1)
            .with_context(adding)?
            .output_interface(link.0)
            .kind(RouteType::Local)
            .scope(RouteScope::Host)
            .table_id(nix::libc::RT_TABLE_LOCAL.into());
        let request = self.handle.route().add(route.build()).execute();
        self.runtime.block_on(request).with_context(adding)
    }

    fn add(&self, message: LinkMessage, name: &str) -> Result<()> {
        let request = self.handle.link().add(message).execute();
        self.runtime.block_on(request).with_context(|| format!("adding link {name}"))
    }

    fn set(&self, message: LinkMessage, doing: impl FnOnce() -> String) -> Result<()> {
        let request = self.handle.link().set(message).execute();
        self.runtime.block_on(request).with_context(doing)
    }
}

/// What a vxlan device is made of.
#[derive(Clone, Copy, Debug)]
pub struct Vxlan<'a> {
    /// The network identifier.
    pub id: u32,
    /// The device it sends by.
    pub device: &'a str,
    /// Its source address there; its family is the tunnel's.
    pub local: IpAddr,
    /// The UDP port.
    pub port: u16,
    /// Its hardware address.
    pub mac: [u8; 6],
}
