// SPDX-License-Identifier: Apache-2.0

//! ICMP errors about packets of flows: whoever gets one must find in it the packet that it sent.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use proxy_common::counter::Reason;
use proxy_common::flow::TCP_ESTABLISHED_SECONDS;
use proxy_common::frontend::ServiceIndex;
use proxy_tests::both_families;
use proxy_tests::family::IpFamily;
use proxy_tests::packet::{Content, Packet};
use proxy_tests::protocol::Protocol;

use crate::connection::Connection;
use crate::frames::{self, NODE_MAC, backend, client, opening, vip};
use crate::programs::{At, Verdict};
use crate::rig::{Rig, Tabled};

both_families!(
    errors_about_requests_reach_the_client,
    errors_about_replies_reach_the_backend,
    errors_in_a_hairpin_turn_around,
    the_sum_of_a_device_follows_the_error,
    a_quote_may_have_options_and_no_checksum,
    what_belongs_to_no_flow_passes,
    errors_do_not_keep_a_flow_alive,
);

/// All that is quoted.
const ALL: usize = usize::MAX;

/// Every error there is, with what the four bytes behind its checksum may say.
fn errors<F: Tabled>() -> Vec<((u8, u8), [u8; 4])> {
    let mtu = [0, 0, 5, 0x78];
    match F::FAMILY {
        IpFamily::V4 => {
            let unreachable = (0..16).map(|code| ((3, code), mtu));
            unreachable
                .chain([((11, 0), [0; 4]), ((11, 1), [0; 4]), ((12, 0), [9, 0, 0, 0])])
                .collect()
        }
        IpFamily::V6 => {
            let unreachable = (0..8).map(|code| ((1, code), [0; 4]));
            let others =
                [((2, 0), mtu), ((3, 0), [0; 4]), ((3, 1), [0; 4]), ((4, 1), [0, 0, 0, 6])];
            unreachable.chain(others).collect()
        }
    }
}

/// The least that is quoted: RFC 792's eight bytes behind the network header.
fn least<F: Tabled>() -> usize {
    match F::FAMILY {
        IpFamily::V4 => 28,
        IpFamily::V6 => 48,
    }
}

/// A rig with two VIPs of one backend, and a flow through each from one port of a client: one of
/// them has another source port at the backend.
fn flows<F: Tabled>(protocol: Protocol) -> Result<(Rig<F>, [Connection; 2])> {
    let mut rig = Rig::<F>::new()?;
    let mut flow = |host| {
        let _: ServiceIndex = rig.service(vip::<F>(host), protocol, &[backend::<F>(1)])?;
        Connection::establish(&rig.programs, protocol, client::<F>(12, 40_000), vip::<F>(host))
    };
    let flows = [flow(1)?, flow(2)?];
    assert_eq!(flows[0].source.port(), 40_000);
    assert_ne!(flows[1].source.port(), 40_000);
    Ok((rig, flows))
}

/// What proves a client. SCTP's checksum is left to the device: in a quote it stays as it was.
fn proof(protocol: Protocol, from: SocketAddr, to: SocketAddr) -> Packet {
    let mut packet = frames::proof(protocol, from, to);
    if let Content::Sctp(sctp) = &mut packet.content {
        sctp.checksum = false;
    }
    packet
}

/// On its way from the client's side of the node.
fn to_node(mut packet: Packet) -> Packet {
    packet.link.destination = NODE_MAC;
    packet.hop_limit = 61;
    packet
}

fn errors_about_requests_reach_the_client<F: Tabled>() -> Result<()> {
    for protocol in Protocol::ALL {
        let (rig, flows) = flows::<F>(protocol)?;
        let mut count = 0;
        for flow in flows {
            let sent = proof(protocol, flow.client, flow.frontend).payload(&[7; 301]);
            let forwarded = sent.clone().from(flow.source).to(flow.backend);
            // From a router, whose address stays, and from the backend, who is the VIP.
            // Some routers have an address of their link only.
            let link_local = match F::FAMILY {
                IpFamily::V4 => "169.254.7.9".parse()?,
                IpFamily::V6 => "fe80::9".parse()?,
            };
            let reporters = [
                (link_local, link_local),
                (F::underlay(9), F::underlay(9)),
                (flow.backend.ip(), flow.frontend.ip()),
            ];
            for (reporter, seen) in reporters {
                for (error, rest) in errors::<F>() {
                    for length in [least::<F>(), least::<F>() + 7, 128, ALL] {
                        let arriving =
                            Packet::icmp_error(reporter, error, rest, &forwarded, length)?;
                        let expected = Packet::icmp_error(seen, error, rest, &sent, length)?;
                        rig.programs.egress(&arriving)?.is(Verdict::Pass, &expected).with_context(
                            || format!("{error:?} from {reporter}, {length} bytes"),
                        )?;
                        count += 1;
                    }
                }
            }
        }
        assert_eq!(rig.count(Reason::IcmpErrorTranslated)?, count);
    }
    Ok(())
}

