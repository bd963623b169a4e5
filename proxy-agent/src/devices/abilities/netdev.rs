// SPDX-License-Identifier: Apache-2.0
//! The family `netdev` of generic netlink, as far as it tells what drivers can do for XDP
//! (`Documentation/netlink/specs/netdev.yaml`, Linux 6.3, commit d3d854fd6a1d).

use netlink_packet_core::{
    DecodeError, DefaultNla, Emitable, NlasIterator, ParseableParametrized, parse_u32, parse_u64,
};
use netlink_packet_generic::{GenlFamily, GenlHeader};

/// The multicast group that hears of changes, `NETDEV_MCGRP_MGMT`.
pub(super) const GROUP: &str = "mgmt";

/// `NETDEV_CMD_DEV_GET`.
const DEV_GET: u8 = 1;
/// `NETDEV_A_DEV_IFINDEX`, a u32.
const IFINDEX: u16 = 1;
/// `NETDEV_A_DEV_XDP_FEATURES`, a u64.
const XDP_FEATURES: u16 = 3;

/// What the driver of a device can do, as bits (`enum netdev_xdp_act`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct XdpFeatures(pub(super) u64);

impl XdpFeatures {
    /// It takes programs, and says what it can.
    pub(super) const BASIC: Self = Self(1);
    /// It sends frames for other devices: `ndo_xdp_xmit`.
    pub(super) const NDO_XMIT: Self = Self(1 << 2);
    /// It does so with frames in several buffers.
    pub(super) const NDO_XMIT_SG: Self = Self(1 << 6);

    /// Whether all bits of `other` are set.
    pub(super) const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// A device, as it is asked for and as it is told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Netdev {
    /// Its interface index.
    pub(super) index: u32,
    /// What its driver can do; only the kernel says that.
    pub(super) features: XdpFeatures,
}

impl GenlFamily for Netdev {
    /// `NETDEV_FAMILY_NAME` of `linux/netdev.h`.
    fn family_name() -> &'static str {
        "netdev"
    }

    fn command(&self) -> u8 {
        DEV_GET
    }

    fn version(&self) -> u8 {
        1
    }
}

impl Netdev {
    /// The attributes of a request.
    fn attribute(&self) -> DefaultNla {
        DefaultNla::new(IFINDEX, self.index.to_ne_bytes().to_vec())
    }
}

impl Emitable for Netdev {
    fn buffer_len(&self) -> usize {
        self.attribute().buffer_len()
    }

    fn emit(&self, buffer: &mut [u8]) {
        self.attribute().emit(buffer);
    }
}

impl ParseableParametrized<[u8], GenlHeader> for Netdev {
    fn parse_with_param(buffer: &[u8], _: GenlHeader) -> Result<Self, DecodeError> {
        let mut device = Self { index: 0, features: XdpFeatures::default() };
        for attribute in NlasIterator::new(buffer) {
            let attribute = attribute?;
            match attribute.kind() {
                IFINDEX => device.index = parse_u32(attribute.value())?,
                XDP_FEATURES => device.features = XdpFeatures(parse_u64(attribute.value())?),
                _ => {}
            }
        }
        Ok(device)
    }
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::{Emitable as _, ParseableParametrized as _};
    use netlink_packet_generic::GenlHeader;

    use super::{Netdev, XdpFeatures};

    const HEADER: GenlHeader = GenlHeader { cmd: 1, version: 1 };

    #[test]
    fn a_device_is_asked_for_by_its_index() {
        let asked = Netdev { index: 7, features: XdpFeatures::default() };
        let mut request = vec![0; asked.buffer_len()];
        asked.emit(&mut request);
        let [index @ .., b0, b1, b2, b3] = request.as_slice() else { panic!("{request:?}") };
        assert_eq!(index, [8_u16, 1].map(u16::to_ne_bytes).as_flattened());
        assert_eq!([*b0, *b1, *b2, *b3], 7_u32.to_ne_bytes());
    }

    /// What Linux 6.18 says of a veth whose other end has GRO, recorded on a machine of little endian.
    #[test]
    #[cfg(target_endian = "little")]
    fn a_recorded_answer_is_understood() {
        #[rustfmt::skip]
        let answer = [
            8, 0, 1, 0, 3, 0, 0, 0,
            12, 0, 3, 0, 103, 0, 0, 0, 0, 0, 0, 0,
            12, 0, 5, 0, 7, 0, 0, 0, 0, 0, 0, 0,
            12, 0, 6, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        ];
        let told = Netdev::parse_with_param(&answer, HEADER).unwrap();
        assert_eq!(told, Netdev { index: 3, features: XdpFeatures(103) });
        assert!(told.features.has(XdpFeatures::NDO_XMIT_SG));
        assert!(Netdev::parse_with_param(&answer[..7], HEADER).is_err());
    }
}
