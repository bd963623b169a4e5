// SPDX-License-Identifier: Apache-2.0

//! A node and what happens to its devices, beyond what the harness can do to them.

use std::fs::File;
use std::net::IpAddr;
use std::os::fd::AsRawFd as _;

use anyhow::{Context as _, Result};
use proxy_tests::family::{IpFamily, TestFamily};
use proxy_tests::netns::{Namespace, Prefix};
use rtnetlink::packet_route::link::LinkMessage;
use rtnetlink::packet_route::tc::TcHandle;
use rtnetlink::{Handle, LinkUnspec, LinkVeth, RouteMessageBuilder};
use tokio::runtime::{Builder, Runtime};

/// The same address but for the last number, in either family.
pub(crate) fn address<F: TestFamily>(number: u8) -> IpAddr {
    let address = match F::FAMILY {
        IpFamily::V4 => format!("10.9.0.{number}"),
        IpFamily::V6 => format!("fd00:9::{number}"),
    };
    address.parse().expect("an address")
}

/// The prefix of one address.
pub(crate) fn host(address: IpAddr) -> Prefix {
    Prefix(address, IpFamily::of(address).host_prefix_length())
}

/// Changes the devices of a namespace, beyond what the harness does.
pub(crate) struct Hands {
    runtime: Runtime,
    handle: Handle,
}

impl Hands {
    pub(crate) fn new(namespace: &Namespace) -> Result<Self> {
        let runtime = Builder::new_current_thread().enable_io().build()?;
        let handle = namespace.run(|| {
            let _guard = runtime.enter();
            let (connection, handle, _) = rtnetlink::new_connection()?;
            drop(runtime.spawn(connection));
            Ok(handle)
        })?;
        Ok(Self { runtime, handle })
    }

    /// A veth pair with both ends here, and down.
    pub(crate) fn add_pair(&self, here: &str, there: &str) -> Result<()> {
        self.add(LinkVeth::new(here, there).build())
    }

    pub(crate) fn move_to(&self, name: &str, other: &Namespace) -> Result<()> {
        let file = File::open(other.path())?;
        self.set(LinkUnspec::new_with_name(name).setns_by_fd(file.as_raw_fd()).build())
    }

    pub(crate) fn set_mac(&self, name: &str, mac: [u8; 6]) -> Result<()> {
        self.set(LinkUnspec::new_with_name(name).address(mac.to_vec()).build())
    }

    /// Gives a device another name, for which it must be down before Linux 6.2.
    pub(crate) fn rename(&self, index: u32, name: &str) -> Result<()> {
        self.set(LinkUnspec::new_with_index(index).down().build())?;
        self.set(LinkUnspec::new_with_index(index).name(name.to_owned()).build())?;
        self.set(LinkUnspec::new_with_index(index).up().build())
    }

    pub(crate) fn index(&self, name: &str) -> Result<u32> {
        use futures_util::TryStreamExt as _;
        let mut links = self.handle.link().get().match_name(name.to_owned()).execute();
        let link = self.runtime.block_on(links.try_next())?;
        Ok(link.context("no such link")?.header.index)
    }

    /// A route over a device, with a source address of its own.
    pub(crate) fn add_route_from(&self, to: Prefix, device: u32, source: IpAddr) -> Result<()> {
        let route = RouteMessageBuilder::<IpAddr>::new()
            .destination_prefix(to.0, to.1)?
            .output_interface(device)
            .pref_source(source)?
            .build();
        Ok(self.runtime.block_on(self.handle.route().add(route).execute())?)
    }

    /// What `tc qdisc del dev DEVICE clsact` does.
    pub(crate) fn delete_clsact(&self, device: u32) -> Result<()> {
        let mut request = self.handle.qdisc().del(device.cast_signed());
        request.message_mut().header.parent = TcHandle::CLSACT;
        Ok(self.runtime.block_on(request.execute())?)
    }

    fn add(&self, link: LinkMessage) -> Result<()> {
        Ok(self.runtime.block_on(self.handle.link().add(link).execute())?)
    }

    fn set(&self, link: LinkMessage) -> Result<()> {
        Ok(self.runtime.block_on(self.handle.link().set(link).execute())?)
    }
}
