// SPDX-License-Identifier: Apache-2.0

//! Conversations as they go in life: they open, are answered, carry data, and end in one of the
//! ways that there are; or all that is said comes in fragments.

use fastrand::Rng;
use proxy_tests::protocol::Protocol;

use super::step::{Cut, Dress, Error, Flow, Sent, Step, What, Who};

/// The sequence number of a backend's SYN.
pub(super) const SEQUENCE: u32 = 70_000;

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

fn say(who: Who, flags: u8, payload: u16) -> Sent {
    let acknowledgment = if flags & ACK != 0 { SEQUENCE + 1 } else { 0 };
    let what = What::Usual { flags, sequence: SEQUENCE, acknowledgment };
    let dress = Dress { payload, ..Dress::default() };
    Sent { at: None, who, what, dress, error: None, changes: Vec::new() }
}

/// A conversation in a flow, with a silence in it.
pub(super) fn conversation(flow: Flow, silence: u32, random: &mut Rng) -> Vec<Step> {
    let (client, backend) = (Who::Request(flow), Who::Reply(flow));
    let mut said = match flow.protocol {
        Protocol::Tcp => vec![say(client, SYN, 0), say(backend, SYN | ACK, 0), say(client, ACK, 0)],
        Protocol::Udp => vec![say(client, 0, 9), say(backend, 0, 30), say(client, 0, 5)],
    };
    // Some never get so far.
    if random.u8(..6) == 0 {
        said.truncate(random.usize(1..3));
    }
    for _ in 0..random.u8(..4) {
        let who = if random.bool() { client } else { backend };
        said.push(say(who, ACK, 100));
    }
    if random.u8(..4) == 0 {
        let who = if random.bool() { client } else { backend };
        said.extend(in_fragments(who, random));
    }
    if random.u8(..3) == 0 {
        let who = if random.bool() { client } else { backend };
        let error =
            Error { kind: random.u8(..5), by_router: random.bool(), quoted: 1_500, options: false };
        said.push(Sent { error: Some(error), ..say(who, ACK, 40) });
    }
    let mut steps: Vec<_> = said.into_iter().map(Step::Send).collect();
    if random.u8(..5) == 0 {
        steps.push(Step::Silence { flow, seconds: silence });
        steps.push(Step::Send(say(if random.bool() { client } else { backend }, ACK, 3)));
    }
    steps.extend(end(flow, random).into_iter().map(Step::Send));
    if random.u8(..3) == 0 {
        steps.push(Step::Silence { flow, seconds: silence });
    }
    // And what comes after: nothing, something late, the same again.
    match random.u8(..5) {
        0 => steps.push(Step::Send(say(client, ACK, 3))),
        1 => steps.push(Step::Send(say(backend, ACK, 3))),
        2 => steps.push(Step::Send(say(client, SYN, 0))),
        _ => {}
    }
    steps
}

fn end(flow: Flow, random: &mut Rng) -> Vec<Sent> {
    let (client, backend) = (Who::Request(flow), Who::Reply(flow));
    match random.u8(..8) {
        0..2 => vec![say(client, FIN | ACK, 0), say(backend, FIN | ACK, 0), say(client, ACK, 0)],
        2 => vec![say(backend, FIN | ACK, 0), say(client, FIN | ACK, 0)],
        3 => vec![say(client, FIN | ACK, 0), say(backend, ACK, 20)],
        4 => vec![say(client, RST | ACK, 0)],
        5 => vec![say(backend, RST, 0)],
        6 => vec![say(backend, RST, 0), say(client, ACK, 1)],
        _ => Vec::new(),
    }
}

/// A long packet in fragments, which may come twice or in another order, or not at all.
fn in_fragments(who: Who, random: &mut Rng) -> Vec<Sent> {
    let (label, length) = (random.u16(..6), if random.bool() { 13 } else { 40 });
    let fragment = |number| {
        let dress =
            Dress { payload: 600, label, cut: Some(Cut { length, number }), ..Dress::default() };
        Sent { dress, ..say(who, ACK, 0) }
    };
    let mut fragments: Vec<_> = (0..3).map(fragment).collect();
    match random.u8(..5) {
        0 => random.shuffle(&mut fragments),
        1 => fragments.extend(fragments.clone()),
        2 => drop(fragments.remove(random.usize(..3))),
        _ => {}
    }
    fragments
}