fn errors_about_replies_reach_the_backend<F: Tabled>() -> Result<()> {
    for protocol in Protocol::ALL {
        let (rig, flows) = flows::<F>(protocol)?;
        for flow in flows {
            let sent = proof(protocol, flow.backend, flow.source).payload(&[7; 301]);
            let seen = sent.clone().from(flow.frontend).to(flow.client);
            // From the client, and from a router in the pod.
            for reporter in [flow.client.ip(), F::pod(1, 99)] {
                for (error, rest) in errors::<F>() {
                    for length in [least::<F>(), 128, ALL] {
                        let arriving = Packet::icmp_error(reporter, error, rest, &seen, length)?;
                        let expected = Packet::icmp_error(reporter, error, rest, &sent, length)?;
                        rig.programs
                            .ingress(&to_node(arriving))?
                            .is(Verdict::Pass, &to_node(expected))
                            .with_context(|| {
                                format!("{error:?} from {reporter}, {length} bytes")
                            })?;
                    }
                }
            }
        }
    }
    Ok(())
}

fn errors_in_a_hairpin_turn_around<F: Tabled>() -> Result<()> {
    for protocol in Protocol::ALL {
        let mut rig = Rig::<F>::new()?;
        let (host, own, client) = (F::pod(1, 1), client::<F>(12, 8080), client::<F>(12, 40_000));
        rig.set_host_address(host)?;
        let _: ServiceIndex = rig.service(vip::<F>(1), protocol, &[own])?;
        let first = opening(protocol, client, vip::<F>(1));
        let turned = rig.programs.ingress(&first)?.packet(Verdict::Redirect)?;
        let source = turned.source_socket().context("ports")?;
        let error = errors::<F>()[3].0;
        let back = |mut packet: Packet| {
            std::mem::swap(&mut packet.link.source, &mut packet.link.destination);
            packet
        };
        // The pod as the backend, about what came from the host; and as the client, about what
        // came from the VIP.
        let request = [(source, own), (client, vip::<F>(1))];
        let reply = [(vip::<F>(1), client), (own, source)];
        for [(from, to), (seen_from, seen_to)] in [request, reply] {
            let about = proof(protocol, from, to);
            let arriving = Packet::icmp_error(own.ip(), error, [0; 4], &about, ALL)?;
            let about = proof(protocol, seen_from, seen_to);
            let expected = Packet::icmp_error(seen_to.ip(), error, [0; 4], &about, ALL)?;
            rig.programs
                .ingress(&to_node(arriving))?
                .is(Verdict::Redirect, &back(to_node(expected)))?;
        }
    }
    Ok(())
}

/// `BPF_PROG_TEST_RUN` compares the device's sum with the frame afterwards, where it can.
fn the_sum_of_a_device_follows_the_error<F: Tabled>() -> Result<()> {
    let frame = opening(Protocol::Udp, client::<F>(12, 1), client::<F>(13, 1)).build()?;
    if !Rig::<F>::new()?.programs.can_sum(&frame)? {
        return Ok(());
    }
    for protocol in Protocol::ALL {
        let (rig, flows) = flows::<F>(protocol)?;
        for flow in flows {
            for payload in [300, 301] {
                let sent = proof(protocol, flow.client, flow.frontend).payload(&vec![7; payload]);
                let forwarded = sent.clone().from(flow.source).to(flow.backend);
                for reporter in [F::underlay(9), flow.backend.ip()] {
                    for length in [least::<F>(), 128, ALL] {
                        let error = errors::<F>()[3].0;
                        let arriving =
                            Packet::icmp_error(reporter, error, [0; 4], &forwarded, length)?;
                        let ran = rig.programs.run_summed(At::Egress, &arriving.build()?)?;
                        let seen = ran.packet(Verdict::Pass)?;
                        assert_ne!(seen, arriving);
                    }
                }
            }
        }
    }
    Ok(())
}

