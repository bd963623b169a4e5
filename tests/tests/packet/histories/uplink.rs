// SPDX-License-Identifier: Apache-2.0

//! Histories of clients outside: a packet goes through the program in the uplink's driver, and what that leaves through
//! the stack's, or through the latter alone. What becomes of it must be the same.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use nix::net::if_::if_nametoindex;
use proxy_agent::bpf::clock;
use proxy_common::clock::{Tick, seconds};
use proxy_common::device::{Device, Wire};
use proxy_common::ways::Hop;
use proxy_tests::model::Rule;
use proxy_tests::netns::{Namespace, Prefix, Veth};
use proxy_tests::protocol::Protocol;
use proxy_tests::topology::subnet_length;

use crate::frames::NODE_MAC;
use crate::outside::node;
use crate::programs::{At, Outcome, Programs, Verdict};
use crate::rig::{DEVICE, Rig, Tabled, address};

/// The device by which everything leaves, its address, and whose is the next hop.
const OUT: &str = "out";
const OUT_MAC: [u8; 6] = [2, 0, 0, 0, 1, 0];
const ROUTER_MAC: [u8; 6] = [2, 0, 0, 0, 1, 1];
const ROUTER: u8 = 2;

/// What must have happened at the least.
pub(super) const RULES: [Rule; 13] = [
    Rule::Untouchable,
    Rule::ForSomebodyElse,
    Rule::NotOurs,
    Rule::OpenedHairpin,
    Rule::HairpinRequest,
    Rule::HairpinReply,
    Rule::FirstFragment,
    Rule::LaterFragment,
    Rule::ErrorInHairpin,
    Rule::RefusedNoEndpoints,
    Rule::RefusedNoPort,
    Rule::RefusedStray,
    Rule::DroppedLocal,
];

/// An uplink whose driver has a program.
#[derive(Clone, Copy, Debug)]
pub(super) struct Uplink {
    out: u32,
}

impl Uplink {
    /// Does something on a node with an uplink.
    pub(super) fn run<F: Tabled>(
        work: impl FnOnce(&mut Rig<F>, Self) -> Result<()> + Send,
    ) -> Result<()> {
        let (namespace, beyond) = (Namespace::new("uplink")?, Namespace::new("beyond")?);
        let out = Veth { mac: Some(OUT_MAC), ..Veth::named(OUT) };
        namespace.netlink()?.add_veth(out, Veth::named("in"), &beyond)?;
        namespace.ip("link set lo mtu 1500")?;
        namespace.sysctl([("ipv4/ip_forward", "1"), ("ipv6/conf/all/forwarding", "1")])?;
        let netlink = namespace.netlink()?;
        let link = netlink.link(OUT)?;
        netlink.add_address(link, Prefix(node::<F>(), subnet_length(F::FAMILY)))?;
        netlink.add_neighbour(link, F::underlay(ROUTER), ROUTER_MAC)?;
        netlink.add_route(Prefix(F::FAMILY.unspecified(), 0), Some(F::underlay(ROUTER)), link)?;
        namespace.run(|| {
            let uplink = Self { out: if_nametoindex(OUT)? };
            work(&mut Rig::in_this_network()?, uplink)
        })
    }

    /// Has the programs know it.
    pub(super) fn equip<F: Tabled>(self, rig: &mut Rig<F>) -> Result<()> {
        rig.set_device(Device::uplink(NODE_MAC).with_xdp(Wire::new(DEVICE, 0)))?;
        let wire = Wire::new(self.out, 0);
        rig.devices.insert(self.out, Device::uplink(OUT_MAC).with_xdp(wire), 0)?;
        let own = address::<F>(SocketAddr::new(node::<F>(), 0));
        rig.host_addresses.insert(self.out, own, 0)?;
        // The stack uses the next hop all the time.
        let used = Tick(clock::now().0.wrapping_add(seconds(3_600)));
        let hop =
            Hop { device: wire.number(), used, mac: ROUTER_MAC, own: OUT_MAC, ..Hop::default() };
        Ok(rig.hops.set(Hop::row(hop.device, &hop.mac), hop, 0)?)
    }

    /// Whether a frame may come: SCTP takes the way through the stack alone, as does what has no hop left.
    pub(super) fn takes<F: Tabled>(protocol: Protocol, frame: &[u8]) -> bool {
        let hops = frame.get(if node::<F>().is_ipv4() { 22 } else { 21 });
        protocol != Protocol::Sctp && hops.is_none_or(|hops| *hops > 1)
    }

    /// Has a frame come by it, to its driver or past that.
    pub(super) fn pass(programs: &Programs, frame: &[u8], to_driver: bool) -> Result<Outcome> {
        if to_driver {
            let mut outcome = programs.run_in_driver(frame)?;
            if outcome.verdict == Verdict::Redirect {
                let addresses = [ROUTER_MAC, OUT_MAC].concat();
                ensure!(outcome.frame[..12] == addresses, "it goes to {:02x?}", outcome.frame);
                outcome.frame[..12].copy_from_slice(&frame[..12]);
                return Ok(outcome);
            }
            ensure!(outcome.verdict == Verdict::Pass, "the driver dropped {frame:02x?}");
            ensure!(outcome.frame == frame, "the driver left {:02x?}", outcome.frame);
        }
        programs.run(At::UplinkIngress, frame)
    }
}
