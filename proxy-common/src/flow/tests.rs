// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tags and time-outs of flows, in both families.

use super::{Flow, FlowKey, Hook, Kind, Seen, Tuple};
use crate::{
    Address, Family, Port, Protocol, V4, V6,
    backend::BackendId,
    clock::{Tick, seconds},
    frontend::ServiceIndex,
};

fn flow<F: Family>(address: &str) -> Flow<F> {
    let address = F::Addr::from_ip(address.parse().unwrap()).unwrap();
    Flow {
        tag: 0,
        to: Tuple {
            source: address,
            destination: address,
            source_port: Port::new(40_000),
            destination_port: Port::new(80),
        },
        service: ServiceIndex::FIRST,
        backend: BackendId::FIRST,
        generation: 1,
        last_seen: Tick(100),
        proof: 0,
        device: 0,
        client_device: 0,
        mac: [0; 6],
        client_mac: [0; 6],
        kind: Kind::default(),
        client_seen: Seen::default(),
        backend_seen: Seen::default(),
        way_asked: 0,
        seal: 0,
    }
}

fn time_outs_follow_the_state<F: Family>(address: &str) {
    let half_open = flow::<F>(address);
    let mut flow = half_open;
    assert_eq!(flow.timeout(Protocol::TCP), seconds(60));
    assert_eq!(flow.timeout(Protocol::SCTP), seconds(60));
    flow.client_seen.0 = Seen::PROVEN;
    assert!(flow.is_confirmed() && !half_open.is_confirmed());
    assert_eq!(flow.timeout(Protocol::TCP), seconds(86_400));
    assert_eq!(flow.timeout(Protocol::UDP), seconds(120));
    assert_eq!(flow.timeout(Protocol::SCTP), seconds(210));
    flow.client_seen.0 |= Seen::FIN;
    assert_eq!(flow.timeout(Protocol::TCP), seconds(3_600));
    assert_eq!(flow.timeout(Protocol::SCTP), seconds(210));
    assert!(!flow.is_closed());
    flow.backend_seen.0 |= Seen::FIN;
    assert_eq!(flow.timeout(Protocol::TCP), seconds(120));
    assert_eq!(flow.timeout(Protocol::SCTP), seconds(10));
    assert!(flow.is_closed() && flow.is_finished());
    let finished = Seen(Seen::FIN);
    assert!(Flow { client_seen: finished, backend_seen: finished, ..half_open }.is_closed());
    flow.backend_seen.0 = Seen::RST;
    assert_eq!(flow.timeout(Protocol::TCP), seconds(10));
    assert!(!flow.is_closed() && !flow.is_finished());
    assert!(Flow { backend_seen: Seen(Seen::RST), ..half_open }.is_closed());
    assert!(!flow.is_expired(Protocol::TCP, Tick(100 + seconds(10))));
    assert!(flow.is_expired(Protocol::TCP, Tick(101 + seconds(10))));
}

fn a_tag_is_the_keys_own<F: Family>(address: &str, other: &str) {
    let flow = flow::<F>(address);
    let key = FlowKey::new(flow.to, Protocol::TCP, Hook::INGRESS);
    let mut far = flow.to;
    far.destination = F::Addr::from_ip(other.parse().unwrap()).unwrap();
    let mut next = flow.to;
    next.source_port = Port::new(40_001);
    for different in [
        FlowKey::new(flow.to, Protocol::UDP, Hook::INGRESS),
        FlowKey::new(flow.to, Protocol::TCP, Hook::EGRESS),
        FlowKey::new(flow.to.reversed(), Protocol::TCP, Hook::INGRESS),
        FlowKey::new(far, Protocol::TCP, Hook::INGRESS),
        FlowKey::new(next, Protocol::TCP, Hook::INGRESS),
    ] {
        assert_ne!(different.tag(), key.tag());
    }
}

#[test]
fn a_tag_is_the_keys_own_in_both_families() {
    a_tag_is_the_keys_own::<V4>("10.0.0.1", "10.0.0.2");
    a_tag_is_the_keys_own::<V6>("fd00::1", "fd00::2");
}

#[test]
fn time_outs_follow_the_state_in_both_families() {
    time_outs_follow_the_state::<V4>("10.0.0.1");
    time_outs_follow_the_state::<V6>("fd00::1");
}
