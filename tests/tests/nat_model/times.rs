// SPDX-License-Identifier: Apache-2.0

//! Flows are confirmed, end, and fall silent (`docs/adr/0007-time-outs.md`).

use anyhow::Result;
use proxy_tests::both_families;
use proxy_tests::family::TestFamily;
use proxy_tests::model::Model;
use proxy_tests::packet::{Packet, TcpFlags};
use proxy_tests::protocol::Protocol;

use crate::{backend, client, frontend, model, passed, sent_back};

both_families!(
    flows_live_as_long_as_they_should,
    around_a_time_out_both_are_right,
    a_flow_that_has_ended_gives_its_replies_up,
);

/// What both sides say, in order: a `true` is the client's.
type Said = &'static [(bool, TcpFlags, u32)];

const ISN: u32 = 500;
const OPEN: Said = &[
    (true, TcpFlags::SYN, 0),
    (false, TcpFlags::from_bits(0x12), 0),
    (true, TcpFlags::ACK, ISN + 1),
];

fn play<F: TestFamily>(model: &mut Model, said: Said) -> Result<()> {
    let (from, to) = (client::<F>(1), frontend::<F>(1));
    for (is_request, flags, acknowledgment) in said {
        if *is_request {
            let sent = Packet::tcp(from, to, *flags).numbers(ISN, *acknowledgment);
            model.from_client(&sent, &passed(sent.clone().to(backend::<F>(12))))?;
        } else {
            let sent = Packet::tcp(backend::<F>(12), from, *flags).numbers(ISN, *acknowledgment);
            model.to_client(&sent, &passed(sent.clone().from(to)))?;
        }
    }
    Ok(())
}

/// Whether a reply would still be translated.
fn lives<F: TestFamily>(model: &Model) -> bool {
    let reply = Packet::tcp(backend::<F>(12), client::<F>(1), TcpFlags::ACK);
    let seen = reply.clone().from(frontend::<F>(1));
    let lives = model.clone().to_client(&reply, &passed(seen)).is_ok();
    let is_over = model.clone().to_client(&reply, &passed(reply.clone())).is_ok();
    assert_ne!(lives, is_over, "both are right");
    lives
}

fn flows_live_as_long_as_they_should<F: TestFamily>() -> Result<()> {
    const FIN: TcpFlags = TcpFlags::from_bits(0x11);
    const RST: TcpFlags = TcpFlags::RST;
    const WRONG: Said = &[OPEN[0], OPEN[1], (true, TcpFlags::ACK, ISN)];
    const GUESSED: Said = &[OPEN[0], (false, TcpFlags::ACK, 0), (true, TcpFlags::ACK, 0)];
    let cases: [(bool, Said, u32); 8] = [
        (false, &[(true, TcpFlags::SYN, 0)], 60),
        // Nothing but the backend's number proves the client.
        (false, WRONG, 60),
        (false, GUESSED, 60),
        (true, &[], 86_400),
        (true, &[(true, FIN, 0)], 3_600),
        (true, &[(true, FIN, 0), (false, FIN, 0)], 120),
        (true, &[(false, RST, 0)], 10),
        (true, &[(false, RST, 0), (true, TcpFlags::ACK, 0)], 86_400),
    ];
    for (opens, said, seconds) in cases {
        let mut model = model::<F>();
        if opens {
            play::<F>(&mut model, OPEN)?;
        }
        play::<F>(&mut model, said)?;
        for (silence, is_alive) in [(seconds - 2, true), (seconds + 1, false)] {
            let mut model = model.clone();
            model.fall_silent(Protocol::Tcp, client::<F>(1), frontend::<F>(1), silence);
            assert_eq!(lives::<F>(&model), is_alive, "{said:?} after {silence} seconds");
        }
    }
    Ok(())
}

fn around_a_time_out_both_are_right<F: TestFamily>() -> Result<()> {
    let mut model = model::<F>();
    play::<F>(&mut model, &OPEN[..1])?;
    model.fall_silent(Protocol::Tcp, client::<F>(1), frontend::<F>(1), 60);
    let reply = Packet::tcp(backend::<F>(12), client::<F>(1), TcpFlags::ACK);
    model.clone().to_client(&reply, &passed(reply.clone()))?;
    model.to_client(&reply, &passed(reply.clone().from(frontend::<F>(1))))?;
    // It was alive, and has been heard of now.
    assert!(model.to_client(&reply, &passed(reply.clone())).is_err());
    Ok(())
}

fn a_flow_that_has_ended_gives_its_replies_up<F: TestFamily>() -> Result<()> {
    let mut model = model::<F>();
    model.set_backends(Protocol::Tcp, frontend::<F>(2), [backend::<F>(12)]);
    play::<F>(&mut model, OPEN)?;
    let other = Packet::tcp(client::<F>(1), frontend::<F>(2), TcpFlags::SYN);
    let same_port = other.clone().to(backend::<F>(12));
    assert!(model.clone().from_client(&other, &passed(same_port.clone())).is_err());
    play::<F>(&mut model, &[(true, TcpFlags::RST, 0)])?;
    let another_port = same_port.clone().from(client::<F>(9));
    assert!(model.clone().from_client(&other, &passed(another_port)).is_err(), "needs none");
    model.from_client(&other, &passed(same_port))?;
    // The former flow's late segments are nobody's.
    let late = Packet::tcp(client::<F>(1), frontend::<F>(1), TcpFlags::ACK).numbers(5, 7);
    let reset = Packet::tcp(frontend::<F>(1), client::<F>(1), TcpFlags::RST).numbers(7, 0);
    model.from_client(&late, &sent_back(reset))
}
