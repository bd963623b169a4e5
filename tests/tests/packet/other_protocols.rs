// SPDX-License-Identifier: Apache-2.0

//! What is sent to a VIP by another protocol than those of its ports.

use std::net::SocketAddr;

use anyhow::Result;
use proxy_common::counter::Reason;
use proxy_common::frontend::ServiceIndex;
use proxy_tests::both_families;
use proxy_tests::family::IpFamily;
use proxy_tests::packet::{Content, Icmp, Packet};
use proxy_tests::protocol::Protocol;

use crate::frames::{backend, client, opening, udp, vip};
use crate::programs::Verdict;
use crate::refusal::{assert_refusal, sent_back};
use crate::rig::{Rig, Tabled};

both_families!(other_protocols_get_an_error, a_port_of_another_protocol_refuses);

/// What is neither TCP nor UDP nor SCTP. As kube-proxy's nftables mode rejects whatever is sent to a cluster IP and is for no port.
fn other_protocols_get_an_error<F: Tabled>() -> Result<()> {
    let mut rig = Rig::<F>::new()?;
    let frontend = vip::<F>(1);
    rig.mark(SocketAddr::new(frontend.ip(), 0), Protocol::Tcp, ServiceIndex::REFUSE)?;
    let from = client::<F>(12, 40_000);
    let echo = match F::FAMILY {
        IpFamily::V4 => [8, 0],
        IpFamily::V6 => [128, 129],
    };
    let echoes = echo.map(|kind| {
        Content::Icmp(Icmp { kind, code: 0, rest: [0, 7, 0, 1], payload: b"ping".to_vec() })
    });
    let others = [47, 50, 254]
        .map(|protocol| Content::Other { protocol, payload: b"0123456789abcdef".to_vec() });
    for (count, content) in (1..).zip(echoes.into_iter().chain(others)) {
        let packet = Packet { content, ..udp(from, frontend, b"") };
        let answer = rig.programs.ingress(&packet)?.packet(Verdict::Redirect)?;
        let mut expected = Packet::port_unreachable(frontend.ip(), &packet)?;
        expected.traffic_class = if from.is_ipv4() { 0xc0 } else { 0 };
        (expected.label, expected.dont_fragment) = (0, false);
        assert_eq!(answer, sent_back(expected, &packet));
        assert_eq!(rig.count(Reason::RejectNoPort)?, count);
    }
    Ok(())
}

/// A number is not a Service port: another protocol's is a port that the VIP does not have.
fn a_port_of_another_protocol_refuses<F: Tabled>() -> Result<()> {
    let mut rig = Rig::<F>::new()?;
    let mut refused = 0;
    for (host, served) in (1..).zip(Protocol::ALL) {
        let frontend = vip::<F>(host);
        rig.mark(SocketAddr::new(frontend.ip(), 0), served, ServiceIndex::REFUSE)?;
        let _: ServiceIndex = rig.service(frontend, served, &[backend::<F>(1)])?;
        for protocol in Protocol::ALL {
            let sent = opening(protocol, client::<F>(12, 40_000), frontend);
            let outcome = rig.programs.ingress(&sent)?;
            if protocol == served {
                assert_eq!(outcome.packet(Verdict::Pass)?.destination, backend::<F>(1).ip());
            } else {
                assert_refusal::<F>(&sent, &outcome.packet(Verdict::Redirect)?);
                refused += 1;
            }
            assert_eq!(rig.count(Reason::RejectNoPort)?, refused);
        }
    }
    Ok(())
}
