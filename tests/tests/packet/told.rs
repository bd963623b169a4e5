// SPDX-License-Identifier: Apache-2.0

//! What programs tell those who listen.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use proxy_common::counter::Reason;
use proxy_common::event::{Event, Happening, LISTENERS, Listeners};
use proxy_common::frontend::ServiceIndex;
use proxy_common::socket::SocketAddress;
use proxy_common::{Address as _, Family as _, Port};
use proxy_tests::both_families;
use proxy_tests::protocol::Protocol;

use crate::connection::Connection;
use crate::frames::{backend, client, opening, tcp, vip};
use crate::rig::{Rig, Tabled, address, number};
use proxy_tests::packet::TcpFlags;

both_families!(
    flows_and_their_ends_are_told,
    nobody_is_told_what_nobody_wants,
    each_listener_is_told,
    what_finds_no_room_is_counted,
);

/// Later than any test ends.
const FOREVER: u64 = u64::MAX;

fn listen<F: Tabled>(rig: &mut Rig<F>, wanted: [u64; LISTENERS], until: u64) -> Result<()> {
    let listeners = Listeners { wanted, until: [until; LISTENERS], lost: [0; LISTENERS] };
    Ok(rig.listeners.set(0, listeners, 0)?)
}

/// What a listener has been told since it was asked last.
fn told<F: Tabled>(rig: &mut Rig<F>, listener: usize) -> Vec<Event> {
    let mut told = Vec::new();
    while let Some(item) = rig.events[listener].next() {
        assert_eq!(item.len(), size_of::<Event>());
        // SAFETY: so many bytes are there, and any are an event.
        told.push(unsafe { item.as_ptr().cast::<Event>().read_unaligned() });
    }
    told
}

fn named<F: Tabled>(socket: SocketAddr) -> SocketAddress {
    SocketAddress::new(address::<F>(socket).to_mapped(), Port::new(socket.port()))
}

fn flows_and_their_ends_are_told<F: Tabled>() -> Result<()> {
    for protocol in Protocol::ALL {
        for takes_long_way in [false, true] {
            let mut rig = Rig::<F>::new()?;
            listen(
                &mut rig,
                [Happening::Flow.bit::<F::Abi>() | Happening::Reject.bit::<F::Abi>(), 0, 0, 0],
                FOREVER,
            )?;
            let index = rig.service(vip::<F>(1), protocol, &[backend::<F>(1)])?;
            let (from, to) = (client::<F>(12, 40_000), vip::<F>(1));
            let mut packet = opening(protocol, from, to);
            if takes_long_way {
                packet = packet.with_options();
            }
            let _ = rig.programs.ingress(&packet)?;
            let events = told(&mut rig, 0);
            let [event] = events.as_slice() else { anyhow::bail!("{events:?}") };
            let expected = Event {
                at: event.at,
                source: named::<F>(from),
                destination: named::<F>(to),
                backend: named::<F>(backend::<F>(1)),
                service: index,
                device: event.device,
                family: u8::try_from(F::Abi::INDEX)?,
                protocol: number(protocol),
                reason: Reason::FlowCreated as u8,
                reserved: 0,
            };
            assert_eq!(*event, expected, "{protocol} {takes_long_way}");
            ensure!(event.at != 0 && event.device != 0, "{event:?}");
            // It goes on, and nothing happens.
            let _ = rig.programs.ingress(&packet)?;
            assert_eq!(told(&mut rig, 0), []);
            // Nobody serves.
            let empty = rig.service(vip::<F>(2), protocol, &[])?;
            let _ = rig.programs.ingress(&opening(protocol, from, vip::<F>(2)))?;
            let events = told(&mut rig, 0);
            let expected = Event {
                at: events.first().context("it is told")?.at,
                destination: named::<F>(vip::<F>(2)),
                backend: SocketAddress::default(),
                service: empty,
                reason: Reason::RejectNoEndpoints as u8,
                ..expected
            };
            assert_eq!(events, [expected]);
        }
    }
    Ok(())
}

fn nobody_is_told_what_nobody_wants<F: Tabled>() -> Result<()> {
    let mut rig = Rig::<F>::new()?;
    let _: ServiceIndex = rig.service(vip::<F>(1), Protocol::Tcp, &[])?;
    let refused = |rig: &Rig<F>| {
        rig.programs.ingress(&opening(Protocol::Tcp, client::<F>(12, 40_000), vip::<F>(1)))
    };
    let reject = Happening::Reject.bit::<F::Abi>();
    for wanted in [0, !reject] {
        listen(&mut rig, [wanted; LISTENERS], FOREVER)?;
        let _ = refused(&rig)?;
        assert_eq!(told(&mut rig, 0), []);
    }
    // Who has gone without saying so is told no more, and costs no more.
    listen(&mut rig, [reject, reject, 0, 0], 1)?;
    let _ = refused(&rig)?;
    assert_eq!((told(&mut rig, 0), told(&mut rig, 1)), (vec![], vec![]));
    assert_eq!(rig.listeners.get(&0, 0)?.wanted, [0; LISTENERS]);
    Ok(())
}

fn each_listener_is_told<F: Tabled>() -> Result<()> {
    let mut rig = Rig::<F>::new()?;
    let _: ServiceIndex = rig.service(vip::<F>(1), Protocol::Tcp, &[backend::<F>(1)])?;
    let (flow, reject) = (Happening::Flow.bit::<F::Abi>(), Happening::Reject.bit::<F::Abi>());
    listen(&mut rig, [flow, reject, flow | reject, 0], FOREVER)?;
    let _ = Connection::open(&rig.programs, Protocol::Tcp, client::<F>(12, 40_000), vip::<F>(1))?;
    let amid = tcp(client::<F>(12, 40_001), vip::<F>(1), TcpFlags::ACK);
    let _ = rig.programs.ingress(&amid)?;
    let mut reasons = Vec::new();
    for listener in 0..LISTENERS {
        reasons.push(told(&mut rig, listener).iter().map(|event| event.reason).collect::<Vec<_>>());
    }
    let (flow, reject) = (Reason::FlowCreated as u8, Reason::RejectNoFlow as u8);
    assert_eq!(reasons, [vec![flow], vec![reject], vec![flow, reject], vec![]]);
    Ok(())
}

fn what_finds_no_room_is_counted<F: Tabled>() -> Result<()> {
    let mut rig = Rig::<F>::new()?;
    let _: ServiceIndex = rig.service(vip::<F>(1), Protocol::Udp, &[backend::<F>(1)])?;
    let flow = Happening::Flow.bit::<F::Abi>();
    listen(&mut rig, [0, 0, 0, flow], FOREVER)?;
    // More than a buffer has room for.
    let flows = 1 + proxy_common::event::BUFFER / u32::try_from(size_of::<Event>())?;
    for port in (1..=u16::MAX).take(flows.try_into()?) {
        let _ =
            rig.programs.ingress(&opening(Protocol::Udp, client::<F>(12, port), vip::<F>(1)))?;
    }
    let lost = rig.listeners.get(&0, 0)?.lost;
    let heard = u64::try_from(told(&mut rig, 3).len())?;
    ensure!(lost[..3] == [0; 3] && lost[3] > 0, "{lost:?}");
    assert_eq!(lost[3] + heard, u64::from(flows));
    // There is room again.
    let _ = rig.programs.ingress(&opening(Protocol::Udp, client::<F>(13, 1), vip::<F>(1)))?;
    assert_eq!(told(&mut rig, 3).len(), 1);
    Ok(())
}
