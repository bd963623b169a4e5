// SPDX-License-Identifier: Apache-2.0
//! What drivers can do for programs in them, as they say themselves.

use std::{fmt, future::pending, io};

use ethtool::{EthtoolAttr, EthtoolError, EthtoolFeatureAttr, EthtoolHandle, EthtoolMessage};
use futures_util::{FutureExt as _, StreamExt as _, stream::BoxStream};
use genetlink::{GenetlinkError, GenetlinkHandle, resolver::Family};
use netlink_packet_core::{NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use netlink_packet_generic::GenlMessage;
use netlink_sys::{AsyncSocket as _, SocketAddr};
use rustix::io::Errno;
use thiserror::Error;
use tokio::task::JoinSet;

use self::netdev::{Netdev, XdpFeatures};

mod netdev;

/// The multicast group of the family `ethtool` that hears of changes, `ETHTOOL_MCGRP_MONITOR_NAME`.
const MONITOR: &str = "monitor";

/// The feature of taking VLAN tags off what is received: `NETIF_F_HW_VLAN_CTAG_RX` by its name, `rxvlan` for short.
const TAKES_TAGS: &str = "rx-vlan-hw-parse";

/// Drivers cannot be asked.
#[derive(Debug, Error)]
pub enum AbilityError {
    /// No socket.
    #[error("cannot open a socket of generic netlink")]
    Open(#[source] io::Error),
    /// About XDP.
    #[error("the kernel does not say what a driver can do")]
    Netdev(#[source] GenetlinkError),
    /// The answer is none.
    #[error("the kernel says nothing of a device")]
    NoAnswer,
    /// About VLAN tags.
    #[error("the kernel does not say whether a driver takes VLAN tags off")]
    Ethtool(#[source] EthtoolError),
}

/// What the driver of a device can do with frames that a program has it send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abilities {
    /// It sends those that have come by other devices (`ndo_xdp_xmit`).
    pub sends_for_others: bool,
    /// Also those that lie in several buffers.
    pub sends_buffers_for_others: bool,
}

impl Abilities {
    /// Where nobody says anything: before Linux 6.3, and of drivers that do not say. What they cannot, they drop.
    pub(super) const UNSAID: Self = Self { sends_for_others: true, sends_buffers_for_others: true };

    const fn of(features: XdpFeatures) -> Self {
        if !features.has(XdpFeatures::BASIC) {
            return Self::UNSAID;
        }
        Self {
            sends_for_others: features.has(XdpFeatures::NDO_XMIT),
            sends_buffers_for_others: features.has(XdpFeatures::NDO_XMIT_SG),
        }
    }
}

/// Asks drivers, in the network namespace in which it was opened, and hears when there is something new.
pub(super) struct AbilityRequests {
    /// Nothing where the kernel does not have the family.
    netdev: Option<GenetlinkHandle>,
    ethtool: Option<EthtoolHandle>,
    /// What the kernel tells by itself, of whichever device.
    news: BoxStream<'static, ()>,
    _connections: JoinSet<()>,
}

impl AbilityRequests {
    /// Opens the sockets in the calling thread's network namespace. Needs a tokio runtime.
    pub(super) async fn open() -> Result<Self, AbilityError> {
        let mut connections = JoinSet::new();
        let (connection, ethtool, _) = ethtool::new_connection().map_err(AbilityError::Open)?;
        let _ = connections.spawn(connection);
        let (connection, netdev, _) = genetlink::new_connection().map_err(AbilityError::Open)?;
        let _ = connections.spawn(connection);
        let (mut telling, _, messages) = genetlink::new_connection().map_err(AbilityError::Open)?;
        let families = [
            known(netdev.resolve_family::<Netdev>().await)?,
            known(ethtool.handle.resolve_family::<EthtoolMessage>().await)?,
        ];
        let has = families.each_ref().map(Option::is_some);
        let socket = telling.socket_mut().socket_mut();
        // The kernel tells nothing to a socket without an address, which it takes for its own.
        let _: SocketAddr = socket.bind_auto().map_err(AbilityError::Open)?;
        for (family, group) in families.into_iter().zip([netdev::GROUP, MONITOR]) {
            let number = family.and_then(|family| family.multicast_groups.get(group).copied());
            if let Some(number) = number {
                socket.add_membership(number).map_err(AbilityError::Open)?;
            }
        }
        let _ = connections.spawn(telling);
        Ok(Self {
            netdev: has[0].then_some(netdev),
            ethtool: has[1].then_some(ethtool),
            news: messages.map(|_| ()).boxed(),
            _connections: connections,
        })
    }

    /// Waits until some device can do more or less than before, as far as that is told.
    pub(super) async fn news(&mut self) {
        if self.news.next().await.is_none() {
            // The tasks have been ended, and this is about to be.
            pending::<()>().await;
        }
        // They come in groups.
        while let Some(Some(())) = self.news.next().now_or_never() {}
    }

    /// What a device's driver can do with frames that a program has it send.
    pub(super) async fn of(&mut self, device: u32) -> Result<Abilities, AbilityError> {
        let Some(netdev) = &mut self.netdev else { return Ok(Abilities::UNSAID) };
        let asked = Netdev { index: device, features: XdpFeatures::default() };
        let mut request = NetlinkMessage::from(GenlMessage::from_payload(asked));
        request.header.flags = NLM_F_REQUEST;
        let mut answers = netdev.request(request).await.map_err(AbilityError::Netdev)?;
        let answer = answers.next().await.ok_or(AbilityError::NoAnswer)?;
        let answer = answer.map_err(|error| AbilityError::Netdev(error.into()))?;
        match answer.payload {
            NetlinkPayload::InnerMessage(told) => Ok(Abilities::of(told.payload.features)),
            NetlinkPayload::Error(error) => Err(AbilityError::Netdev(error.into())),
            _ => Err(AbilityError::NoAnswer),
        }
    }

    /// Whether the driver of the device with this name takes VLAN tags off the frames that programs see.
    pub(super) async fn takes_tags(&mut self, name: &str) -> Result<bool, AbilityError> {
        let Some(ethtool) = &mut self.ethtool else { return Ok(false) };
        let answers = ethtool.feature().get(Some(name)).execute().await;
        let mut answers = answers.map_err(AbilityError::Ethtool)?;
        let answer = answers.next().await.ok_or(AbilityError::NoAnswer)?;
        let attributes = answer.map_err(AbilityError::Ethtool)?.payload.nlas;
        Ok(attributes.iter().any(|attribute| match attribute {
            EthtoolAttr::Feature(EthtoolFeatureAttr::Active(active)) => {
                active.iter().any(|feature| feature.name == TAKES_TAGS)
            }
            _ => false,
        }))
    }
}

impl fmt::Debug for AbilityRequests {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (netdev, ethtool) = (self.netdev.is_some(), self.ethtool.is_some());
        write!(formatter, "AbilityRequests {{ netdev: {netdev}, ethtool: {ethtool} }}")
    }
}

/// A family that was asked for, if the kernel has it.
fn known(asked: Result<Family, GenetlinkError>) -> Result<Option<Family>, AbilityError> {
    match asked {
        Err(GenetlinkError::NetlinkError(error))
            if Errno::from_io_error(&error) == Some(Errno::NOENT) =>
        {
            Ok(None)
        }
        asked => asked.map(Some).map_err(AbilityError::Netdev),
    }
}

#[cfg(test)]
mod tests {
    use super::{Abilities, XdpFeatures};

    #[test]
    fn a_driver_that_says_nothing_may_do_everything() {
        assert_eq!(Abilities::of(XdpFeatures(0)), Abilities::UNSAID);
        // As a virtual function may, as a veth with GRO at its other end, and as an older card.
        let [own, all, one_buffer] = [0x3, 0x67, 0x7].map(|bits| Abilities::of(XdpFeatures(bits)));
        assert!(!own.sends_for_others && !own.sends_buffers_for_others);
        assert_eq!(all, Abilities { sends_for_others: true, sends_buffers_for_others: true });
        assert!(one_buffer.sends_for_others && !one_buffer.sends_buffers_for_others);
    }
}
