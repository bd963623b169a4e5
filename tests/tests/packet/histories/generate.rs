// SPDX-License-Identifier: Apache-2.0

//! Histories out of a seed: some conversations at once, each with a plan of its own, and between
//! them packets of any kind, damage, silence, and changes of Services.

use std::collections::VecDeque;

use fastrand::Rng;
use proxy_tests::protocol::Protocol;

use super::frame::{ENDPOINTS, SERVICES};
use super::plan::{self, SEQUENCE};
use super::step::{Change, Cut, Dress, Error, Flow, Receiver, Sent, Step, Target, What, Who};
use crate::programs::At;

/// Conversations at once.
const CONVERSATIONS: usize = 6;
/// Silences around every time-out.
const SILENCES: [u32; 14] =
    [4, 7, 13, 40, 55, 64, 100, 114, 124, 900, 3_590, 3_606, 86_390, 86_406];
/// Lengths of what packets carry.
const PAYLOADS: [u16; 8] = [0, 0, 1, 5, 18, 64, 301, 1_200];

/// A history in the making.
pub(super) struct Generator {
    random: Rng,
    conversations: Vec<VecDeque<Step>>,
}

/// A history of so many steps.
pub(super) fn history(seed: u64, length: usize) -> Vec<Step> {
    let mut generator = Generator { random: Rng::with_seed(seed), conversations: Vec::new() };
    let mut steps = vec![Step::ServiceCidr(generator.random.u8(..4) > 0)];
    for service in 0..SERVICES {
        for protocol in Protocol::ALL {
            steps.push(generator.serve(service, protocol));
        }
    }
    while steps.len() < length {
        steps.push(generator.next());
    }
    steps
}

