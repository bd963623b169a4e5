// SPDX-License-Identifier: Apache-2.0
//! Policies of IPsec for what is forwarded, as of `linux/xfrm.h`.

use netlink_packet_core::{DecodeError, NetlinkDeserializable, NetlinkHeader, NetlinkSerializable};
use rtnetlink::sys::protocols::NETLINK_XFRM;

use super::{error::ReadError, found::Found};
use crate::netlink::{Channel, find};

/// `XFRM_MSG_GETPOLICY`.
const GET_POLICY: u16 = 0x15;

/// Directions of packets that the stack sends or forwards, as `XFRM_POLICY_OUT` and `XFRM_POLICY_FWD`.
/// Policies of single sockets have numbers of their own.
const DIRECTIONS: [(u8, &str); 2] = [(1, "out"), (2, "fwd")];

/// Where `struct xfrm_userpolicy_info` has the direction, which the action follows.
const DIRECTION: usize = 160;

/// Its bytes, with what fills it up.
const INFO: usize = (DIRECTION + 4).next_multiple_of(align_of::<u64>());

/// `XFRMA_TMPL`: how packets are transformed.
const TEMPLATES: u16 = 5;

/// Which policies there are in the calling thread's network namespace: those that encrypt packets, want
/// them to have been encrypted, or block them.
pub(super) fn policies() -> Result<Vec<Found>, ReadError> {
    let kernel = Channel::open(NETLINK_XFRM, "the policies of IPsec")?;
    let Some(mut kernel) = kernel else { return Ok(Vec::new()) };
    let mut counts = DIRECTIONS.map(|(_, direction)| (direction, 0));
    // A list that changed meanwhile has the policies that have been there all the time. A kernel that
    // does not know the request has none.
    let _ = kernel.dump(Message::Request, |message| {
        let Message::Policy(policy) = message else { return Ok(()) };
        if let Some(direction) = direction(&policy)? {
            counts[direction].1 += 1;
        }
        Ok(())
    })?;
    let found = counts.into_iter().filter(|(_, policies)| *policies > 0);
    Ok(found.map(|(direction, policies)| Found::Ipsec { direction, policies }).collect())
}

/// Which of [`DIRECTIONS`] a policy is for; none if it is for others, or lets packets pass as they are.
fn direction(policy: &[u8]) -> Result<Option<usize>, DecodeError> {
    let short = || DecodeError::from("a policy of IPsec that is cut off");
    let (info, attributes) = policy.split_at_checked(INFO).ok_or_else(short)?;
    let [number, action] = [info[DIRECTION], info[DIRECTION + 1]];
    // `XFRM_POLICY_ALLOW`.
    let passes = action == 0 && find(attributes, TEMPLATES)?.is_none_or(<[u8]>::is_empty);
    Ok(DIRECTIONS.iter().position(|(direction, _)| !passes && *direction == number))
}

/// A message of the kernel's, or the one to it.
#[derive(Clone, Debug)]
enum Message {
    /// Asks for all policies.
    Request,
    /// `struct xfrm_userpolicy_info`, and attributes.
    Policy(Vec<u8>),
}

impl NetlinkSerializable for Message {
    fn message_type(&self) -> u16 {
        GET_POLICY
    }

    fn buffer_len(&self) -> usize {
        0
    }

    fn serialize(&self, _: &mut [u8]) {}
}

impl NetlinkDeserializable for Message {
    type Error = DecodeError;

    fn deserialize(_: &NetlinkHeader, payload: &[u8]) -> Result<Self, DecodeError> {
        Ok(Self::Policy(payload.to_vec()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_as_it_is_does_not_count() {
        let policy = |number, action, attributes: &[u8]| {
            let mut info = vec![0; INFO];
            info[DIRECTION] = number;
            info[DIRECTION + 1] = action;
            direction(&[&info, attributes].concat()).unwrap()
        };
        let template = [&8_u16.to_ne_bytes()[..], &TEMPLATES.to_ne_bytes(), &[0; 4]].concat();
        assert_eq!(policy(1, 0, &template), Some(0));
        assert_eq!(policy(2, 0, &template), Some(1));
        assert_eq!(policy(1, 1, &[]), Some(0), "it blocks");
        assert_eq!(policy(1, 0, &[]), None, "it passes");
        // In; those of a socket.
        for number in [0, 3, 4] {
            assert_eq!(policy(number, 0, &template), None, "{number}");
        }
        assert!(direction(&[0; INFO - 1]).is_err());
    }
}
