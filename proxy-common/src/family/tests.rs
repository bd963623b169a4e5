// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Addresses, and what is asked of them.

use core::net::IpAddr;

use super::{Address, V4Addr, V6Addr};

fn round_trip<A: Address>(text: &str) {
    let ip: IpAddr = text.parse().unwrap();
    let address = A::from_ip(ip).unwrap();
    assert_eq!(address.into(), ip);
}

#[test]
fn addresses_keep_network_order() {
    round_trip::<V4Addr>("10.96.0.1");
    round_trip::<V6Addr>("fd00:10:96::1");
    let vip = V4Addr::from_ip("10.96.0.1".parse().unwrap()).unwrap();
    assert_eq!(vip.words()[0].to_ne_bytes(), [10, 96, 0, 1]);
}

#[test]
fn scopes_are_told_apart() {
    let v4 = |text: &str| V4Addr::from_ip(text.parse().unwrap()).unwrap();
    let v6 = |text: &str| V6Addr::from_ip(text.parse().unwrap()).unwrap();
    assert!(v4("224.0.0.1").is_multicast() && v4("255.255.255.255").is_multicast());
    assert!(v6("ff02::1").is_multicast() && !v6("fe80::1").is_multicast());
    assert!(!v4("240.0.0.1").is_multicast() && !v4("255.255.255.254").is_multicast());
    assert!(v4("127.1.2.3").is_loopback() && v6("::1").is_loopback());
    assert!(!v4("128.0.0.1").is_loopback() && !v6("::2").is_loopback());
    assert!(!v6("1::1").is_loopback() && !V6Addr::UNSPECIFIED.is_loopback());
    let (prefix, mask) = (v4("10.244.0.0"), v4("255.255.0.0"));
    assert!(v4("10.244.3.4").is_in(&prefix, &mask) && !v4("10.245.3.4").is_in(&prefix, &mask));
    let (prefix, mask) = (v6("fd00:10:244::"), v6("ffff:ffff:ffff:ff00::"));
    assert!(v6("fd00:10:244:12::1").is_in(&prefix, &mask));
    assert!(!v6("fd00:10:244:112::1").is_in(&prefix, &mask));
}

#[test]
fn mapped_addresses_are_those_of_ipv6_sockets() {
    let v4 = V4Addr::from_ip("192.0.2.1".parse().unwrap()).unwrap();
    let mapped = v4.to_mapped();
    assert_eq!(IpAddr::from(mapped), "::ffff:192.0.2.1".parse::<IpAddr>().unwrap());
    assert!(mapped.is_mapped());
    assert_eq!(V4Addr::from_mapped(mapped), v4);
    let v6 = V6Addr::from_ip("fd00::1".parse().unwrap()).unwrap();
    assert!(!v6.is_mapped() && !V6Addr::default().is_mapped());
    assert_eq!(V6Addr::from_mapped(v6.to_mapped()), v6);
    assert_eq!(V6Addr::reached("192.0.2.1".parse().unwrap()), Some(mapped));
    assert_eq!(V6Addr::reached("fd00::1".parse().unwrap()), Some(v6));
    assert_eq!(V4Addr::reached("192.0.2.1".parse().unwrap()), Some(v4));
    assert_eq!(V4Addr::reached("fd00::1".parse().unwrap()), None);
}

#[test]
fn an_address_of_the_other_family_is_refused() {
    assert_eq!(V4Addr::from_ip("::1".parse().unwrap()), None);
    assert_eq!(V6Addr::from_ip("127.0.0.1".parse().unwrap()), None);
}
