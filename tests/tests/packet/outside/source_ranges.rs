// SPDX-License-Identifier: Apache-2.0

//! Source ranges: they are asked at load balancers' addresses, and nowhere else.

use std::net::{IpAddr, SocketAddr};

use anyhow::Result;
use aya::maps::lpm_trie::Key;
use proxy_common::counter::Reason;
use proxy_common::device::Device;
use proxy_common::frontend::ServiceIndex;
use proxy_common::service::Policy;
use proxy_common::source_range::{Admitted, Ranged};
use proxy_tests::both_families;
use proxy_tests::protocol::Protocol;

use super::{load_balancer, node_port, outsider, rig};
use crate::frames::{backend, client, opening, vip};
use crate::programs::Verdict;
use crate::rig::{Rig, Tabled, address};

both_families!(
    who_is_in_no_range_is_dropped,
    ranges_are_of_one_service_port,
    ranges_count_where_the_policy_says_so,
    pods_must_be_in_a_range_too,
);

/// Admits the clients that share this many bits with an address, at the Service port of TCP.
fn admit<F: Tabled>(rig: &mut Rig<F>, range: IpAddr, bits: u32) -> Result<()> {
    let client = address::<F>(SocketAddr::new(range, 0));
    let range = Ranged { service: ServiceIndex::FIRST, client };
    Ok(rig.ranges.insert(&Key::new(Ranged::<F::Abi>::bits(bits), range), Admitted::YES, 0)?)
}

/// Whether a client's first packet gets through; otherwise it must be dropped for this reason.
fn passes<F: Tabled>(
    rig: &Rig<F>,
    protocol: Protocol,
    client: SocketAddr,
    to: SocketAddr,
) -> Result<bool> {
    let before = rig.count(Reason::DropSourceRange)?;
    let outcome = rig.programs.arrives(&opening(protocol, client, to))?;
    let is_passed = outcome.verdict == Verdict::Pass;
    if !is_passed {
        outcome.is_dropped();
    }
    assert_eq!(rig.count(Reason::DropSourceRange)?, before + u64::from(!is_passed));
    Ok(is_passed)
}

fn who_is_in_no_range_is_dropped<F: Tabled>() -> Result<()> {
    let mut rig = rig::<F>(&[backend::<F>(1)], Policy::SOURCE_RANGES)?;
    let of_host = |host, port| SocketAddr::new(F::underlay(host), port);
    let to = load_balancer::<F>();
    assert!(!passes(&rig, Protocol::Tcp, outsider::<F>(40_000), to)?);
    let all_bits = if to.is_ipv4() { 32 } else { 128 };
    admit(&mut rig, F::underlay(100), all_bits)?;
    assert!(passes(&rig, Protocol::Tcp, outsider::<F>(40_001), to)?);
    assert!(!passes(&rig, Protocol::Tcp, of_host(101, 40_000), to)?);
    // The last three bits may be anything.
    admit(&mut rig, F::underlay(16), all_bits - 3)?;
    assert!(passes(&rig, Protocol::Tcp, of_host(17, 40_000), to)?);
    assert!(!passes(&rig, Protocol::Tcp, of_host(9, 40_000), to)?);
    // All other frontends are open to everybody.
    for (port, open) in (41_000..).zip([node_port::<F>(), vip::<F>(1)]) {
        assert!(passes(&rig, Protocol::Tcp, of_host(101, port), open)?);
    }
    Ok(())
}

fn ranges_are_of_one_service_port<F: Tabled>() -> Result<()> {
    let mut rig = rig::<F>(&[backend::<F>(1)], Policy::SOURCE_RANGES)?;
    let to = load_balancer::<F>();
    admit(&mut rig, F::underlay(96), if to.is_ipv4() { 27 } else { 116 })?;
    assert!(passes(&rig, Protocol::Tcp, outsider::<F>(40_000), to)?);
    for other in [Protocol::Udp, Protocol::Sctp] {
        assert!(!passes(&rig, other, outsider::<F>(40_000), to)?);
    }
    Ok(())
}

fn ranges_count_where_the_policy_says_so<F: Tabled>() -> Result<()> {
    let rig = rig::<F>(&[backend::<F>(1)], Policy::NODE_IN_RANGES)?;
    assert!(passes(&rig, Protocol::Tcp, outsider::<F>(40_000), load_balancer::<F>())?);
    Ok(())
}

/// At a device where most new flows take a short way.
fn pods_must_be_in_a_range_too<F: Tabled>() -> Result<()> {
    let mut rig = rig::<F>(&[backend::<F>(1)], Policy::SOURCE_RANGES)?;
    rig.set_device(Device::routed().with_local_clients(true))?;
    let [pod, other] = [12, 13].map(|host| client::<F>(host, 40_000));
    let all_bits = if pod.is_ipv4() { 32 } else { 128 };
    admit(&mut rig, pod.ip(), all_bits)?;
    let sent = |client| opening(Protocol::Tcp, client, load_balancer::<F>());
    let _ = rig.programs.ingress(&sent(pod))?.packet(Verdict::Pass)?;
    rig.programs.ingress(&sent(other))?.is_dropped();
    assert_eq!(rig.count(Reason::DropSourceRange)?, 1);
    Ok(())
}
