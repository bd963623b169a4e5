// SPDX-License-Identifier: Apache-2.0

//! Conversations as they go in life: they open, are answered, carry data, and end in one of the
//! ways that there are; or all that is said comes in fragments.

use fastrand::Rng;
use proxy_tests::protocol::Protocol;

use super::step::{Cut, Dress, Error, Flow, Sent, Step, Target, What, Who};

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
        Protocol::Tcp | Protocol::Sctp => {
            vec![say(client, SYN, 0), say(backend, SYN | ACK, 0), say(client, ACK, 0)]
        }
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

/// Two pods that are clients and endpoints of each other, whose fragments have the same addresses
/// and identification: those of one flow's requests at one device, those of another flow's replies
/// at the other.
pub(super) fn crossing(protocol: Protocol, random: &mut Rng) -> Vec<Step> {
    // The numbers of the pods' endpoints.
    const ENDPOINTS: [(u8, u8); 2] = [(12, 2), (13, 3)];
    let ports = [40_000 + random.u16(..3), 40_000 + random.u16(..3)];
    let serve = |service, endpoint| Step::Serve {
        service,
        protocol,
        endpoints: vec![endpoint],
        local: None,
    };
    let flow =
        |client: usize, to| Flow { protocol, host: ENDPOINTS[client].0, port: ports[client], to };
    let service = |service| Target::Service { service, port: 80 };
    let (translated, direct) = (flow(0, service(0)), flow(0, Target::Endpoint(ENDPOINTS[1].1)));
    let answered = flow(1, service(1));
    let flags = if protocol == Protocol::Tcp { SYN } else { 0 };
    let label = random.u16(..6);
    let part = |who, number| {
        let cut = Some(Cut { length: 13, number });
        Sent { dress: Dress { payload: 300, label, cut, ..Dress::default() }, ..say(who, ACK, 0) }
    };
    let opening = [translated, direct, answered].map(|flow| say(Who::Request(flow), flags, 0));
    let crossed = [
        part(Who::Reply(answered), 0),
        part(Who::Request(direct), 0),
        part(Who::Reply(answered), 1),
        part(Who::Request(direct), 1),
    ];
    let packets = opening.into_iter().chain(crossed).map(Step::Send);
    [serve(0, ENDPOINTS[1].1), serve(1, ENDPOINTS[0].1)].into_iter().chain(packets).collect()
}