impl Generator {
    fn next(&mut self) -> Step {
        match self.random.u16(..1_000) {
            0..600 => self.converse(),
            600..700 => self.any_request(),
            700..770 => self.any_reply(),
            770..830 => self.any_error(),
            830..860 => self.at_guard(),
            860..890 => self.other_protocol(),
            890..905 => self.untranslated(),
            905..945 => {
                let seconds = self.one_of(&SILENCES);
                Step::Silence { flow: self.flow(), seconds }
            }
            945..952 => Step::AgeFragments { seconds: self.one_of(&[2, 3, 7, 60]) },
            952..985 => self.change_services(),
            985..992 => Step::BridgePort(self.random.bool()),
            992..996 => Step::HostAddress(self.random.u8(..3) > 0),
            _ => Step::ServiceCidr(self.random.u8(..4) > 0),
        }
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.random.usize(..all.len())]
    }

    /// With one chance in so many.
    fn rarely(&mut self, chances: u16) -> bool {
        self.random.u16(..chances) == 0
    }

    /// Flows have few ports, so that they meet.
    fn flow(&mut self) -> Flow {
        let to = match self.random.u8(..20) {
            0..13 => Target::Service { service: self.random.u8(..SERVICES), port: 80 },
            13 => Target::Service { service: self.random.u8(..SERVICES), port: 81 },
            14..19 => Target::Endpoint(self.random.u8(..ENDPOINTS)),
            _ => self.one_of(&[Target::Nobody, Target::Stranger]),
        };
        Flow {
            protocol: self.one_of(&Protocol::ALL),
            host: self.one_of(&[12, 13]),
            port: 40_000 + self.random.u16(..3),
            to,
        }
    }

    fn serve(&mut self, service: u8, protocol: Protocol) -> Step {
        let count = self.one_of(&[0, 1, 1, 1, 2, 3]);
        let endpoints = (0..count).map(|_| self.random.u8(..ENDPOINTS)).collect::<Vec<_>>();
        let local = (self.rarely(6))
            .then(|| endpoints.iter().copied().filter(|_| self.random.bool()).collect::<Vec<_>>());
        Step::Serve { service, protocol, endpoints, local }
    }

    fn change_services(&mut self) -> Step {
        let (service, protocol) = (self.random.u8(..SERVICES), self.one_of(&Protocol::ALL));
        if self.rarely(6) {
            return Step::Remove { service, protocol };
        }
        self.serve(service, protocol)
    }

    /// The next step of one of the conversations.
    fn converse(&mut self) -> Step {
        self.conversations.retain(|steps| !steps.is_empty());
        while self.conversations.len() < CONVERSATIONS {
            let flow = self.flow();
            let silence = self.one_of(&SILENCES);
            let plan = if self.rarely(30) {
                plan::crossing(flow.protocol, &mut self.random)
            } else {
                plan::conversation(flow, silence, &mut self.random)
            };
            self.conversations.push(plan.into());
        }
        let chosen = self.random.usize(..self.conversations.len());
        let step = self.conversations[chosen].pop_front();
        match step {
            Some(Step::Send(sent)) if self.rarely(12) => Step::Send(self.spoil(sent)),
            Some(step) => step,
            None => self.any_request(),
        }
    }

    /// Any segment or datagram.
    fn usual(&mut self) -> What {
        let flags =
            self.one_of(&[0x02, 0x02, 0x12, 0x10, 0x10, 0x18, 0x11, 0x01, 0x04, 0x14, 0, 0x3f]);
        let sequence = self.one_of(&[SEQUENCE, 1, u32::MAX, 4_999]);
        let acknowledgment = self.one_of(&[0, 0, SEQUENCE + 1, 5_000]);
        What::Usual { flags, sequence, acknowledgment }
    }

    fn dress(&mut self) -> Dress {
        let payload = self.one_of(&PAYLOADS);
        let cut = self.rarely(8).then(|| Cut {
            length: self.one_of(&[1, 2, 3, 5, 40]),
            number: self.one_of(&[0, 0, 1, 2, 9]),
        });
        Dress {
            payload,
            label: self.random.u16(..6),
            options: self.rarely(12),
            no_checksum: self.rarely(6),
            cut,
            ..Dress::default()
        }
    }

    fn send(&mut self, who: Who, what: What) -> Sent {
        let dress = self.dress();
        let sent = Sent { at: None, who, what, dress, error: None, changes: Vec::new() };
        if self.rarely(4) { self.spoil(sent) } else { sent }
    }

    fn any_request(&mut self) -> Step {
        let (flow, what) = (self.flow(), self.usual());
        Step::Send(self.send(Who::Request(flow), what))
    }

    fn any_reply(&mut self) -> Step {
        let (flow, what) = (self.flow(), self.usual());
        Step::Send(self.send(Who::Reply(flow), what))
    }

    fn untranslated(&mut self) -> Step {
        let (flow, what) = (self.flow(), self.usual());
        Step::Send(self.send(Who::Untranslated(flow), what))
    }

    fn any_error(&mut self) -> Step {
        let (flow, what) = (self.flow(), self.usual());
        let who = match self.random.u8(..8) {
            0..4 => Who::Request(flow),
            4..7 => Who::Reply(flow),
            _ => Who::Untranslated(flow),
        };
        let mut sent = self.send(who, what);
        sent.error = Some(Error {
            kind: self.random.u8(..8),
            by_router: self.random.bool(),
            quoted: self.one_of(&[1_500, 1_500, 1_500, 128, 100, 64, 56, 48, 36, 28, 27, 20, 0]),
            options: self.rarely(8),
        });
        Step::Send(sent)
    }

    fn other_protocol(&mut self) -> Step {
        let (flow, what) = (self.flow(), [What::Echo, What::Other(0)]);
        let what = match self.one_of(&[0, 1]) {
            0 => what[0].clone(),
            _ => What::Other(self.one_of(&[2, 4, 47, 50, 58, 59, 132, 254])),
        };
        Step::Send(self.send(Who::Request(flow), what))
    }

    fn at_guard(&mut self) -> Step {
        let what = if self.rarely(5) { What::Echo } else { self.usual() };
        let mut flow = self.flow();
        if self.rarely(4) {
            flow.to = Target::Nobody;
        }
        let mut sent = self.send(Who::Request(flow), what);
        sent.at = Some(At::UplinkEgress);
        Step::Send(sent)
    }

    /// Makes a packet an unusual one, or damages it.
    fn spoil(&mut self, mut sent: Sent) -> Sent {
        match self.random.u8(..24) {
            0 => sent.dress.vlan = true,
            1 => sent.dress.authentication = true,
            2 => sent.dress.source_route = true,
            3..6 => {
                sent.dress.to =
                    self.one_of(&[Receiver::Bridge, Receiver::Neighbour, Receiver::Group]);
            }
            6 => sent.at = Some(self.one_of(&[At::Ingress, At::Egress, At::UplinkEgress])),
            7 | 8 => {
                for _ in 0..self.one_of(&[1, 1, 2, 5, 6, 7]) {
                    sent.changes.push(Change::Extension(self.one_of(&[0, 43, 60])));
                }
            }
            _ => {
                for _ in 0..self.random.u8(1..=3) {
                    let change = self.damage();
                    sent.changes.push(change);
                }
            }
        }
        sent
    }

    fn damage(&mut self) -> Change {
        match self.random.u8(..12) {
            // Mostly in headers.
            0..3 => Change::Flip { at: self.random.u16(..80), bit: self.random.u8(..8) },
            3 => Change::Flip { at: self.random.u16(..), bit: self.random.u8(..8) },
            4 => Change::Cut(self.one_of(&[1, 2, 4, 8, 13, 40])),
            5 | 6 => {
                let count = self.one_of(&[1, 6, 18, 46, 100]);
                Change::Pad { count, value: self.one_of(&[0, 0, 0x50, 0xff]) }
            }
            // Lengths of IPv4, IPv6 and both their transport headers.
            7 | 8 => Change::Set {
                at: self.one_of(&[2, 4, 24, 32, 44, 52]),
                value: self.one_of(&[0, 1, 7, 8, 20, 24, 28, 40, 48, 60, 500, u16::MAX]),
            },
            // Fragments, of IPv4 and of IPv6; IPv6's next header.
            9 => Change::Set {
                at: self.one_of(&[6, 42]),
                value: self.one_of(&[0, 1, 8, 9, 0x2000, 0x4000, 0x2c40, 0x3c40, 0x0640]),
            },
            // Checksums: none, and wrong ones.
            10 => Change::Set {
                at: self.one_of(&[10, 22, 26, 36, 46, 56]),
                value: self.one_of(&[0, 1, u16::MAX]),
            },
            _ => Change::Extension(self.one_of(&[0, 43, 44, 60])),
        }
    }
}
