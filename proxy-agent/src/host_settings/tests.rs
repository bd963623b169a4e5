// SPDX-License-Identifier: Apache-2.0

use std::collections::BTreeMap;

use super::*;

const OFF: &str = "0";
const ON: &str = "1";

/// The sentences for a node with two devices, whose settings are these.
fn sentences(settings: &[(&str, &str)], in_use: [bool; 2]) -> Vec<String> {
    let settings: BTreeMap<_, _> = settings.iter().copied().collect();
    let get = |key: &str| settings.get(key).map(|value| *value != OFF);
    let bridges = BTreeSet::from(["cni0".to_owned()]);
    let devices = ["cni0", "eth0.5"].map(str::to_owned).into();
    let read = |need: &Need, device: &str| Settings {
        everywhere: get(&need.key(None)),
        on_device: get(&need.key(Some(device))),
    };
    let warnings = warnings(&Forwarders { devices, bridges, in_use }, read);
    warnings.iter().map(ToString::to_string).collect()
}

#[test]
fn a_good_host_is_not_warned_of() {
    let good = [
        ("ipv4/ip_forward", ON),
        ("ipv4/conf/cni0/forwarding", ON),
        ("ipv4/conf/eth0.5/forwarding", ON),
        ("ipv6/conf/all/forwarding", ON),
        ("ipv6/conf/cni0/force_forwarding", OFF),
        ("ipv6/conf/all/disable_ipv6", OFF),
        ("ipv6/conf/cni0/disable_ipv6", OFF),
    ];
    assert!(sentences(&good, [true; 2]).is_empty());
    // Nor is one that does not have a family, or whose devices have gone meanwhile.
    assert!(sentences(&[], [true; 2]).is_empty());
}

#[test]
fn what_is_wrong_everywhere_is_said_once() {
    let host = [
        ("ipv4/ip_forward", OFF),
        ("ipv4/conf/cni0/forwarding", OFF),
        ("ipv4/conf/eth0.5/forwarding", OFF),
        ("ipv6/conf/all/forwarding", OFF),
        ("ipv6/conf/all/disable_ipv6", ON),
        ("ipv6/conf/cni0/disable_ipv6", ON),
    ];
    let expected = [
        "net/ipv4/ip_forward is 0, so IPv4 packets are not forwarded, and pods do not reach all \
         backends of Services: change it with `sysctl -w net/ipv4/ip_forward=1`.",
        "net/ipv6/conf/all/forwarding is 0, so IPv6 packets are not forwarded, and pods do not \
         reach all backends of Services: change it with `sysctl -w net/ipv6/conf/all/forwarding=1`.",
        "net/ipv6/conf/all/disable_ipv6 is 1, so IPv6 packets are thrown away, and pods do not \
         reach all backends of Services: change it with `sysctl -w \
         net/ipv6/conf/all/disable_ipv6=0`.",
    ];
    assert_eq!(sentences(&host, [true; 2]), expected);
    assert_eq!(sentences(&host, [true, false]), expected[..1]);
    assert_eq!(sentences(&host, [false, true]), expected[1..]);
}

#[test]
fn what_is_wrong_on_a_device_names_it() {
    let host = [
        ("ipv4/ip_forward", ON),
        ("ipv4/conf/cni0/forwarding", ON),
        ("ipv4/conf/eth0.5/forwarding", OFF),
        ("ipv6/conf/all/disable_ipv6", OFF),
        ("ipv6/conf/cni0/disable_ipv6", ON),
    ];
    let expected = [
        "net/ipv4/conf/eth0.5/forwarding is 0, so IPv4 packets that come by eth0.5 are not \
         forwarded, and pods do not reach all backends of Services: change it with `sysctl -w \
         net/ipv4/conf/eth0.5/forwarding=1`.",
        "net/ipv6/conf/cni0/disable_ipv6 is 1, so IPv6 packets that come by cni0 are thrown away, \
         and pods do not reach all backends of Services: change it with `sysctl -w \
         net/ipv6/conf/cni0/disable_ipv6=0`.",
    ];
    assert_eq!(sentences(&host, [true; 2]), expected);
}

#[test]
fn devices_that_forward_ipv6_by_themselves_suffice() {
    let forwards = [
        ("ipv6/conf/all/forwarding", OFF),
        ("ipv6/conf/cni0/force_forwarding", ON),
        ("ipv6/conf/eth0.5/force_forwarding", ON),
    ];
    assert!(sentences(&forwards, [true; 2]).is_empty());
    assert_eq!(sentences(&forwards[..2], [true; 2]).len(), 1);
    // In IPv4, the setting for all devices is only what new ones get.
    let ipv4 = [("ipv4/ip_forward", OFF), ("ipv4/conf/cni0/forwarding", ON)];
    assert!(sentences(&ipv4, [true; 2]).is_empty());
}

#[test]
fn bridges_need_their_own_forwarding_in_ipv6() {
    let host = [
        ("ipv6/conf/all/forwarding", ON),
        ("ipv6/conf/cni0/forwarding", OFF),
        ("ipv6/conf/eth0.5/forwarding", OFF),
    ];
    let expected = [
        "net/ipv6/conf/cni0/forwarding is 0, so IPv6 packets that come by cni0 are routed to pods \
         beside their sender, and where conntrack's INVALID is dropped, these do not reach each \
         other's Services: change it with `sysctl -w net/ipv6/conf/cni0/forwarding=1`.",
    ];
    assert_eq!(sentences(&host, [true; 2]), expected);
    // Where nothing is forwarded, that is all there is to say.
    let nowhere = [("ipv6/conf/all/forwarding", OFF), ("ipv6/conf/cni0/forwarding", OFF)];
    assert_eq!(sentences(&nowhere, [true; 2]).len(), 1);
}
