// SPDX-License-Identifier: Apache-2.0

//! Fragments: those behind their first follow it.

use anyhow::Result;
use proxy_tests::both_families;
use proxy_tests::family::TestFamily;
use proxy_tests::model::Model;
use proxy_tests::packet::Packet;
use proxy_tests::protocol::Protocol;

use crate::{backend, client, dropped, frontend, model, passed};

both_families!(
    fragments_follow_their_first,
    a_fragment_before_its_first_is_dropped,
    a_first_fragment_is_forgotten,
    a_later_fragment_of_a_reply_follows_or_passes,
    an_identification_may_come_round,
);

/// The fragments of a datagram, before and after translation.
fn datagram<F: TestFamily>(number: u32) -> Result<[Vec<Packet>; 2]> {
    let sent = Packet::udp(client::<F>(1), frontend::<F>(1), &[7; 100]);
    let sent = Packet { label: number, ..sent };
    Ok([sent.fragments(5)?, sent.to(backend::<F>(12)).fragments(5)?])
}

fn fragments_follow_their_first<F: TestFamily>() -> Result<()> {
    let mut model = model::<F>();
    let [sent, expected] = datagram::<F>(5)?;
    for (sent, expected) in sent.iter().zip(&expected) {
        assert!(model.clone().from_client(sent, &passed(sent.clone())).is_err());
        assert!(model.clone().from_client(sent, &dropped(sent)).is_err());
        model.from_client(sent, &passed(expected.clone()))?;
    }
    Ok(())
}

fn a_fragment_before_its_first_is_dropped<F: TestFamily>() -> Result<()> {
    let mut model = model::<F>();
    let [sent, expected] = datagram::<F>(5)?;
    model.from_client(&sent[0], &passed(expected[0].clone()))?;
    let [other, wrong] = datagram::<F>(6)?;
    model.from_client(&other[1], &dropped(&other[1]))?;
    assert!(model.from_client(&other[1], &passed(wrong[1].clone())).is_err());
    let stranger = Packet::udp(client::<F>(1), backend::<F>(99), &[7; 100]).fragments(5)?;
    model.from_client(&stranger[1], &passed(stranger[1].clone()))
}

fn a_first_fragment_is_forgotten<F: TestFamily>() -> Result<()> {
    for (seconds, is_known) in [(3, true), (7, false)] {
        let mut model = model::<F>();
        let [sent, expected] = datagram::<F>(5)?;
        model.from_client(&sent[0], &passed(expected[0].clone()))?;
        model.age_fragments(seconds);
        let follows = |model: &mut Model| model.from_client(&sent[1], &passed(expected[1].clone()));
        assert_eq!(follows(&mut model.clone()).is_ok(), is_known);
        assert_eq!(model.from_client(&sent[1], &dropped(&sent[1])).is_ok(), !is_known);
    }
    Ok(())
}

fn a_later_fragment_of_a_reply_follows_or_passes<F: TestFamily>() -> Result<()> {
    let mut model = model::<F>();
    let sent = Packet::opening(Protocol::Udp, client::<F>(1), frontend::<F>(1));
    model.from_client(&sent, &passed(sent.clone().to(backend::<F>(12))))?;
    let reply = Packet::udp(backend::<F>(12), client::<F>(1), &[7; 100]);
    let seen = reply.clone().from(frontend::<F>(1)).fragments(5)?;
    let reply = reply.fragments(5)?;
    model.to_client(&reply[1], &passed(reply[1].clone()))?;
    model.to_client(&reply[0], &passed(seen[0].clone()))?;
    assert!(model.to_client(&reply[1], &passed(reply[1].clone())).is_err());
    model.to_client(&reply[1], &passed(seen[1].clone()))
}

/// Another packet of the same name, which is refused: what comes then may be either's.
fn an_identification_may_come_round<F: TestFamily>() -> Result<()> {
    let mut model = model::<F>();
    let [sent, expected] = datagram::<F>(5)?;
    model.from_client(&sent[0], &passed(expected[0].clone()))?;
    let mut wrong = frontend::<F>(1);
    wrong.set_port(81);
    let other = Packet { label: 5, ..Packet::udp(client::<F>(1), wrong, &[7; 100]) };
    let other = other.fragments(5)?;
    let answer = Packet::port_unreachable(wrong.ip(), &other[0])?;
    model.from_client(&other[0], &crate::sent_back(answer))?;
    assert!(model.clone().from_client(&sent[1], &passed(expected[1].clone())).is_err());
    model.from_client(&sent[1], &dropped(&sent[1]))
}