fn a_quote_may_have_options_and_no_checksum<F: Tabled>() -> Result<()> {
    for protocol in Protocol::ALL {
        let (rig, flows) = flows::<F>(protocol)?;
        for flow in flows {
            let mut sent = proof(protocol, flow.client, flow.frontend).with_options();
            if let Content::Udp(udp) = &mut sent.content {
                udp.checksum = F::FAMILY == IpFamily::V6;
            }
            let forwarded = sent.clone().from(flow.source).to(flow.backend);
            let error = errors::<F>()[0].0;
            let mut arriving = Packet::icmp_error(F::underlay(9), error, [0; 4], &forwarded, ALL)?;
            let mut expected = Packet::icmp_error(F::underlay(9), error, [0; 4], &sent, ALL)?;
            rig.programs.egress(&arriving)?.is(Verdict::Pass, &expected)?;
            // And so may the error itself.
            (arriving, expected) = (arriving.with_options(), expected.with_options());
            rig.programs.egress(&arriving)?.is(Verdict::Pass, &expected)?;
        }
    }
    Ok(())
}

fn what_belongs_to_no_flow_passes<F: Tabled>() -> Result<()> {
    for protocol in Protocol::ALL {
        let (rig, [flow, _]) = flows::<F>(protocol)?;
        let (error, rest) = errors::<F>()[1];
        let forwarded = proof(protocol, flow.source, flow.backend).payload(&[7; 100]);
        let about = |packet: &Packet| Packet::icmp_error(F::underlay(9), error, rest, packet, ALL);
        let stranger = SocketAddr::new(F::pod(1, 13), flow.source.port());
        let mut passing = vec![
            // Another client, another port, another backend.
            about(&forwarded.clone().from(stranger))?,
            about(&forwarded.clone().from(SocketAddr::new(flow.source.ip(), 1)))?,
            about(&forwarded.clone().to(backend::<F>(2)))?,
            // To somebody who has not sent what it quotes.
            Packet { destination: stranger.ip(), ..about(&forwarded)? },
            // About what the client itself has sent, as if nobody had translated it.
            about(&proof(protocol, flow.client, flow.frontend))?,
        ];
        // A redirect, an echo, and what nobody has heard of.
        let others = match F::FAMILY {
            IpFamily::V4 => [(5, 1), (8, 0), (99, 0)],
            IpFamily::V6 => [(137, 0), (128, 0), (99, 0)],
        };
        for kind in others {
            passing.push(Packet::icmp_error(F::underlay(9), kind, rest, &forwarded, ALL)?);
        }
        // A quote without ports, and a later fragment.
        for length in [0, 1, least::<F>() - 8, least::<F>() - 5] {
            passing.push(Packet::icmp_error(F::underlay(9), error, rest, &forwarded, length)?);
        }
        for fragment in &forwarded.fragments(5)?[1..] {
            passing.push(about(fragment)?);
        }
        for packet in passing {
            rig.programs.egress(&packet)?.is(Verdict::Pass, &packet)?;
        }
        // A first fragment has all that it takes.
        let sent = proof(protocol, flow.client, flow.frontend).payload(&[7; 100]);
        let (arriving, expected) = (&forwarded.fragments(5)?[0], &sent.fragments(5)?[0]);
        rig.programs.egress(&about(arriving)?)?.is(Verdict::Pass, &about(expected)?)?;
    }
    Ok(())
}

fn errors_do_not_keep_a_flow_alive<F: Tabled>() -> Result<()> {
    let (mut rig, [flow, _]) = flows::<F>(Protocol::Tcp)?;
    let (error, rest) = errors::<F>()[1];
    let sent = proof(Protocol::Tcp, flow.client, flow.frontend);
    let about = |packet: &Packet| Packet::icmp_error(F::underlay(9), error, rest, packet, ALL);
    let arriving = about(&sent.clone().from(flow.source).to(flow.backend))?;
    rig.age(&flow.reply_key::<F>(), TCP_ESTABLISHED_SECONDS - 5)?;
    let before = rig.tables.flow(&flow.reply_key::<F>())?;
    rig.programs.egress(&arriving)?.is(Verdict::Pass, &about(&sent)?)?;
    assert_eq!(rig.tables.flow(&flow.reply_key::<F>())?, before);
    rig.age(&flow.reply_key::<F>(), 10)?;
    rig.programs.egress(&arriving)?.is(Verdict::Pass, &arriving)
}
