// SPDX-License-Identifier: Apache-2.0

//! ICMP errors: those about packets of flows are translated, outside and inside.

use anyhow::Result;
use proxy_tests::both_families;
use proxy_tests::family::{IpFamily, TestFamily};
use proxy_tests::packet::{Content, Packet};
use proxy_tests::protocol::Protocol;

use crate::{backend, client, frontend, model, passed};

both_families!(
    an_error_about_a_request_reaches_the_client,
    an_error_about_a_reply_reaches_the_backend,
    an_error_about_nothing_passes,
);

const ALL: usize = 1_500;

const fn unreachable<F: TestFamily>() -> (u8, u8) {
    match F::FAMILY {
        IpFamily::V4 => (3, 1),
        IpFamily::V6 => (1, 0),
    }
}

fn an_error_about_a_request_reaches_the_client<F: TestFamily>() -> Result<()> {
    for protocol in Protocol::ALL {
        let mut model = model::<F>();
        let mut sent = Packet::opening(protocol, client::<F>(1), frontend::<F>(1));
        if let Content::Sctp(sctp) = &mut sent.content {
            // In a quote it would stay what it was.
            sctp.checksum = false;
        }
        let forwarded = sent.clone().to(backend::<F>(12));
        model.from_client(&sent, &passed(forwarded.clone()))?;
        let error = |from, about: &Packet, length| {
            Packet::icmp_error(from, unreachable::<F>(), [0; 4], about, length)
        };
        // A router keeps its address, the backend is the VIP.
        let (router, backend) = (F::underlay(9), backend::<F>(12).ip());
        for (reporter, seen) in [(router, router), (backend, frontend::<F>(1).ip())] {
            let arriving = error(reporter, &forwarded, ALL)?;
            let right = error(seen, &sent, ALL)?;
            model.to_client(&arriving, &passed(right))?;
            for wrong in [
                arriving.clone(),
                error(frontend::<F>(2).ip(), &sent, ALL)?,
                error(seen, &forwarded, ALL)?,
                error(seen, &sent.clone().from(client::<F>(2)), ALL)?,
                error(seen, &sent, if F::FAMILY == IpFamily::V4 { 30 } else { 50 })?,
            ] {
                assert!(model.to_client(&arriving, &passed(wrong)).is_err());
            }
        }
    }
    Ok(())
}

fn an_error_about_a_reply_reaches_the_backend<F: TestFamily>() -> Result<()> {
    let mut model = model::<F>();
    let sent = Packet::opening(Protocol::Udp, client::<F>(1), frontend::<F>(1));
    model.from_client(&sent, &passed(sent.clone().to(backend::<F>(12))))?;
    let reply = Packet::opening(Protocol::Udp, backend::<F>(12), client::<F>(1));
    let seen = reply.clone().from(frontend::<F>(1));
    let error = |about: &Packet| {
        Packet::icmp_error(client::<F>(1).ip(), unreachable::<F>(), [0; 4], about, ALL)
    };
    let (arriving, right) = (error(&seen)?, error(&reply)?);
    assert!(model.from_client(&arriving, &passed(arriving.clone())).is_err());
    model.from_client(&arriving, &passed(right))
}

fn an_error_about_nothing_passes<F: TestFamily>() -> Result<()> {
    let mut model = model::<F>();
    let sent = Packet::opening(Protocol::Tcp, client::<F>(1), frontend::<F>(1));
    let forwarded = sent.clone().to(backend::<F>(12));
    model.from_client(&sent, &passed(forwarded.clone()))?;
    let headers = if F::FAMILY == IpFamily::V4 { 20 } else { 40 };
    let router = F::underlay(9);
    let about = |packet: &Packet, length| {
        Packet::icmp_error(router, unreachable::<F>(), [0; 4], packet, length)
    };
    let mut to_another = about(&forwarded, ALL)?;
    to_another.destination = client::<F>(1).ip();
    to_another.source = router;
    for packet in [
        about(&forwarded.clone().to(backend::<F>(13)), ALL)?,
        about(&forwarded.clone().from(client::<F>(2)), ALL)?,
        // Without both ports.
        about(&forwarded, headers + 3)?,
        Packet { destination: F::pod(1, 99), ..to_another },
    ] {
        model.to_client(&packet, &passed(packet.clone()))?;
        let mut changed = packet.clone();
        changed.destination = F::pod(1, 98);
        assert!(model.to_client(&packet, &passed(changed)).is_err());
    }
    Ok(())
}
