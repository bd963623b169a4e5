// SPDX-License-Identifier: Apache-2.0

//! Changes and faults at random.

use std::env;
use std::time::Duration;

use anyhow::{Context as _, Result};
use fastrand::Rng;
use proxy_tests::api::fault::{Fault, Verb, Which};
use proxy_tests::api::kind::Kind;

use super::stage::{Stage, service};

/// Fixes the seed.
const SEED: &str = "SIXFOUR_SEED";

fn fault(random: &mut Rng) -> Fault {
    match random.u8(0..14) {
        0 => Fault::gone(),
        1 => Fault::gone_after(random.usize(0..4)),
        2 => Fault::CutInEvent(random.usize(0..4)),
        3 => Fault::CutAfter(random.usize(1..5000)),
        4 => Fault::EndAfter(random.usize(0..4)),
        5 => Fault::Reset,
        6 => Fault::Repeat,
        7 => Fault::Garbage(random.usize(0..9)),
        8 => Fault::status(500, "InternalError", "storm"),
        9 => Fault::status(429, "TooManyRequests", "storm"),
        10 => Fault::RefuseStreaming,
        11 => Fault::SilentAfter(random.usize(0..3)),
        12 => Fault::Delay(Duration::from_millis(random.u64(1..20))),
        _ => Fault::status(401, "Unauthorized", "storm"),
    }
}

fn storm(seed: u64) -> Result<()> {
    let mut random = Rng::with_seed(seed);
    let stage = Stage::new()?;
    let follower = stage.follow()?;
    follower.wait_synced()?;
    for _ in 0..4 {
        for _ in 0..12 {
            match random.u8(0..10) {
                0..6 => {
                    let number = random.u8(100..108);
                    let name = format!("storm-{number}");
                    let (port, endpoints) = (random.u16(80..84), random.u8(0..4));
                    let changed = service(&name, number, port, endpoints);
                    if random.u8(0..4) == 0 {
                        stage.delete(&changed)?;
                    } else {
                        stage.apply(&changed)?;
                    }
                }
                6..9 => {
                    let kind = Kind::ALL[random.usize(0..3)];
                    let verb = [Verb::List, Verb::Stream, Verb::Watch][random.usize(0..3)];
                    let fault = fault(&mut random);
                    stage.proxy.plan(Which::of(kind).that(verb), random.usize(1..3), fault);
                    stage.proxy.cut()?;
                }
                _ => {
                    stage.proxy.down();
                    std::thread::sleep(Duration::from_millis(random.u64(0..50)));
                    stage.proxy.up()?;
                }
            }
        }
        stage.proxy.calm();
        // What was spoilt last is told rightly by the next list at the latest.
        stage.proxy.plan(Which::ALL.that(Verb::Watch), 3, Fault::gone());
        stage.proxy.cut()?;
        stage.settle(&follower)?;
    }
    Ok(())
}

#[test]
fn changes_and_faults_at_random_end_in_the_right_objects() -> Result<()> {
    let seed = match env::var(SEED) {
        Ok(seed) => seed.parse().with_context(|| format!("{SEED} is not a number"))?,
        Err(_) => fastrand::u64(..),
    };
    println!("{SEED}={seed}");
    for number in 0..3 {
        storm(seed.wrapping_add(number))
            .with_context(|| format!("with {SEED}={}", seed.wrapping_add(number)))?;
    }
    Ok(())
}
